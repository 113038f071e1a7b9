"""Shopping logs of any shape become events, and every bad row is counted with its reason."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.events.errors import EventLogError
from models.events.event import EVENT_SCHEMA, EventKind
from models.events.log import read_events, write_events
from models.events.mapping import EventMapping
from models.events.report import BadEvent, EventReport
from models.products.report import MAX_EXAMPLES

NOW = datetime(2025, 6, 1, tzinfo=UTC)
TIME = datetime(2025, 5, 1, 12, tzinfo=UTC)


def event(**changes: Any) -> dict[str, Any]:
    return {
        "id": "e1",
        "time": TIME,
        "shopper_id": "u1",
        "session_id": "s1",
        "locale": "en-US",
        "kind": "click",
        "product_id": "p1",
        "query": "red sofa",
        "position": 3,
        "price_minor": 1299,
    } | changes


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def read(path: Path, mapping: EventMapping | None = None, **options: Any) -> tuple[list[dict[str, Any]], EventReport]:
    report = EventReport()
    batches = list(read_events(path, mapping, now=NOW, report=report, **options))
    assert all(batch.schema == EVENT_SCHEMA for batch in batches)
    assert report.rows == report.kept + sum(report.bad.values())
    events = [row for batch in batches for row in batch.to_pylist()]
    assert report.events == len(events)
    return events, report


class TestRoundTrip:
    def test_written_events_are_read_back(self, tmp_path: Path) -> None:
        rows = [event(id=f"e{at}", position=None if at % 3 else at + 1, price_minor=None) for at in range(500)]
        batches = pa.Table.from_pylist(rows, schema=EVENT_SCHEMA).to_batches(max_chunksize=100)
        assert write_events(tmp_path / "log.parquet", batches) == 500
        events, report = read(tmp_path / "log.parquet")
        assert events == rows
        assert not report.bad

    def test_failure_leaves_no_file_and_keeps_the_old_one(self, tmp_path: Path) -> None:
        def fail() -> Any:
            yield pa.RecordBatch.from_pylist([event()], schema=EVENT_SCHEMA)
            raise RuntimeError("stopped")

        path = tmp_path / "log.parquet"
        path.write_text("old")
        with pytest.raises(RuntimeError, match="stopped"):
            write_events(path, fail())
        assert [file.name for file in tmp_path.iterdir()] == ["log.parquet"]
        assert path.read_text() == "old"

    def test_folder_is_read_in_the_order_of_its_files(self, tmp_path: Path) -> None:
        for day in ("day=2", "day=1"):
            (tmp_path / day).mkdir()
            write_table(tmp_path / day / "part.parquet", [event(id=day), event(id="both")])
        events, report = read(tmp_path)
        assert [row["id"] for row in events] == ["day=1", "both", "day=2"]
        assert [(bad.file, bad.row) for bad in report.examples] == [("day=2/part.parquet", 2)]

    def test_events_out_of_order_are_kept_and_counted(self, tmp_path: Path) -> None:
        rows = [event(id=str(day), time=TIME - timedelta(days=day)) for day in (3, 1, 2, 0)]
        events, report = read(write_table(tmp_path / "log.parquet", rows))
        assert (len(events), report.out_of_order) == (4, 1)


class TestBadRows:
    @pytest.mark.parametrize(
        ("changes", "reason", "shown"),
        [
            ({"id": None}, BadEvent.NO_ID, ""),
            ({"id": " "}, BadEvent.NO_ID, ""),
            ({"id": "x" * 257}, BadEvent.LONG_ID, "x" * 256),
            ({"product_id": ""}, BadEvent.NO_PRODUCT, ""),
            ({"time": None}, BadEvent.NO_TIME, ""),
            ({"time": datetime(1970, 1, 20, tzinfo=UTC)}, BadEvent.EARLY_TIME, "1970-01-20 00:00:00.000000Z"),
            ({"time": NOW + timedelta(seconds=1)}, BadEvent.FUTURE_TIME, "2025-06-01 00:00:01.000000Z"),
            ({"kind": "wishlist"}, BadEvent.UNKNOWN_KIND, "wishlist"),
            ({"kind": None}, BadEvent.UNKNOWN_KIND, ""),
            ({"price_minor": -1}, BadEvent.NEGATIVE_PRICE, "-1"),
            ({"price_minor": 10**16}, BadEvent.PRICE_UNCLEAR, "10000000000000000"),
            ({"position": 0}, BadEvent.BAD_POSITION, "0"),
            ({"position": 2**40}, BadEvent.BAD_POSITION, str(2**40)),
            ({"product_id": "p9"}, BadEvent.UNKNOWN_PRODUCT, "p9"),
            ({"locale": "xx"}, BadEvent.UNKNOWN_LOCALE, "xx"),
            ({"id": "first"}, BadEvent.DUPLICATE_ID, "first"),
        ],
    )
    def test_a_bad_row_is_lost_alone_with_its_reason(
        self, tmp_path: Path, changes: dict[str, Any], reason: BadEvent, shown: str
    ) -> None:
        rows = [event(id="first"), event(id="second") | changes, event(id="third")]
        path = write_table(tmp_path / "log.parquet", rows)
        events, report = read(path, known_products={"p1"}, locales={"en-US"})
        assert [row["id"] for row in events] == ["first", "third"]
        assert dict(report.bad) == {reason: 1}
        assert [(bad.file, bad.row, bad.reason, bad.value) for bad in report.examples] == [
            ("log.parquet", 2, reason, shown)
        ]
        assert f"bad 1: {reason}, first at log.parquet:2" in str(report)
        assert json.loads(json.dumps(report.as_json()))["bad"] == {str(reason): 1}

    @pytest.mark.parametrize(
        ("column", "value", "reason"),
        [
            ("time", "yesterday", BadEvent.TIME_UNCLEAR),
            ("price_minor", "cheap", BadEvent.PRICE_UNCLEAR),
            ("price_minor", "-3", BadEvent.NEGATIVE_PRICE),
            ("position", "1.5", BadEvent.BAD_POSITION),
            ("position", "top", BadEvent.BAD_POSITION),
        ],
    )
    def test_a_bad_cell_of_a_csv_has_its_reason(
        self, tmp_path: Path, column: str, value: str, reason: BadEvent
    ) -> None:
        good = {name: str(cell) for name, cell in event(time=TIME.isoformat()).items()}
        path = write_csv(tmp_path / "log.csv", [good, good | {"id": "e2", column: value}])
        events, report = read(path)
        assert events == [event()]
        assert dict(report.bad) == {reason: 1}
        assert (report.examples[0].row, report.examples[0].value) == (3, value)

    def test_lines_that_are_no_json_objects_are_counted(self, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        good = json.dumps(event(time="2025-05-01T12:00:00Z"))
        path.write_text(f"{good}\n{{broken\n[1]\n")
        events, report = read(path)
        assert events == [event()]
        assert dict(report.bad) == {BadEvent.UNREADABLE: 2}
        assert [bad.row for bad in report.examples] == [2, 3]

    def test_a_row_counts_for_its_first_reason(self, tmp_path: Path) -> None:
        path = write_table(tmp_path / "log.parquet", [event(kind="?", position=-1, product_id="")])
        assert dict(read(path)[1].bad) == {BadEvent.NO_PRODUCT: 1}

    def test_the_first_good_row_of_an_id_stands_however_far_away_the_next_is(self, tmp_path: Path) -> None:
        rows = pa.Table.from_pylist([event()]).take(pa.array([0] * 140_002))  # more than one batch
        rows = rows.set_column(0, "id", pa.array(["e7", *(f"a{at}" for at in range(139_999)), "e7", "e7"]))
        rows = rows.set_column(8, "position", pa.array([0] + [1] * 140_001))
        pq.write_table(rows, tmp_path / "log.parquet")
        report = EventReport()
        for _ in read_events(tmp_path / "log.parquet", report=report):
            pass
        assert (report.kept, dict(report.bad)) == (140_000, {BadEvent.BAD_POSITION: 1, BadEvent.DUPLICATE_ID: 1})
        assert [bad.row for bad in report.examples] == [1, 140_002]

    def test_an_id_of_an_earlier_batch_is_recognised(self, tmp_path: Path) -> None:
        for name in ("1", "2", "3"):
            write_table(tmp_path / f"{name}.parquet", [event(id="same"), event(id=name)])
        events, report = read(tmp_path)
        assert [row["id"] for row in events] == ["same", "1", "2", "3"]
        assert report.bad[BadEvent.DUPLICATE_ID] == 2

    def test_examples_are_bounded_and_counts_are_not(self, tmp_path: Path) -> None:
        rows = [event(id=str(at), kind="?") for at in range(MAX_EXAMPLES + 50)]
        report = read(write_table(tmp_path / "log.parquet", rows))[1]
        assert len(report.examples) == MAX_EXAMPLES
        assert report.bad[BadEvent.UNKNOWN_KIND] == MAX_EXAMPLES + 50


class TestShapes:
    def test_columns_and_kinds_may_have_other_names(self, tmp_path: Path) -> None:
        rows = [
            {"when": 1_746_100_800, "sku": 7, "what": kind, "cents": 12.5, "user": 41.0}
            for kind in ("VIEW", "add_to_cart ", "purchase")
        ]
        mapping = EventMapping(
            time="when",
            product_id="sku",
            id=None,
            kind="what",
            shopper_id="user",
            price="cents",
            price_digits=2,
            time_unit="s",
            kinds={"view": EventKind.IMPRESSION, "add_to_cart": EventKind.CART},
            default_locale="en-GB",
        )
        events, report = read(write_table(tmp_path / "log.parquet", rows), mapping)
        assert not report.bad
        assert [row["kind"] for row in events] == ["impression", "cart", "purchase"]
        assert events[0] == {
            "id": "log.parquet:1",
            "time": TIME,
            "shopper_id": "41",
            "session_id": "",
            "locale": "en-GB",
            "kind": "impression",
            "product_id": "7",
            "query": "",
            "position": None,
            "price_minor": 1250,
        }

    def test_flags_of_an_impression_become_events(self, tmp_path: Path) -> None:
        rows = [
            event(id="a", clicked=True, bought=1),
            event(id="b", clicked=False, bought=0),
            event(id="c", clicked=None, bought=2),
            event(id="d", clicked=True, bought=None),
        ]
        mapping = replace(
            EventMapping.by_name(rows[0]), kind=None, clicked="clicked", purchased="bought", session_id="session_id"
        )
        events, report = read(write_table(tmp_path / "log.parquet", rows), mapping)
        assert [(row["id"], row["kind"]) for row in events] == [
            ("a", "impression"),
            ("a-click", "click"),
            ("a-purchase", "purchase"),
            ("b", "impression"),
            ("d", "impression"),
            ("d-click", "click"),
        ]
        assert {row["query"] for row in events} == {"red sofa"}
        assert (report.rows, report.kept, dict(report.bad)) == (4, 3, {BadEvent.FLAG_UNCLEAR: 1})

    @pytest.mark.parametrize(
        "stamp",
        [
            pa.array([TIME], pa.timestamp("us", tz="Asia/Tokyo")),
            pa.array([TIME.replace(tzinfo=None)], pa.timestamp("ns")),
            pa.array([int(TIME.timestamp() * 1000)], pa.int64()),
            pa.array([TIME.timestamp() * 1000], pa.float64()),
            pa.array(["2025-05-01 12:00:00"]),
            pa.array(["2025-05-01T14:00:00.000+02:00"]),
            pa.array([str(int(TIME.timestamp() * 1000))]),
        ],
    )
    def test_times_are_read_in_any_notation(self, tmp_path: Path, stamp: pa.Array) -> None:
        table = pa.Table.from_pylist([event()])
        pq.write_table(table.set_column(1, "time", stamp), tmp_path / "log.parquet")
        assert read(tmp_path / "log.parquet")[0] == [event()]

    @pytest.mark.parametrize("write", ["csv", "csv.gz", "jsonl"])
    def test_csv_and_json_lines_are_read(self, tmp_path: Path, write: str) -> None:
        rows = [event(id=str(at), time=TIME.isoformat(), position=None if at else 1) for at in range(3)]
        writers: dict[str, Callable[[Path, list[dict[str, Any]]], Path]] = {
            "csv": write_csv,
            "csv.gz": write_csv,
            "jsonl": write_jsonl,
        }
        path = writers[write](tmp_path / f"log.{write}", rows)
        assert read(path)[0] == [row | {"time": TIME} for row in rows]

    def test_text_that_is_not_utf8_is_kept_readable(self, tmp_path: Path) -> None:
        bad = pa.array([b"caf\xe9"]).view(pa.string())
        table = pa.Table.from_pylist([event()])
        pq.write_table(table.set_column(7, "query", bad), tmp_path / "log.parquet")
        assert read(tmp_path / "log.parquet")[0][0]["query"] == "caf\ufffd"


class TestRefused:
    @pytest.mark.parametrize(
        ("mapping", "message"),
        [
            (EventMapping(kind="knd"), "no column 'knd' .mapped as kind., did you mean 'kind'"),
            (EventMapping(kind=None), "map either kind, or some of clicked"),
            (EventMapping(clicked="clicked"), "map either kind, or some of clicked"),
            (EventMapping(price_digits=9), "price_digits is 0 to 6, not 9"),
        ],
    )
    def test_a_mapping_that_does_not_fit_is_refused(self, tmp_path: Path, mapping: EventMapping, message: str) -> None:
        path = write_table(tmp_path / "log.parquet", [event(clicked=True)])
        with pytest.raises(EventLogError, match=message):
            read_events(path, mapping)

    def test_a_file_that_cannot_be_read_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "log.txt").write_text("")
        (tmp_path / "log.parquet").write_text("no")
        for path, message in (
            (tmp_path / "none.csv", "there is no such file"),
            (tmp_path / "log.txt", "not a known format"),
            (tmp_path / "log.parquet", "cannot be opened"),
        ):
            with pytest.raises(EventLogError, match=message):
                read_events(path)

    def test_a_time_without_a_zone_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="now must have a time zone"):
            read_events(tmp_path, now=datetime(2025, 1, 1))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = [",".join(rows[0])] + [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path
