"""Labels the queries of a shopping log with the types of the products that shoppers engaged with.

The labels of a query in a locale are all types with a fair share of its engagement, so that "mouse" may have two. `LabelReport` counts
what was left out, by reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Bools, Doubles, Ints
from models.events.event_log import EventLog, open_log
from models.events.searches import plain_queries
from models.query_types.examples import ExamplesError, TypeExamples
from models.query_types.tokens import normalise
from models.unified.words import Ragged


@dataclass(frozen=True, slots=True)
class LabelRule:
    """The rule that makes a type a label of a query."""

    # Engagement that a query needs in its locale. One click is often wrong, but with 3 small locales lose most of their queries:
    # accuracy on unseen queries 0.838 instead of 0.935 (simulated).
    min_support: float = 1.0
    min_share: float = 0.15  # share of it that a type needs; the strongest type is always a label
    kind_weights: tuple[float, float, float, float] = (0.0, 1.0, 0.5, 1.0)  # impression, click, cart, purchase

    def __post_init__(self) -> None:
        if self.min_support <= 0:
            raise ValueError(f"min_support must be above 0, not {self.min_support}")
        if not 0 < self.min_share <= 1:
            raise ValueError(f"min_share must be above 0 and at most 1, not {self.min_share}")
        if min(self.kind_weights) < 0 or not max(self.kind_weights):
            raise ValueError(f"kind_weights must be 0 or more and one of them above 0, not {self.kind_weights}")


@dataclass(slots=True)
class LabelReport:
    """How many events were read, and how many were left out for each reason."""

    read: int = 0
    outside_window: int = 0
    too_weak: int = 0  # events of a kind with weight 0
    without_query: int = 0
    without_locale: int = 0
    repeated: int = 0  # events with a repeated id
    unknown_product: int = 0
    without_type: int = 0  # of products without a category
    used: int = 0
    queries: int = 0  # distinct pairs (query, locale)
    too_few: int = 0  # pairs below min_support
    labelled: int = 0  # pairs that became examples
    weak_types: int = 0  # types of a pair below min_share
    locales: dict[str, int] = field(default_factory=dict)  # examples by locale


@dataclass(frozen=True, slots=True)
class Labelled:
    examples: TypeExamples
    report: LabelReport


def label_log(
    paths: Path | Sequence[Path],
    category_of: Mapping[str, str],
    rule: LabelRule | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    types: Sequence[str] | None = None,
) -> Labelled:
    """Labels shopping logs, each as `open_log` opens it.

    `category_of` maps product ids to types. Events from `since` on and before `until` count: use `until` for training and `since` for
    testing. `types` fixes the types and their numbers, e.g. those of an earlier training; other types are left out as without_type.
    Raises LogError if a log cannot be read, ExamplesError if no query has enough support.
    """
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise ValueError(f"{name} must have a time zone, and {moment.isoformat()} has none")
    rule = rule or LabelRule()
    report = LabelReport()
    type_names = tuple(types if types is not None else sorted({name for name in category_of.values() if name}))
    type_at = {name: at for at, name in enumerate(type_names)}
    ids = list(category_of)
    product_type = np.array([type_at.get(category_of[product], -1) for product in ids], np.int64)
    counter = _Counter(rule, report)
    log = open_log(paths)
    report.read, report.repeated = len(log) + log.num_repeated, log.num_repeated
    at = np.asarray(pc.index_in(log.products, value_set=pa.array(ids, pa.large_string())).fill_null(-1))
    type_of = np.where(at < 0, -1, product_type[at] if ids else -1)
    rows = _engaged(log, rule, since, until, at, type_of, report)
    report.used = len(rows)
    counter.add(log, rows, type_of, np.array(rule.kind_weights)[log.kind[rows]])
    return Labelled(counter.examples(type_names), report)


class _Counter:
    """Sums engagement by (query, locale, type)."""

    def __init__(self, rule: LabelRule, report: LabelReport) -> None:
        self._rule, self._report = rule, report
        self._sums: dict[tuple[str, str], dict[int, float]] = {}
        self._typed: dict[tuple[str, str], str] = {}  # the query as first typed

    def add(self, log: EventLog, rows: Ints, type_of: Ints, weight: Doubles) -> None:
        """Adds the events `rows`; `type_of` (log.products,) is the type of each product, `weight` (rows,) that of each event."""
        typed = log.queries.to_pylist()
        plain, locales = plain_queries(typed, normalise), log.locales.to_pylist()
        num_types = int(type_of.max(initial=0)) + 1
        pair = plain.code[log.query[rows]] * np.int64(len(locales)) + log.locale[rows]
        keys, first = np.unique(pair, return_index=True)
        for key, event in zip(keys.tolist(), rows[first].tolist(), strict=True):
            query, locale = divmod(key, len(locales))
            self._typed[plain.names[query], locales[locale]] = typed[log.query[event]]
        cells, place = np.unique(pair * num_types + type_of[log.product[rows]], return_inverse=True)
        sums = np.bincount(place, weight, len(cells))
        for cell, total in zip(cells.tolist(), sums.tolist(), strict=True):
            key, type_number = divmod(cell, num_types)
            query, locale = divmod(key, len(locales))
            self._sums.setdefault((plain.names[query], locales[locale]), {})[type_number] = total

    def examples(self, types: tuple[str, ...]) -> TypeExamples:
        """Returns examples in order of locale and query. Raises ExamplesError if none has enough support."""
        report, rule = self._report, self._rule
        report.queries = len(self._sums)
        supported = [key for key, sums in self._sums.items() if sum(sums.values()) >= rule.min_support]
        supported.sort(key=lambda key: (key[1], key[0]))
        report.too_few, report.labelled = report.queries - len(supported), len(supported)
        if not supported:
            raise ExamplesError(
                f"no query of {report.queries:,} has the engagement of min_support {rule.min_support}; {report.read:,} rows were "
                f"read and {report.used:,} used"
            )
        labels = []
        for key in supported:
            sums = self._sums[key]
            least = rule.min_share * sum(sums.values())
            most = max(sums.values())
            kept = sorted(name for name, weight in sums.items() if weight >= least or weight == most)
            report.weak_types += len(sums) - len(kept)
            labels.append(kept)
        locales = tuple(sorted({locale for _, locale in supported}))
        locale_at = {name: at for at, name in enumerate(locales)}
        examples = TypeExamples(
            [self._typed[key] for key in supported],
            np.array([locale_at[locale] for _, locale in supported], np.int32),
            Ragged.from_rows(labels),
            np.array([sum(self._sums[key].values()) for key in supported], np.float32),
            types,
            locales,
        )
        report.locales = dict(zip(locales, examples.rows_by_locale().tolist(), strict=True))
        return examples


def _engaged(
    log: EventLog,
    rule: LabelRule,
    since: datetime | None,
    until: datetime | None,
    row_of: Ints,
    type_of: Ints,
    report: LabelReport,
) -> Ints:
    """Returns the events in the window that have a weight, a query, a locale and a type; counts the others by the first reason."""
    first, last = (None if moment is None else round(moment.timestamp() * 1000) for moment in (since, until))
    start = 0 if first is None else int(np.searchsorted(log.time_ms, first))
    stop = len(log) if last is None else int(np.searchsorted(log.time_ms, last))
    rows = np.arange(start, max(start, stop))
    report.outside_window = len(log) - len(rows)
    is_blank = np.array([not query.strip() for query in log.queries.to_pylist()], np.bool_)
    is_local = np.asarray(pc.not_equal(log.locales, ""), np.bool_)
    checks: dict[str, Callable[[Ints], Bools]] = {
        "too_weak": lambda rows: np.array(rule.kind_weights)[log.kind[rows]] > 0,
        "without_query": lambda rows: ~is_blank[log.query[rows]],
        "without_locale": lambda rows: is_local[log.locale[rows]],
        "unknown_product": lambda rows: row_of[log.product[rows]] >= 0,
        "without_type": lambda rows: type_of[log.product[rows]] >= 0,
    }
    for reason, fits in checks.items():
        kept = rows[fits(rows)]
        setattr(report, reason, len(rows) - len(kept))
        rows = kept
    return rows
