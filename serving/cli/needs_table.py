"""Prints what a shop's stages become, and looks before the commands that train one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.table import Table

from serving.cli.terminal import out

if TYPE_CHECKING:
    from models.arrays import Progress
    from models.needs.look_at_shop import Cut, Products
    from models.needs.plan import Plan
    from models.needs.season import Season


def print_plan(plan: Plan) -> None:
    """Prints a row for each stage, then what each lack costs and what mends it."""
    table = Table("stage", "outcome", "lacks", title="What there is decides what is trained", title_justify="left")
    for one in plan.stages:
        table.add_row(one.stage, str(one.outcome), one.reason)
    out.print(table, highlight=False)
    for lack in plan.lacks:
        out.print(f"{lack.need.name}: {lack.need.costs}. What mends it: {lack.need.mend}", highlight=False)


def print_rows(rows: Sequence[tuple[str, str, str]], title: str) -> None:
    """Prints stage, outcome and reason of each row."""
    table = Table("stage", "outcome", "why", title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    out.print(table, highlight=False)


def print_left_out(plan: Plan) -> None:
    """Says at the end what the bundle does not have."""
    for one in plan.left_out:
        out.print(f"left out: {one.stage} ({one.reason})", highlight=False)


@contextmanager
def looked_at(
    stage: str,
    products: Products,
    logs: Sequence[Path],
    cut: Cut,
    progress: Progress,
    *,
    locale: str,
    beside: Path,
    has_text: bool = True,
) -> Iterator[tuple[tuple[Path, ...], Season | None]]:
    """Looks at a shop for one stage and yields the logs to train it on, until the block ends: the originals, or mended copies next to
    `beside`; and the season of the log.

    The other arguments are those of `look_at_shop`. Says what the stage lacks. Raises LogError if it cannot be trained.
    """
    from models.needs.look_at_shop import look_at_shop
    from models.needs.plan import plan_training

    seen = look_at_shop(products, logs, cut, locale=locale, has_text=has_text, progress=progress)
    plan = plan_training(seen.facts, (stage,))
    plan.check(stage)
    for lack in plan.lacks:
        out.print(f"without {lack.need.name}: {lack.found}; {lack.need.costs}", highlight=False)
    if not any(log.is_changed for log in seen.mended):
        yield seen.paths, seen.season
        return
    beside.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{beside.name}.log.", dir=beside.parent) as folder:
        paths, season = seen.write_logs(Path(folder)), seen.season
        del seen  # the tables of a long log take gigabytes
        yield paths, season


def told_half_life(stated: float | None, season: Season | None) -> float:
    """Returns the half-life that was stated, or that the log has; tells of one that nobody stated."""
    if stated is not None:
        return stated
    if season is None:
        return 0.0
    out.print(
        f"what sells changes with time: in retrieval an event counts half after {season.half_life_days:g} days, which makes those of the "
        f"newest tenth {season.gain:.2f} nats likelier. --half-life-days states another value, 0 that all count alike",
        highlight=False,
    )
    return season.half_life_days
