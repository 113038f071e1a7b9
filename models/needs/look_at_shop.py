"""Looks at a shop once, before training: reads catalogue and logs, mends the logs, and counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.arrays import Progress, silent
from models.events.errors import LogError
from models.events.event_log import EventLog, joined_log, open_log
from models.events.kinds import IMPRESSION
from models.needs.matrix import LEAST_PAIRS
from models.needs.season import Season, find_season
from models.needs.shop_facts import CatalogueFacts, MendedCounts, ShopFacts, Windows
from models.products.product import Product
from models.unified.mended_log import MendedLog, mend_log
from models.unified.shopping_log import ShoppingLog

Products = Callable[[], Iterable[Product]]
Cut = Callable[[ShoppingLog], Windows]


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenShop:
    """What was seen. `mended` are the logs, with what they lacked filled in."""

    facts: ShopFacts
    windows: Windows
    paths: tuple[Path, ...]
    mended: tuple[MendedLog, ...]
    season: Season | None  # of the window of retrieval

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
    has_text: bool = True,
    progress: Progress = silent,
) -> SeenShop:
    """Reads catalogue and logs and counts what the stages need.

    All stages learn from all logs. `cut` says which windows of them, and `locale` is that of events without one. Where a log has fewer
    than LEAST_PAIRS engagements after a query, its queries are taken from titles. Raises LogError for a log that cannot be read, and the
    errors of the catalogue.
    """
    if not logs:
        raise LogError("no log is given; name at least one with --events")
    progress("look at the catalogue", 0, None)
    catalogue = CatalogueFacts.from_products(products())
    progress("look at the log", 0, None)
    opened = [_read(path) for path in logs]
    unasked = [_num_asked(log) < LEAST_PAIRS for log in opened]
    titles = {product.id: product.title for product in products()} if any(unasked) else None
    mended = tuple(mend_log(log, locale, titles if lacks else None) for log, lacks in zip(opened, unasked, strict=True))
    whole = mended[0].log if len(mended) == 1 else joined_log([one.log for one in mended])
    every = ShoppingLog.from_log(whole, catalogue.ids)
    windows = cut(every)
    counts = MendedCounts(
        sessions=sum(log.without_session for log in mended),
        locales=sum(log.without_locale for log in mended),
        queries=sum(log.titled for log in mended),
    )
    facts = ShopFacts.count(catalogue, every, windows, mended=counts, default_locale=locale, has_text=has_text)
    season = find_season(every, windows.until)
    return SeenShop(facts=facts, windows=windows, paths=tuple(logs), mended=mended, season=season)


def _read(path: Path) -> EventLog:
    try:
        log = open_log(path)
    except LogError as error:
        raise LogError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
    if not len(log):
        raise LogError(f"{path}: the log holds no event")
    return log


def _num_asked(log: EventLog) -> int:
    """Returns the number of clicks, carts and purchases after a query."""
    return int(np.count_nonzero((log.kind != IMPRESSION) & (log.query > 0)))
