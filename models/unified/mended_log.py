"""A shopping log with what it lacks filled in, so that no stage has to: a locale, and queries from titles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.arrays import Ints
from models.events.event_log import EventLog
from models.events.kinds import IMPRESSION

MOST_TITLE_WORDS = 4  # of a query that is taken from a product's own title


@dataclass(frozen=True, kw_only=True, slots=True)
class MendedLog:
    """A log, and how many of its events lacked what."""

    log: EventLog
    without_session: int  # they have one: opening a log derives it
    without_locale: int
    titled: int = 0  # events whose query was taken from a title

    @property
    def is_changed(self) -> bool:
        """Says whether the log differs from what `open_log` reads of its files."""
        return bool(self.without_locale or self.titled)

    def write(self, original: Path, folder: Path) -> Path:
        """Returns the original if nothing was mended, else a Parquet file of the same name in `folder`; the same log gives the same
        bytes."""
        if not self.is_changed:
            return original
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{original.stem}.parquet"
        partial = path.with_suffix(".partial")
        pq.write_table(self.log.table(np.arange(len(self.log))), partial)
        partial.replace(path)
        return path


def mend_log(log: EventLog, locale: str, titles: Mapping[str, str] | None = None) -> MendedLog:
    """Fills in `locale` where an event has none; with `titles` by product id also queries, see `with_title_queries`."""
    mended, without_locale = _with_locale(log, locale)
    titled = 0
    if titles is not None:
        asked = _num_asked(mended)
        mended = with_title_queries(mended, titles)
        titled = _num_asked(mended) - asked
    return MendedLog(log=mended, without_session=log.num_without_session, without_locale=without_locale, titled=titled)


def _num_asked(log: EventLog) -> int:
    return int(np.count_nonzero(log.query))


def _with_locale(log: EventLog, locale: str) -> tuple[EventLog, int]:
    """Returns the log with a locale in every event, and how many had none."""
    names = log.locales.to_pylist()
    if "" not in names:
        return log, 0
    empty = names.index("")
    is_empty = log.locale == empty
    codes = log.locale
    if locale in names:
        codes = np.where(is_empty, names.index(locale), codes).astype(np.int32)
    else:
        names[empty] = locale
    return replace(log, locale=codes, locales=pa.array(names, pa.large_string())), int(np.count_nonzero(is_empty))


def with_title_queries(log: EventLog, titles: Mapping[str, str]) -> EventLog:
    """Gives clicks, carts and purchases without a query one from titles, for a log of views without searches.

    A model then learns two things: half of the events get a few words of the product's own title, which lead to it as a search would, and
    half the title of the product viewed before it in the session, which leads from product to product. What shoppers call a product in
    their own words cannot be learned. Events of products without a title stay as they are.
    """
    rows = np.flatnonzero((log.query == 0) & (log.kind != IMPRESSION))
    if not len(rows):
        return log
    title_of = [titles.get(product_id, "") for product_id in log.products.to_pylist()]
    before = _viewed_before(log, rows)
    random = np.random.default_rng(0)
    own, first, count = (
        random.random(len(rows)),
        random.random(len(rows)),
        random.integers(1, MOST_TITLE_WORDS + 1, len(rows)),
    )
    queries = log.queries.to_pylist()
    number = {query: code for code, query in enumerate(queries)}
    codes = log.query.copy()
    for at, row in enumerate(rows.tolist()):
        query = title_of[log.product[before[at]]] if before[at] >= 0 else ""
        if not query or own[at] >= 0.5:
            words = title_of[log.product[row]].split()
            start = int(first[at] * max(1, len(words) - int(count[at]) + 1))
            query = " ".join(words[start : start + int(count[at])])
        codes[row] = number.setdefault(query, len(number))
    return replace(log, query=codes, queries=pa.array(list(number), pa.large_string()))


def _viewed_before(log: EventLog, rows: Ints) -> Ints:
    """Returns, for each of `rows`, the row of the product that was viewed before it in its session, another one than its own; else -1."""
    session, product = log.session[rows], log.product[rows]
    order = np.lexsort((log.time_ms[rows], session))
    before = np.full(len(rows), -1, np.int64)
    # A cart follows the click on the same product: what was viewed before it is what came before that click.
    changes = np.append(True, (np.diff(session[order]) != 0) | (np.diff(product[order]) != 0))
    run = np.cumsum(changes) - 1
    starts = np.flatnonzero(changes)
    same_session = np.append(False, session[order][starts[1:]] == session[order][starts[1:] - 1])
    last_before = np.where(same_session, starts - 1, -1)[run]
    known = last_before >= 0
    before[order[known]] = rows[order[last_before[known]]]
    return before
