"""Evaluation cases: searches after the training window, with the products that the shopper then engaged with.

A case is one search: a query in a session, with all events that followed from it. It begins with its first event, usually an impression.
A ranker sees only the events strictly before, so the history holds nothing of the case itself. A search that began within the training
window is not a case.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.arrays import Codes, Ints
from models.evaluation.buckets import FREQUENCIES, Bucket, frequency_codes
from models.evaluation.metrics import Relevance
from models.evaluation.numbered_log import NumberedLog
from models.events.event import EventKind
from models.events.kinds import CLICK, KINDS

HABITUAL_EVENTS = 10  # clicks, carts and purchases before the case, from which a shopper is habitual


@dataclass(frozen=True, slots=True)
class Split:
    """Training uses events before `train_end_ms`; cases begin from then until `test_end_ms`, exclusive (None: the end of the log)."""

    train_end_ms: int
    test_end_ms: int | None = None

    def __post_init__(self) -> None:
        if self.test_end_ms is not None and self.test_end_ms <= self.train_end_ms:
            raise ValueError(f"test_end_ms {self.test_end_ms} must be after train_end_ms {self.train_end_ms}")

    @classmethod
    def by_share(cls, events: NumberedLog, test_share: float = 0.2) -> Split:
        """Returns the split that leaves the last `test_share` of the events for cases."""
        if not 0 < test_share < 1:
            raise ValueError(f"test_share is {test_share} and must be between 0 and 1")
        return cls(int(events.times_ms[int(len(events) * (1 - test_share))]))


@dataclass(frozen=True, slots=True, eq=False)
class Histories:
    """Events grouped by owner, so that an owner's events before a moment are a slice of `rows`."""

    rows: Ints  # (n,) rows of the events, by owner, then time
    keys: Ints  # (n,) ascending: owner * (events + 1) + row
    owners: Ints  # (events,)
    times_ms: Ints  # (events,)

    @classmethod
    def of_engagements(cls, events: NumberedLog) -> Histories:
        """Builds histories of the clicks, carts and purchases of catalogue products."""
        return cls.of_rows(events, np.flatnonzero((events.kinds >= CLICK) & (events.products >= 0)))

    @classmethod
    def of_rows(cls, events: NumberedLog, rows: Ints) -> Histories:
        """Builds histories of the events `rows` (n,) of the log."""
        owners = events.owners
        keys = owners[rows] * (len(events) + 1) + rows
        order = np.argsort(keys, kind="stable")
        return cls(rows[order], keys[order], owners, events.times_ms)

    def before(self, moments: Ints) -> tuple[Ints, Ints]:
        """Returns (n,) starts and stops in `rows`: what the owner of each event row in `moments` (n,) did strictly before it.

        The slice of moment -1 is empty.
        """
        # Up to the first event of the same millisecond: simultaneous events do not precede each other.
        first = np.searchsorted(self.times_ms, self.times_ms[moments])
        owners = self.owners[moments] * (len(self.owners) + 1)
        starts, stops = np.searchsorted(self.keys, owners), np.searchsorted(self.keys, owners + first)
        return starts, np.where(moments < 0, starts, stops)


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """Searches to be ranked, ordered by time. Arrays have one entry per case."""

    events: NumberedLog  # the whole log
    split: Split
    target: EventKind  # the weakest event that makes a product `relevant`
    first_events: Ints  # rows of the events with which the searches began
    moments: Ints  # the case's history is what comes before these event rows; -1: there is no history
    histories: Histories
    relevant: Relevance  # products with a target event or a stronger one, each of grade 1
    engaged: Relevance  # products that were clicked (grade 1), put into the cart (2) or bought (3)
    buckets: Mapping[str, Bucket]

    def __len__(self) -> int:
        return len(self.first_events)

    @property
    def queries(self) -> Codes:
        """The query of each case (cases,), as a position in events.query_names."""
        return self.events.queries[self.first_events]

    @property
    def texts(self) -> list[str]:
        """The query of each case."""
        return [self.events.query_names[query] for query in self.queries.tolist()]

    @property
    def locale_names(self) -> list[str]:
        return [self.events.locale_names[locale] for locale in self.events.locales[self.first_events].tolist()]

    @property
    def units(self) -> Ints:
        """The resampling unit of each case (cases,): the shopper, or the session if the shopper is anonymous."""
        return self.histories.owners[self.first_events]

    def history_slices(self) -> tuple[Ints, Ints]:
        """Returns (cases,) starts and stops of each case's history in `histories.rows`, oldest first."""
        return self.histories.before(self.moments)

    def take(self, chosen: Ints) -> Cases:
        """Returns the cases `chosen` (n,), in this order."""
        return dataclasses.replace(
            self,
            first_events=self.first_events[chosen],
            moments=self.moments[chosen],
            relevant=self.relevant.take(chosen),
            engaged=self.engaged.take(chosen),
            buckets={name: bucket.take(chosen) for name, bucket in self.buckets.items()},
        )

    def without_histories(self) -> Cases:
        """Returns the same cases with empty histories."""
        return dataclasses.replace(self, moments=np.full(len(self), -1))

    def with_permuted_histories(self, seed: int = 0) -> Cases:
        """Returns the same cases with histories swapped between shoppers: the control of personalisation.

        Each case that has a history gets that of another shopper, as long as no shopper has more than half of these cases.
        """
        starts, stops = self.history_slices()
        with_history = np.flatnonzero(stops > starts)
        if not len(with_history):
            return self
        _, shoppers, counts = np.unique(self.units[with_history], return_inverse=True, return_counts=True)
        number = np.random.default_rng(seed).permutation(len(counts))
        order = with_history[np.argsort(number[shoppers], kind="stable")]
        moments = self.moments.copy()
        moments[order] = self.moments[
            np.roll(order, int(counts.max()))
        ]  # past the end of the longest run of one shopper
        return dataclasses.replace(self, moments=moments)


def build_cases(
    events: NumberedLog,
    split: Split,
    *,
    target: EventKind = EventKind.PURCHASE,
    max_cases: int | None = None,
    seed: int = 0,
) -> Cases:
    """Returns the searches after the training window that led to a `target` (or stronger) event on a catalogue product.

    If there are more than `max_cases`, draws a random sample by `seed`. The buckets are "query" (head, torso or tail by frequency in
    training; unseen), "shopper" by the length of the history (anonymous: none; occasional; habitual), "product" (new: no relevant product
    had an event in training; seen: all had; mixed) and "locale". Raises ValueError if there is no case.
    """
    if KINDS.index(target) < CLICK:
        raise ValueError(f"target is {target}; a product that was only shown is not relevant")
    searches = _searches(events, split)
    pairs = _engagements(events, searches)
    is_relevant = pairs.grades >= KINDS.index(target)
    chosen = np.unique(pairs.cases[is_relevant])
    if not len(chosen):
        raise ValueError(f"no search after the training window ({split}) led to a {target}")
    if max_cases is not None and len(chosen) > max_cases:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, max_cases, replace=False))
    relevant = Relevance(
        pairs.cases[is_relevant], pairs.rows[is_relevant], np.ones(np.count_nonzero(is_relevant)), pairs.num_cases
    ).take(chosen)
    first = searches.first_events[chosen]
    histories = Histories.of_engagements(events)
    starts, stops = histories.before(first)
    num_train = num_train_events(events, split)
    query_codes = _query_codes(events, num_train)[events.queries[first]]
    return Cases(
        events=events,
        split=split,
        target=target,
        first_events=first,
        moments=first,
        histories=histories,
        relevant=relevant,
        engaged=pairs.take(chosen),
        buckets={
            "query": Bucket(FREQUENCIES, query_codes),
            "shopper": _shopper_bucket(stops - starts),
            "product": _product_bucket(events, num_train, relevant),
            "locale": Bucket(tuple(events.locale_names), events.locales[first]),
        },
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Searches:
    """The searches that began after the window, ordered by time."""

    first_events: Ints  # (searches,) row of the first event
    events: Ints  # rows of all their events, ascending
    search_of: Ints  # (events,) the search of each of these events


def _searches(events: NumberedLog, split: Split) -> _Searches:
    num_train = num_train_events(events, split)
    end = len(events) if split.test_end_ms is None else int(np.searchsorted(events.times_ms, split.test_end_ms))
    keys = search_keys(events)
    rows = num_train + np.flatnonzero(keys[num_train:end] >= 0)
    distinct, first, search_of = np.unique(keys[rows], return_index=True, return_inverse=True)
    begun_before = np.isin(distinct, keys[:num_train])
    order = np.argsort(first, kind="stable")
    order = order[~begun_before[order]]
    number = np.full(len(distinct), -1, np.int64)
    number[order] = np.arange(len(order))
    is_new = number[search_of] >= 0
    return _Searches(rows[first[order]], rows[is_new], number[search_of[is_new]])


def search_keys(events: NumberedLog) -> Ints:
    """Returns (events,) one number for each pair of session and query; -1 if no search led to the event."""
    keys = events.sessions.astype(np.int64) * len(events.query_names) + events.queries
    return np.where((events.queries >= 0) & (events.sessions >= 0), keys, -1)


def _engagements(events: NumberedLog, searches: _Searches) -> Relevance:
    """Returns the products that each search led to, graded by the strongest kind of event."""
    kinds, products = events.kinds[searches.events], events.products[searches.events]
    counts = np.flatnonzero((kinds >= CLICK) & (products >= 0))
    keys = searches.search_of[counts] * events.num_products + products[counts]
    order = np.lexsort((-kinds[counts], keys))
    distinct, first = np.unique(keys[order], return_index=True)
    grades = kinds[counts][order][first].astype(np.float64)
    return Relevance(
        distinct // events.num_products, distinct % events.num_products, grades, len(searches.first_events)
    )


def num_train_events(events: NumberedLog, split: Split) -> int:
    """Returns the number of events in the training window: the first of the log."""
    return int(np.searchsorted(events.times_ms, split.train_end_ms))


def _query_codes(events: NumberedLog, num_train: int) -> Codes:
    """Returns (queries,) positions in FREQUENCIES by the searches of the training window."""
    keys = np.unique(search_keys(events)[:num_train])
    keys = keys[keys >= 0]
    num_queries = len(events.query_names)
    counts = np.bincount(keys % num_queries, minlength=num_queries) if num_queries else np.empty(0, np.int64)
    return frequency_codes(counts)


def _shopper_bucket(num_prior: Ints) -> Bucket:
    return Bucket(
        ("anonymous", "occasional", "habitual"),
        np.searchsorted((1, HABITUAL_EVENTS), num_prior, "right").astype(np.int32),
    )


def _product_bucket(events: NumberedLog, num_train: int, relevant: Relevance) -> Bucket:
    in_training = np.zeros(events.num_products, np.bool_)
    products = events.products[:num_train]
    in_training[products[products >= 0]] = True
    num_seen = np.bincount(relevant.cases, in_training[relevant.rows], relevant.num_cases)
    codes = np.where(num_seen == 0, 0, np.where(num_seen < relevant.counts, 1, 2))
    return Bucket(("new", "mixed", "seen"), codes.astype(np.int32))
