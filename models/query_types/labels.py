"""Labels the queries of a shopping log with the types of the products that shoppers engaged with.

The labels of a query in a locale are all types with a fair share of its engagement, so that "mouse" may have two. `LabelReport` counts
what was left out, by reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.events.event import EVENT_SCHEMA
from models.events.kinds import KINDS
from models.query_types.examples import ExamplesError, TypeExamples
from models.query_types.tokens import normalise
from models.unified.words import Ragged

_COLUMNS = ("id", "time", "locale", "kind", "product_id", "query")


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
    """Labels shopping logs in EVENT_SCHEMA: Parquet files, or folders of them.

    `category_of` maps product ids to types. Events from `since` on and before `until` count: use `until` for training and `since` for
    testing. `types` fixes the types and their numbers, e.g. those of an earlier training; other types are left out as without_type.
    Raises ExamplesError if a file cannot be read, a column is missing, or no query has enough support.
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
    seen: set[str] = set()
    for events in _engaged(paths, rule, since, until, report):
        new = [at for at, name in enumerate(events["id"].to_pylist()) if not (name in seen or seen.add(name))]  # type: ignore[func-returns-value]
        report.repeated += events.num_rows - len(new)
        batch = events.take(pa.array(new, pa.int64()))
        at = np.asarray(pc.index_in(batch["product_id"], value_set=pa.array(ids, pa.string())).fill_null(-1))
        report.unknown_product += int((at < 0).sum())
        type_number = np.where(at < 0, -1, product_type[at] if ids else -1)
        report.without_type += int(((type_number < 0) & (at >= 0)).sum())
        kinds = batch["kind"].cast(pa.string()).to_pylist()
        weights = [rule.kind_weights[KINDS.index(kind)] for kind in kinds]
        rows = zip(batch["query"].to_pylist(), batch["locale"].to_pylist(), type_number.tolist(), weights, strict=True)
        counter.add(row for row in rows if row[2] >= 0)
    return Labelled(counter.examples(type_names), report)


class _Counter:
    """Sums engagement by (query, locale, type)."""

    def __init__(self, rule: LabelRule, report: LabelReport) -> None:
        self._rule, self._report = rule, report
        self._sums: dict[tuple[str, str], dict[int, float]] = {}
        self._typed: dict[tuple[str, str], str] = {}  # the query as first typed
        self._plain: dict[str, str] = {}

    def add(self, rows: Iterable[tuple[str, str, int, float]]) -> None:
        for query, locale, type_number, weight in rows:
            plain = self._plain.get(query)
            if plain is None:
                plain = self._plain[query] = normalise(query)
            sums = self._sums.setdefault((plain, locale), {})
            self._typed.setdefault((plain, locale), query)
            sums[type_number] = sums.get(type_number, 0.0) + weight
            self._report.used += 1

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
    paths: Path | Sequence[Path],
    rule: LabelRule,
    since: datetime | None,
    until: datetime | None,
    report: LabelReport,
) -> Iterator[pa.Table]:
    """Yields the events in the window that have a weight, a query and a locale."""
    heavy = pa.array([str(kind) for kind, weight in zip(KINDS, rule.kind_weights, strict=True) if weight > 0])
    for table in _tables([paths] if isinstance(paths, Path) else paths):
        report.read += table.num_rows
        for moment, keep in ((since, pc.greater_equal), (until, pc.less)):
            if moment is not None:
                at = pa.scalar(round(moment.timestamp() * 1000), pa.timestamp("ms", tz="UTC"))
                before = table.num_rows
                table = table.filter(keep(table["time"].cast(pa.timestamp("ms", tz="UTC")), at))  # noqa: PLW2901 - narrowed step by step
                report.outside_window += before - table.num_rows
        masks = {
            "too_weak": pc.is_in(table["kind"].cast(pa.string()), value_set=heavy),
            "without_query": pc.not_equal(pc.utf8_trim_whitespace(table["query"]), ""),
            "without_locale": pc.not_equal(table["locale"], ""),
        }
        kept = np.ones(table.num_rows, np.bool_)
        for reason, mask in masks.items():
            fits = np.asarray(mask, np.bool_)
            setattr(report, reason, getattr(report, reason) + int((kept & ~fits).sum()))
            kept &= fits
        table = table.filter(pa.array(kept))  # noqa: PLW2901 - narrowed step by step
        if table.num_rows:
            yield table


def _tables(paths: Sequence[Path]) -> Iterator[pa.Table]:
    """Yields the required columns, about 100,000 rows at a time. Raises ExamplesError for a file that is no log."""
    for path in paths:
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not files:
            raise ExamplesError(f"{path.name} holds no Parquet file")
        for file in files:
            try:
                with pq.ParquetFile(file) as opened:
                    missing = [name for name in _COLUMNS if name not in opened.schema_arrow.names]
                    if missing:
                        raise ExamplesError(f"{file.name} has no column {missing[0]!r}; a log has {EVENT_SCHEMA.names}")
                    for batch in opened.iter_batches(batch_size=131_072, columns=list(_COLUMNS)):
                        yield pa.Table.from_batches([batch])
            except (OSError, pa.ArrowException) as error:
                raise ExamplesError(f"{file.name} is not a log in Parquet: {error}") from None
