"""A log is the same whether it is imported or read from Parquet, and what is no log is refused with what to do."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.numbered_log import NumberedLog, read_log
from models.events.errors import LogError
from models.events.event import EVENT_SCHEMA, EventKind
from models.events.event_log import LOG_JSON, EventLog, log_digests, open_log
from models.events.importing.import_log import import_log
from models.events.importing.mapping import ready_format
from models.unified.shopping_log import ShoppingLog

CATALOGUE = ["a", "b", "c"]


def event(number: int = 0, **fields: object) -> dict[str, object]:
    values = {
        "id": f"e{number}",
        "time": datetime.fromtimestamp(1_700_000_000 + number, UTC),
        "shopper_id": "ada",
        "session_id": "s",
        "locale": "en-GB",
        "kind": "click",
        "product_id": "a",
        "query": "red sofa",
        "position": 2,
        "price_minor": 1_999,
    }
    return values | fields


def write(path: Path, events: list[dict[str, object]]) -> Path:
    pq.write_table(pa.Table.from_pylist(events, EVENT_SCHEMA), path)
    return path


def imported(parquet: Path) -> Path:
    log = parquet.with_suffix(".log")
    import_log([parquet], log, ready_format("aisle"), replace=True)
    return log


def assert_same(one: object, other: object) -> None:
    assert dataclasses.is_dataclass(one)
    for field in dataclasses.fields(one):
        if field.name not in ("ids", "num_repeated", "sessions", "shoppers"):
            found, wanted = getattr(one, field.name), getattr(other, field.name)
            assert np.array_equal(found, wanted), field.name


events_of_any_log = st.lists(
    st.builds(
        event,
        st.integers(0, 12),
        time=st.integers(0, 40).map(lambda s: datetime.fromtimestamp(1_700_000_000 + s, UTC)),
        shopper_id=st.sampled_from(["", "ada", "bo"]),
        session_id=st.sampled_from(["s1", "s2", "s3"]),
        locale=st.sampled_from(["en-GB", "de-DE"]),
        kind=st.sampled_from([str(kind) for kind in EventKind]),
        product_id=st.sampled_from(["a", "b", "x"]),
        query=st.sampled_from(["", "Sofa", "sofa", "red  sofa", "ROT"]),
        position=st.none() | st.integers(1, 9),
        price_minor=st.none() | st.integers(0, 10**9),
    ),
    min_size=1,
    max_size=30,
)


@given(events=events_of_any_log)
@settings(max_examples=10)
def test_an_imported_log_is_what_is_read_from_its_parquet(
    events: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    parquet = write(tmp_path_factory.mktemp("log") / "events.parquet", events)
    log = imported(parquet)
    assert_same(ShoppingLog.read(log, CATALOGUE), ShoppingLog.read(parquet, CATALOGUE))
    assert np.array_equal(open_log(log).position, open_log(parquet).position)
    assert np.array_equal(open_log(log).price_minor, open_log(parquet).price_minor)
    found, wanted = read_log(log, CATALOGUE), read_log(parquet, CATALOGUE)
    for field in dataclasses.fields(NumberedLog):
        if field.name != "ids":
            assert np.array_equal(getattr(found, field.name), getattr(wanted, field.name)), field.name


def test_spellings_of_a_query_are_one_search_in_training_and_evaluation(tmp_path: Path) -> None:
    log = write(tmp_path / "log.parquet", [event(0, query="Red Sofa"), event(1, query="red  sofa")])
    assert ShoppingLog.read(log, CATALOGUE).search.tolist() == [0, 0]
    assert read_log(log, CATALOGUE).queries.tolist() == [0, 0]


def test_imported_columns_are_mapped_and_not_read(tmp_path: Path) -> None:
    log = open_log(imported(write(tmp_path / "log.parquet", [event(0), event(1)])))
    assert isinstance(log.time_ms, np.memmap)
    assert log.table(np.array([1])).to_pylist() == [event(1, id="1", session_id="0")]


def test_several_logs_are_one(tmp_path: Path) -> None:
    first = imported(write(tmp_path / "a.parquet", [event(0), event(4, product_id="b")]))
    second = write(tmp_path / "b.parquet", [event(2, shopper_id="bo", query="lamp"), event(3, shopper_id="")])
    log = open_log([first, second])
    rows = log.table(np.arange(4)).to_pylist()
    assert [row["shopper_id"] for row in rows] == ["ada", "bo", "", "ada"]
    assert [row["product_id"] for row in rows] == ["a", "a", "a", "b"]
    assert [row["query"] for row in rows] == ["red sofa", "lamp", "red sofa", "red sofa"]
    assert log.num_sessions == 2
    assert len(set(log.session[[0, 3]])) == 1


def test_a_repeated_import_has_the_same_digests_and_another_log_has_others(tmp_path: Path) -> None:
    parquet = write(tmp_path / "a.parquet", [event(0)])
    digests = log_digests(imported(parquet))
    assert digests == log_digests(imported(parquet))
    assert digests != log_digests(imported(write(tmp_path / "a.parquet", [event(1)])))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("time", ["x"], "column time is large_string|column time is string"),
        ("product_id", [["a"]], "column product_id is list.*, not text.*aisle import FILE"),
        ("position", ["first"], "column position is string, not whole numbers"),
        ("kind", ["wink"], "column kind holds 'wink'"),
        ("query", pa.array([None], pa.string()), "column query has 1 empty cells"),
    ],
)
def test_a_table_of_another_schema_is_refused_by_its_column(column: str, values: list[object], message: str) -> None:
    table = pa.Table.from_pylist([event()], EVENT_SCHEMA)
    with pytest.raises(LogError, match=message):
        EventLog.from_table(table.set_column(EVENT_SCHEMA.get_field_index(column), column, pa.array(values)))


def test_what_is_no_log_is_refused_with_what_makes_one(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("a,b\n1,2\n")
    pq.write_table(pa.table({"user": ["ada"]}), tmp_path / "table.parquet")
    with pytest.raises(LogError, match="is not a log in Parquet: .*'aisle import FILE --out LOG' makes a log"):
        open_log(tmp_path / "events.csv")
    with pytest.raises(LogError, match="no column id, time.*its columns are user. 'aisle import"):
        open_log(tmp_path / "table.parquet")
    with pytest.raises(LogError, match="no log is given"):
        open_log([])


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    log = imported(write(tmp_path / "log.parquet", [event(0), event(1)]))
    facts = json.loads((log / LOG_JSON).read_text())
    np.save(log / "kind.npy", np.zeros(1, np.int8))
    with pytest.raises(LogError, match=r"kind.npy holds \(1,\) int8, not 2 int8; import the log again"):
        open_log(log)
    (log / "kind.npy").unlink()
    with pytest.raises(LogError, match="is a damaged log"):
        open_log(log)
    (log / LOG_JSON).write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(LogError, match="is a log of format 99, and this version reads 1"):
        open_log(log)
    (log / LOG_JSON).write_text("{")
    with pytest.raises(LogError, match="is damaged"):
        open_log(log)
