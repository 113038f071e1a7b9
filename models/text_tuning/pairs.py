"""Weighted (query, product) pairs of a shopping log, from which a text encoder learns similarity.

A product counts once for each search and kind of event, so that nobody can inflate a pair within one search. Queries that differ only
in case and punctuation are one query, in its most frequent spelling.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Codes, Doubles, Floats, Ints
from models.events.errors import LogError
from models.events.event_log import open_log
from models.events.kinds import CLICK
from models.text_tuning.query_keys import LeakGuard, loose_key, plain_key
from models.unified.negatives import grouped
from models.unified.shopping_log import UNKNOWN, ShoppingLog
from models.unified.window_signals import KIND_POINTS
from models.unified.words import Ragged

Damping = Literal["none", "sqrt", "log"]

_DAMPED: dict[str, Callable[[Doubles], Doubles]] = {"none": np.positive, "sqrt": np.sqrt, "log": np.log1p}


@dataclass(frozen=True, slots=True)
class PairRules:
    """The rules that select and weigh pairs."""

    points: tuple[float, float, float] = KIND_POINTS[1:]  # of a click, a cart and a purchase
    min_searches: int = 1  # the click threshold: searches that led from the query to the product
    damping: Damping = "sqrt"  # of a pair's points: a pair clicked 100 times should not weigh as much as 100 pairs

    def __post_init__(self) -> None:
        if min(self.points) < 0 or not max(self.points):
            raise ValueError(f"points must be 0 or more and one of them more than 0, not {self.points}")
        if self.min_searches < 1:
            raise ValueError(f"min_searches must be 1 or more, not {self.min_searches}")
        if self.damping not in _DAMPED:
            raise ValueError(f"damping must be one of {', '.join(_DAMPED)}, not {self.damping!r}")


@dataclass(frozen=True, slots=True)
class PairReport:
    """What happened to the log's events. Each is used, or dropped for the first reason that applies."""

    events: int
    used: int
    dropped: dict[str, int]  # events by reason
    pairs_found: int
    pairs_below_threshold: int
    pairs: int
    queries: int
    queries_merged: int  # spellings that differ from another only in case and punctuation
    products: int


@dataclass(frozen=True, slots=True)
class ClickPairs:
    """Pair i: queries[query[i]] led to the product in row product[i] of the catalogue."""

    queries: list[str]  # distinct, in their most frequent spelling
    group: Codes  # (queries,) near-duplicates share a number, see `loose_key`
    query: Codes  # (pairs,)
    product: Codes  # (pairs,) rows of the catalogue
    weight: Floats  # (pairs,) above 0
    clicked: Ragged  # by group: all products that it led to, ascending, including pairs below the threshold
    report: PairReport

    def __len__(self) -> int:
        return len(self.query)

    def shuffled(self, seed: int) -> ClickPairs:
        """Returns the control: the same queries, products and weights, but each product with the query of another."""
        product = np.random.default_rng([seed, 0x5F]).permutation(self.product)
        clicked = grouped(self.group[self.query], product, len(self.clicked))
        return dataclasses.replace(self, product=product, clicked=clicked)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(self.queries).encode())
        for column in (self.query, self.product, self.weight, self.clicked.values, self.clicked.offsets):
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()


def read_log(paths: Sequence[Path], product_ids: Sequence[str]) -> ShoppingLog:
    """Reads several logs of one shop, each as `open_log` does, as one. Raises LogError."""
    return ShoppingLog.from_log(open_log(paths), product_ids)


def gather_pairs(
    log: ShoppingLog,
    rules: PairRules,
    *,
    excluded_queries: Iterable[str] = (),
    excluded_products: Collection[int] = (),
    before_ms: int | None = None,
) -> ClickPairs:
    """Returns the pairs of the log's clicks, carts and purchases.

    It leaves out `excluded_queries` and their near-duplicates (see LeakGuard), `excluded_products` (rows of the catalogue), and events at
    `before_ms` or later. Raises LogError if no pair is left, with the number of events dropped for each reason.
    """
    keys = [plain_key(query) for query in log.queries]
    guard = LeakGuard(excluded_queries)
    is_excluded = np.array([query in guard for query in log.queries], np.bool_)
    is_wordless = np.array([not key for key in keys], np.bool_)
    events, dropped = _usable(
        len(log),
        {
            "impression": log.kind < CLICK,
            "without a query": log.query == 0,
            "query without words": is_wordless[log.query],
            "product not in the catalogue": log.product == UNKNOWN,
            "at or after the cut-off": log.time_ms >= (np.iinfo(np.int64).max if before_ms is None else before_ms),
            "excluded query or a near-duplicate": is_excluded[log.query],
            "excluded product": np.isin(log.product, np.fromiter(excluded_products, np.int32)),
        },
    )
    if not len(events):
        raise LogError(f"the log has no click to learn from; its events were dropped: {json.dumps(dropped)}")
    queries, query_of = _merged(log.queries, keys, log.query[events])
    pair, points, searches = _points(
        query_of * log.num_products + log.product[events], log.kind[events], log.search[events], rules
    )
    query, product = np.divmod(pair, log.num_products)
    kept = (searches >= rules.min_searches) & (points > 0)
    if not kept.any():
        raise LogError(f"no (query, product) pair has {rules.min_searches} searches; the most is {int(searches.max())}")
    groups = {key: at for at, key in enumerate(dict.fromkeys(map(loose_key, queries)))}
    group = np.array([groups[loose_key(text)] for text in queries], np.int32)
    return ClickPairs(
        queries=queries,
        group=group,
        query=query[kept].astype(np.int32),
        product=product[kept].astype(np.int32),
        weight=_DAMPED[rules.damping](points[kept]).astype(np.float32),
        clicked=grouped(group[query], product, len(groups)),
        report=PairReport(
            events=len(log),
            used=len(events),
            dropped=dropped,
            pairs_found=len(pair),
            pairs_below_threshold=int((~kept).sum()),
            pairs=int(kept.sum()),
            queries=len(np.unique(query[kept])),
            queries_merged=len(np.unique(log.query[events])) - len(queries),
            products=len(np.unique(product[kept])),
        ),
    )


def _usable(num_events: int, reasons: dict[str, Bools]) -> tuple[Ints, dict[str, int]]:
    """Returns the events for which no reason applies, and how many were dropped for each."""
    good = np.ones(num_events, np.bool_)
    dropped: dict[str, int] = {}
    for reason, holds in reasons.items():
        dropped[reason] = int((good & holds).sum())
        good &= ~holds
    return np.flatnonzero(good), dropped


def _merged(texts: Sequence[str], keys: Sequence[str], text_of_event: Codes) -> tuple[list[str], Ints]:
    """Merges spellings with the same key.

    Returns the most frequent spelling of each query (the first in the alphabet if several are), and (events,) the number of the query
    of each event, whose text is `texts[text_of_event]`.
    """
    codes, counts = np.unique(text_of_event, return_counts=True)
    typed: dict[str, list[tuple[int, str]]] = {}
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        typed.setdefault(keys[code], []).append((-count, texts[code]))
    number_of = {key: at for at, key in enumerate(typed)}
    numbers = np.zeros(len(texts), np.int64)
    numbers[codes] = [number_of[keys[code]] for code in codes.tolist()]
    return [min(forms)[1] for forms in typed.values()], numbers[text_of_event]


def _points(pair_of: Ints, kind: npt.NDArray[np.int8], search: Codes, rules: PairRules) -> tuple[Ints, Doubles, Ints]:
    """Returns the distinct pairs of (events,), their points, and the number of searches behind them."""
    once = np.unique(np.stack([pair_of, search, kind]), axis=1)
    pair, place = np.unique(once[0], return_inverse=True)
    points = np.asarray(np.bincount(place, np.array([0.0, *rules.points])[once[2]], len(pair)), np.float64)
    of_search = np.unique(once[:2], axis=1)[0]
    searches: Ints = np.bincount(np.searchsorted(pair, of_search), minlength=len(pair))
    return pair, points, searches
