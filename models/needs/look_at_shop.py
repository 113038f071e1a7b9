"""Looks at a shop once, before training: reads catalogue and logs, mends the logs, and counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Progress, silent
from models.events.event import EventKind
from models.needs.matrix import LEAST_PAIRS
from models.needs.shop_facts import CatalogueFacts, MendedCounts, ShopFacts, Windows
from models.products.product import Product
from models.ranking.parse_log import concat_logs
from models.unified.mended_log import MendedLog, mend_log
from models.unified.shopping_log import LogError, ShoppingLog, check_log

Products = Callable[[], Iterable[Product]]
Cut = Callable[[ShoppingLog], Windows]


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenShop:
    """What was seen. `mended` are the logs, with what they lacked filled in."""

    facts: ShopFacts
    windows: Windows
    paths: tuple[Path, ...]
    mended: tuple[MendedLog, ...]

    def write_logs(self, folder: Path) -> tuple[Path, ...]:
        """Returns the logs to train on: the originals, or files in `folder` where something was filled in."""
        return tuple(
            log.write(path, folder / str(at))
            for at, (path, log) in enumerate(zip(self.paths, self.mended, strict=True))
        )


def look_at_shop(
    products: Products,
    logs: Sequence[Path],
    cut: Cut,
    *,
    locale: str,
    first_alone: bool = True,
    has_text: bool = True,
    progress: Progress = silent,
) -> SeenShop:
    """Reads catalogue and logs and counts what the stages need.

    Retrieval learns from the first log, with `first_alone`; without it, from all. `cut` says which windows the stages learn from, and
    `locale` is that of events without one. Where retrieval's log has fewer than LEAST_PAIRS engagements after a query, queries are taken
    from titles. Raises LogError for a log that cannot be read, and the errors of the catalogue.
    """
    if not logs:
        raise LogError("no log is given; name at least one with --events")
    progress("look at the catalogue", 0, None)
    catalogue = CatalogueFacts.from_products(products())
    progress("look at the log", 0, None)
    tables = [_read(path) for path in logs]
    titles = None
    if sum(map(_num_asked, tables[:1] if first_alone else tables)) < LEAST_PAIRS:
        titles = {product.id: product.title for product in products()}
    mended = tuple(mend_log(table, locale, titles) for table in tables)
    every = ShoppingLog.from_table(_joined(mended), catalogue.ids)
    main = every
    if first_alone and len(mended) > 1:
        main = ShoppingLog.from_table(mended[0].table, catalogue.ids)
    windows = cut(main)
    counts = MendedCounts(
        sessions=sum(log.without_session for log in mended),
        locales=sum(log.without_locale for log in mended),
        queries=sum(log.titled for log in mended),
    )
    facts = ShopFacts.count(catalogue, main, every, windows, mended=counts, default_locale=locale, has_text=has_text)
    return SeenShop(facts=facts, windows=windows, paths=tuple(logs), mended=tuple(log.counted() for log in mended))


def _joined(logs: Sequence[MendedLog]) -> pa.Table:
    tables = [log.table for log in logs]
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")


def _read(path: Path) -> pa.Table:
    try:
        return check_log(concat_logs(path))
    except LogError as error:
        raise LogError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None


def _num_asked(table: pa.Table) -> int:
    """Returns the number of clicks, carts and purchases after a query."""
    engaged = pc.not_equal(table["kind"].cast(pa.string()), EventKind.IMPRESSION.value)
    asked = pc.not_equal(table["query"].cast(pa.string()), "")
    return int(pc.sum(pc.and_(engaged, asked)).as_py() or 0)
