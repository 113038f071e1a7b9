from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import InputError
from models.events.errors import LogError
from models.events.event import EVENT_SCHEMA
from models.query_types.examples import ExamplesError, TypeExamples
from models.query_types.labels import LabelRule, label_log

START = datetime(2025, 1, 1, tzinfo=UTC)
CATEGORIES = {"M": "Electronics > Mice", "T": "Toys > Mice", "S": "Shoes", "N": ""}


def write(path: Path, rows: list[tuple[str, str, str, str, int]]) -> Path:
    """(query, locale, product, kind, day) each."""
    events = [
        {
            "id": f"{path.stem}-{at}",
            "time": START + timedelta(days=day),
            "shopper_id": "",
            "session_id": "s",
            "locale": locale,
            "kind": kind,
            "product_id": product,
            "query": query,
            "position": None,
            "price_minor": None,
        }
        for at, (query, locale, product, kind, day) in enumerate(rows)
    ]
    pq.write_table(pa.Table.from_pylist(events, EVENT_SCHEMA), path)
    return path


def shown(examples: TypeExamples) -> list[tuple[str, str, list[str], float]]:
    return [
        (query, locale, [examples.types[at] for at in examples.labels.row(row)], float(examples.weight[row]))
        for row, (query, locale) in enumerate(zip(examples.queries, examples.row_locales(), strict=True))
    ]


def test_every_type_with_a_fair_share_is_a_label_by_locale(tmp_path: Path) -> None:
    rows = [("Mouse", "en-US", "M", "click", 0)] * 6 + [("mouse ", "en-US", "T", "click", 0)] * 3
    rows += [("MOUSE", "en-US", "S", "click", 0)] + [("mouse", "en-GB", "T", "click", 0)] * 3
    found = label_log(write(tmp_path / "log.parquet", rows), CATEGORIES)
    assert shown(found.examples) == [
        ("mouse", "en-GB", ["Toys > Mice"], 3.0),
        ("Mouse", "en-US", ["Electronics > Mice", "Toys > Mice"], 10.0),
    ]
    assert (found.report.labelled, found.report.weak_types) == (2, 1)


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    rows = [("shoe", "en-US", "S", "click", 0)] * 3
    rows += [("shoe", "en-US", "S", "impression", 0), ("  ", "en-US", "S", "click", 0), ("shoe", "", "S", "click", 0)]
    rows += [
        ("shoe", "en-US", "gone", "click", 0),
        ("shoe", "en-US", "N", "click", 0),
        ("rare", "en-US", "S", "click", 0),
    ]
    rows += [("shoe", "en-US", "S", "click", 9)]
    first = write(tmp_path / "log.parquet", rows)
    report = label_log([first, first], CATEGORIES, LabelRule(min_support=3), until=START + timedelta(days=5)).report
    assert report.read == 20
    assert (report.too_weak, report.without_query, report.without_locale, report.outside_window) == (1, 1, 1, 1)
    assert report.repeated == 10
    assert (report.unknown_product, report.without_type, report.too_few, report.labelled) == (1, 1, 1, 1)


def test_a_cut_in_time_divides_a_folder_of_logs(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [("early", "en-US", "S", "click", 1)] * 3)
    write(tmp_path / "b.parquet", [("late", "en-US", "S", "click", 8)] * 3)
    cut = START + timedelta(days=5)
    assert label_log(tmp_path, CATEGORIES, until=cut).examples.queries == ["early"]
    assert label_log(tmp_path, CATEGORIES, since=cut).examples.queries == ["late"]


def test_a_purchase_weighs_more_than_a_click(tmp_path: Path) -> None:
    log = write(tmp_path / "log.parquet", [("a", "en-US", "S", "click", 0), ("a", "en-US", "S", "purchase", 0)])
    found = label_log(log, CATEGORIES, LabelRule(min_support=3, kind_weights=(0, 1, 1, 2)))
    assert found.examples.weight.tolist() == [3.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "missing.parquet", "missing.parquet is not a log"),
        (lambda path: write(path / "log.parquet", [("a", "en-US", "S", "click", 0)]), "min_support 3.0"),
    ],
)
def test_a_log_without_labels_is_refused(tmp_path: Path, make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        label_log(make(tmp_path), CATEGORIES, LabelRule(min_support=3.0))  # type: ignore[operator]


def test_a_log_without_a_column_is_refused_by_its_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "log.parquet")
    with pytest.raises(LogError, match="no column time"):
        label_log(tmp_path / "log.parquet", CATEGORIES)


def test_examples_know_their_rows() -> None:
    examples = TypeExamples.from_rows([("a", "en-US", ["X"]), ("b", "de-DE", ["Y", "X"]), ("c", "en-US", ["Y"])])
    assert examples.of_locale("en-US").queries == ["a", "c"]
    assert examples.of_locale("fr-FR").queries == []
    assert examples.take(np.array([2, 1])).label_matrix().tolist() == [[False, True], [True, True]]


def test_examples_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ExamplesError, match="'Z' is neither"):
        TypeExamples.from_rows([("a", "en-US", ["Z"])], types=["X"])
    with pytest.raises(ExamplesError, match="row 0 has no label"):
        TypeExamples.from_rows([("a", "en-US", [])], types=["X"])
