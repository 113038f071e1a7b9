"""Every row of a table is an event of the log, or counted for a reason; nothing is half written."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.events.errors import LogError
from models.events.event_log import LOG_JSON, open_log
from models.events.importing.import_log import ImportLimits, import_log
from models.events.importing.mapping import LogMapping, SourceMapping
from models.events.importing.report import ImportReport

NOW_MS = 1_760_000_000_000
TIME_MS = 1_746_100_800_123  # 2025-05-01 12:00:00.123 UTC
COLUMNS = {name: name for name in ("time", "product", "kind", "shopper", "session", "query", "position", "price")}
ANY_BAD = ImportLimits(max_bad=1.0, now_ms=NOW_MS)


def row(**fields: Any) -> dict[str, Any]:
    values = {
        "time": TIME_MS,
        "product": "a",
        "kind": "click",
        "shopper": "ada",
        "session": "s",
        "query": "red sofa",
        "position": 3,
        "price": "12.50",
    }
    return values | fields


def write_csv(path: Path, rows: Sequence[dict[str, Any]], delimiter: str = ",") -> Path:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def mapping(columns: dict[str, str] | None = None, **more: Any) -> LogMapping:
    of_source = {name: more.pop(name) for name in ("kinds", "shape", "quote", "header", "encoding") if name in more}
    return LogMapping(sources=(SourceMapping(columns=columns or COLUMNS, **of_source),), **more)


def run(
    tmp_path: Path,
    files: Path | list[Path],
    chosen: LogMapping | None = None,
    limits: ImportLimits = ANY_BAD,
    **more: Any,
) -> tuple[list[dict[str, Any]], ImportReport]:
    """The events of the log, and the report."""
    paths = files if isinstance(files, list) else [files]
    report = import_log(paths, tmp_path / "log", chosen or mapping(), limits, replace=True, **more)
    log = open_log(tmp_path / "log")
    return log.table(np.arange(len(log))).to_pylist(), report


def test_csv_tsv_json_lines_and_parquet_are_read_alike(tmp_path: Path) -> None:
    rows = [row(time=TIME_MS + at, product=f"p{at}", position=at or None) for at in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    files = [
        write_csv(tmp_path / "a.csv", rows),
        write_csv(tmp_path / "a.csv.gz", rows),
        write_csv(tmp_path / "a.tsv", rows, "\t"),
        write_csv(tmp_path / "b.csv", rows, ";"),
        write_jsonl(tmp_path / "a.jsonl", rows),
        tmp_path / "a.parquet",
    ]
    gzipped = tmp_path / "b.jsonl.gz"
    gzipped.write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    for file in (*files, gzipped):
        events, report = run(tmp_path, file)
        assert [event["product_id"] for event in events] == ["p0", "p1", "p2"], file
        assert [event["position"] for event in events] == [None, 1, 2], file
        assert [event["price_minor"] for event in events] == [1_250] * 3, file
        assert events[0]["time"] == datetime.fromtimestamp(TIME_MS / 1000, UTC), file
        assert (report.rows, report.num_bad, report.lost) == (3, 0, {}), file


def test_files_and_folders_are_one_log_in_order_of_time(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    (folder / "deep").mkdir(parents=True)
    write_csv(folder / "b.csv", [row(product="late", time=TIME_MS + 9)])
    write_csv(folder / "deep" / "a.csv", [row(product="early")])
    events, report = run(
        tmp_path, [folder, write_jsonl(tmp_path / "c.jsonl", [row(product="last", time=TIME_MS + 99)])]
    )
    assert [event["product_id"] for event in events] == ["early", "late", "last"]
    assert report.out_of_order == 1


def test_other_encodings_and_names_that_look_like_patterns(tmp_path: Path) -> None:
    file = tmp_path / "a [1]*.csv"
    file.write_bytes("time,product,kind,query\n2025-05-01,a,click,café\n2025-05-02,b,click,cafe\n".encode("latin-1"))
    write_csv(tmp_path / "a 1x.csv", [row()])
    columns = {name: name for name in ("time", "product", "kind", "query")}
    events, report = run(tmp_path, file, mapping(columns))
    assert (len(events), report.bad) == (1, {"cannot be read": 1})
    events, _ = run(tmp_path, file, mapping(columns, encoding="latin-1"))
    assert [event["query"] for event in events] == ["café", "cafe"]


def test_lines_that_end_in_several_ways_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"time,product,kind\r\n2025-05-01,a,click\r\n2025-05-02,b,click\n2025-05-03,c,click\r\n")
    events, _ = run(tmp_path, file, mapping({name: name for name in ("time", "product", "kind")}))
    assert [event["product_id"] for event in events] == ["a", "b", "c"]


def test_json_may_be_one_array(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([row(), row(time=TIME_MS + 1, product=7)], indent=1))
    events, _ = run(tmp_path, tmp_path / "a.json")
    assert [event["product_id"] for event in events] == ["a", "7"]


@pytest.mark.parametrize(
    ("cell", "timezone", "expected"),
    [
        (str(TIME_MS), "UTC", TIME_MS),
        (str(TIME_MS // 1000), "UTC", TIME_MS // 1000 * 1000),
        (str(TIME_MS * 1000 + 7), "UTC", TIME_MS),
        (str(TIME_MS / 1000), "UTC", TIME_MS),
        ("2025-05-01T12:00:00.123Z", "UTC", TIME_MS),
        ("2025-05-01 12:00:00.123 UTC", "Asia/Tokyo", TIME_MS),
        ("2025-05-01T14:00:00.123+02:00", "UTC", TIME_MS),
        ("2025-05-01 14:00:00.123 +0200", "UTC", TIME_MS),
        ("2025-05-01T06:30:00.123-05:30", "UTC", TIME_MS),
        ("2025-05-01 14:00:00.123", "Europe/Berlin", TIME_MS),
        ("2025-05-01T12:00:00.123", "UTC", TIME_MS),
        ("2025-05-01T14:00+02:00", "UTC", TIME_MS - 123),
        ("20250501", "UTC", TIME_MS - 43_200_123),
        ("2025-05-01", "UTC", TIME_MS - 43_200_123),
    ],
)
def test_times_are_read_in_any_notation(tmp_path: Path, cell: str, timezone: str, expected: int) -> None:
    run(tmp_path, write_csv(tmp_path / "a.csv", [row(time=cell)]), mapping(timezone=timezone))
    assert open_log(tmp_path / "log").time_ms.tolist() == [expected]


@pytest.mark.parametrize(
    ("unit", "cell"), [("s", TIME_MS / 1000), ("ms", TIME_MS), ("us", TIME_MS * 1000), ("ns", TIME_MS * 1_000_000)]
)
def test_a_stated_unit_holds(tmp_path: Path, unit: str, cell: float) -> None:
    run(tmp_path, write_csv(tmp_path / "a.csv", [row(time=cell)]), mapping(time_unit=unit))
    assert open_log(tmp_path / "log").time_ms.tolist() == [TIME_MS]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([datetime(2025, 5, 1, 12, 0, 0, 123_000)], pa.timestamp("us")),
        pa.array([datetime(2025, 5, 1, 12, 0, 0, 123_000, tzinfo=UTC)], pa.timestamp("us", tz="Asia/Tokyo")),
        pa.array([datetime(2025, 5, 1, 12, 0, 0, 123_000)], pa.timestamp("ns")),
        pa.array([TIME_MS], pa.int64()),
        pa.array([float(TIME_MS)]),
    ],
)
def test_typed_times_of_parquet(tmp_path: Path, column: pa.Array) -> None:
    table = pa.Table.from_pylist([row()])
    pq.write_table(table.set_column(0, "time", column), tmp_path / "a.parquet")
    run(tmp_path, tmp_path / "a.parquet")
    assert open_log(tmp_path / "log").time_ms.tolist() == [TIME_MS]


def test_local_times_and_dates_of_parquet_are_in_the_stated_zone(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([row()])
    local = pa.array([datetime(2025, 5, 1, 14, 0, 0, 123_000)], pa.timestamp("us"))
    pq.write_table(table.set_column(0, "time", local), tmp_path / "a.parquet")
    run(tmp_path, tmp_path / "a.parquet", mapping(timezone="Europe/Berlin"))
    assert open_log(tmp_path / "log").time_ms.tolist() == [TIME_MS]
    pq.write_table(table.set_column(0, "time", pa.array([date(2025, 5, 1)])), tmp_path / "a.parquet")
    run(tmp_path, tmp_path / "a.parquet")
    assert open_log(tmp_path / "log").time_ms.tolist() == [TIME_MS - 43_200_123]


def test_ids_are_the_same_as_numbers_and_as_text(tmp_path: Path) -> None:
    text = write_csv(tmp_path / "a.csv", [row(product="123", shopper="7.0", time=TIME_MS)])
    floats = tmp_path / "b.parquet"
    pq.write_table(pa.Table.from_pylist([row(product=123.0, shopper=7, time=TIME_MS + 1)]), floats)
    lines = write_jsonl(tmp_path / "c.jsonl", [row(product=123, shopper="7", time=TIME_MS + 2)])
    events, report = run(tmp_path, [text, floats, lines])
    assert {event["product_id"] for event in events} == {"123"}
    assert {event["shopper_id"] for event in events} == {"7"}
    assert (report.products, report.shoppers) == (1, 1)


@pytest.mark.parametrize(
    ("cell", "settings", "expected"),
    [
        ("12.5", {}, 1_250),
        ("$1,299.00", {}, 129_900),
        ("1.299,00 €", {"decimal": "comma"}, 129_900),
        ("0.285", {}, 29),
        ("1299", {"price_unit": "minor"}, 1_299),
        ("500", {"currency": "JPY"}, 500),
        ("", {}, None),
    ],
)
def test_prices(tmp_path: Path, cell: str, settings: dict[str, str], expected: int | None) -> None:
    events, report = run(tmp_path, write_csv(tmp_path / "a.csv", [row(price=cell)]), mapping(**settings))
    assert events[0]["price_minor"] == expected
    assert report.lost == {}


def test_an_event_keeps_what_is_right_and_loses_what_is_not(tmp_path: Path) -> None:
    rows = [
        row(price="5", money="EUR", time=TIME_MS),
        row(price="5", money="usd", time=TIME_MS + 1),
        row(price="-5", money="", time=TIME_MS + 2),
        row(price="call us", money="", time=TIME_MS + 3),
        row(position=0, money="", time=TIME_MS + 4),
        row(query="x" * 513, money="", time=TIME_MS + 5),
        row(query="x" * 512, money="", time=TIME_MS + 6),
    ]
    events, report = run(tmp_path, write_csv(tmp_path / "a.csv", rows), mapping({**COLUMNS, "currency": "money"}))
    assert [event["price_minor"] for event in events] == [None, 500, None, None, 1_250, 1_250, 1_250]
    assert [event["position"] for event in events] == [3, 3, 3, 3, None, 3, 3]
    assert [len(event["query"]) for event in events] == [8, 8, 8, 8, 8, 0, 512]
    assert list(report.lost.values()) == [2, 1, 1, 1]
    assert any("another currency" in line for line in report.lines())


def test_rows_that_cannot_be_used_are_counted_and_written_with_their_place(tmp_path: Path) -> None:
    rows = [
        row(),
        row(kind="wink"),
        row(product=""),
        row(product="x" * 257),
        row(time=""),
        row(time="soon"),
        row(time=12),
        row(time=NOW_MS + 2 * 86_400_000),
        row(kind="Purchase "),
    ]
    file = write_csv(tmp_path / "a.csv", rows)
    with file.open("a") as opened:
        opened.write("only,two\n")
    _, report = run(tmp_path, file, bad_rows_file=tmp_path / "bad.csv")
    assert (report.rows, report.events, report.num_bad) == (10, 2, 8)
    assert set(report.bad.values()) == {1}
    assert report.unknown_kinds == {"wink": 1}
    bad = list(csv.DictReader((tmp_path / "bad.csv").open()))
    assert [(one["row"], one["reason"].partition(";")[0], one["value"][:9]) for one in bad] == [
        ("2", "unknown kind", "wink"),
        ("3", "no product", ""),
        ("4", "id over 256 characters", "xxxxxxxxx"),
        ("5", "no time", ""),
        ("6", "time not understood", "soon"),
        ("7", "time before 2000", "12"),
        ("8", "time in the future", str(NOW_MS + 2 * 86_400_000)[:9]),
        ("11", "cannot be read (line)", "only,two"),
    ]
    assert {one["file"] for one in bad} == {str(file)}


def test_damaged_lines_of_json_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(row()) + "\n{broken\n" + json.dumps(row(time=TIME_MS + 1)) + "\n")
    _, report = run(tmp_path, file)
    assert (report.rows, report.events, report.bad) == (3, 2, {"cannot be read": 1})


def test_too_many_bad_rows_are_refused_with_their_reasons(tmp_path: Path) -> None:
    file = write_csv(
        tmp_path / "a.csv", [row(time=TIME_MS + at, kind="wink" if at < 2 else "click") for at in range(100)]
    )
    with pytest.raises(LogError, match=r"2 of 100 rows \(2.0%\) are bad, and --max-bad is 0.01: .*'wink' \(2\)"):
        run(tmp_path, file, limits=ImportLimits(now_ms=NOW_MS), bad_rows_file=tmp_path / "bad.csv")
    assert not (tmp_path / "log").exists()
    assert len((tmp_path / "bad.csv").read_text().splitlines()) == 3
    run(tmp_path, file, limits=ImportLimits(now_ms=NOW_MS, max_bad=0.02))


def test_kinds_can_be_named_and_left_out_on_purpose(tmp_path: Path) -> None:
    kinds = ("VIEW", "remove", "Add To Cart", "purchase")
    file = write_csv(tmp_path / "a.csv", [row(kind=kind, time=TIME_MS + at) for at, kind in enumerate(kinds)])
    events, report = run(tmp_path, file, mapping(kinds={"view": "click", "remove": "", "add to cart": "cart"}))
    assert [str(event["kind"]) for event in events] == ["click", "cart", "purchase"]
    assert (report.left_out, report.num_bad) == (1, 0)


def test_duplicates_are_dropped_by_id_or_by_everything(tmp_path: Path) -> None:
    rows = [row(id="1"), row(id="1", time=TIME_MS - 5), row(id="2"), row(id="")]
    file = write_csv(tmp_path / "a.csv", rows)
    events, report = run(tmp_path, file, mapping({**COLUMNS, "id": "id"}))
    assert (len(events), report.duplicates) == (3, 1)
    assert open_log(tmp_path / "log").time_ms[0] == TIME_MS - 5
    events, report = run(tmp_path, file)
    assert (len(events), report.duplicates) == (2, 2)


def test_a_file_that_comes_twice_is_found(tmp_path: Path) -> None:
    rows = [row(time=TIME_MS + at) for at in range(3)]
    first = write_csv(tmp_path / "a.csv", rows)
    copy = write_csv(tmp_path / "b.csv", rows)
    packed = write_csv(tmp_path / "c.csv.gz", rows)
    events, report = run(tmp_path, [first, copy, packed])
    assert len(events) == 3
    assert report.repeated_files == {str(copy): str(first)}
    assert report.duplicate_files == [str(packed)]


def test_flags_of_an_impression_become_events(tmp_path: Path) -> None:
    rows = [
        {"time": TIME_MS + at, "product": f"p{at}", "user": "u", "hit": hit, "buy": buy}
        for at, (hit, buy) in enumerate([("true", "0"), ("", "no"), ("1", "Y"), ("maybe", "0")])
    ]
    chosen = mapping(
        {"time": "time", "product": "product", "shopper": "user", "clicked": "hit", "purchased": "buy"},
        shape="impressions",
    )
    events, report = run(tmp_path, write_csv(tmp_path / "a.csv", rows), chosen, bad_rows_file=tmp_path / "bad.csv")
    assert [(event["product_id"], str(event["kind"])) for event in events] == [
        ("p0", "impression"),
        ("p0", "click"),
        ("p1", "impression"),
        ("p2", "impression"),
        ("p2", "click"),
        ("p2", "purchase"),
    ]
    assert (report.rows, report.bad) == (4, {"flag is neither true nor false": 1})
    assert (tmp_path / "bad.csv").read_text().splitlines()[1].split(",")[1] == "4"


@pytest.mark.parametrize(
    ("shown", "clicked"),
    [('["a", "b", "c"]', '["b"]'), ("a,b,c", "b"), ("['a', 'b', 'c']", "['b']"), ("a | b|c", "b"), ("a b c", "b ")],
)
def test_a_page_becomes_impressions_with_places_and_clicks(tmp_path: Path, shown: str, clicked: str) -> None:
    rows = [{"at": TIME_MS, "who": "u", "q": "sofa", "list": shown, "hits": clicked}]
    rows += [{"at": TIME_MS + 1, "who": "u", "q": "none", "list": "", "hits": ""}]
    chosen = mapping({"time": "at", "shopper": "who", "query": "q", "shown": "list", "clicked": "hits"}, shape="pages")
    events, report = run(tmp_path, write_csv(tmp_path / "a.csv", rows), chosen)
    assert [(event["product_id"], str(event["kind"]), event["position"]) for event in events] == [
        ("a", "impression", 1),
        ("b", "impression", 2),
        ("c", "impression", 3),
        ("b", "click", 2),
    ]
    assert (report.rows, report.bad) == (2, {"no product": 1})


def test_pages_of_parquet_have_lists(tmp_path: Path) -> None:
    rows = [{"at": TIME_MS, "who": "u", "list": [11, 12], "item": {"hits": ["12"]}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    chosen = mapping({"time": "at", "shopper": "who", "shown": "list", "clicked": "item.hits"}, shape="pages")
    events, _ = run(tmp_path, tmp_path / "a.parquet", chosen)
    assert [(event["product_id"], event["position"]) for event in events] == [("11", 1), ("12", 2), ("12", 2)]


def test_sessions_end_with_a_pause_where_there_are_none(tmp_path: Path) -> None:
    minutes = [("ada", 0), ("bo", 1), ("ada", 29), ("ada", 60), ("", 61), ("", 62)]
    rows = [row(shopper=who, session="", time=TIME_MS + at * 60_000) for who, at in minutes]
    file = write_csv(tmp_path / "a.csv", rows)
    _, report = run(tmp_path, file)
    assert open_log(tmp_path / "log").session.tolist() == [0, 1, 0, 2, 3, 4] or report.sessions == 5
    sessions = open_log(tmp_path / "log").session
    assert sessions[0] == sessions[2] != sessions[3]
    assert len(set(sessions.tolist())) == 5
    assert (report.alone, report.derived_sessions) == (2, 3)
    run(tmp_path, file, mapping(session_gap_minutes=31.0))
    assert len(set(open_log(tmp_path / "log").session.tolist())) == 4


def test_products_outside_the_catalogue_are_kept_out_and_told(tmp_path: Path) -> None:
    rows = [row(product="x" if at < 2 else "a", time=TIME_MS + at) for at in range(100)]
    file = write_csv(tmp_path / "a.csv", rows)
    events, report = run(tmp_path, file, catalogue=pa.array(["a", "b"], pa.large_string()))
    assert len(events) == 98
    assert report.unknown_products == 2
    assert any("2 events (2.0%)" in line and "'x'" in line and "right catalogue" in line for line in report.lines())
    with pytest.raises(LogError, match="no event is left"):
        run(tmp_path, file, catalogue=pa.array(["z"], pa.large_string()))


def test_a_robot_is_capped_and_a_limit_holds_for_everybody(tmp_path: Path) -> None:
    rows = [row(shopper=f"u{at}", time=TIME_MS + at) for at in range(1_500)]
    rows += [row(shopper="robot", session="r", time=TIME_MS + 3 * at) for at in range(1_200)]
    file = write_csv(tmp_path / "a.csv", rows)
    events, report = run(tmp_path, file)
    assert [(robot.shopper, robot.events, robot.kept) for robot in report.robots] == [("robot", 1_200, 1_000)]
    assert len(events) == 2_500
    assert any("'robot' has 1,200 events" in line for line in report.lines())
    events, _ = run(tmp_path, file, limits=ImportLimits(now_ms=NOW_MS, max_shopper_events=10))
    assert len(events) == 1_510


def test_nobody_is_no_shopper(tmp_path: Path) -> None:
    rows = [
        row(shopper=who, time=TIME_MS + at) for at, who in enumerate(("null", "NaN", "(not set)", "undefined", "nan1"))
    ]
    events, report = run(tmp_path, write_csv(tmp_path / "a.csv", rows))
    assert [event["shopper_id"] for event in events] == ["", "", "", "", "nan1"]
    assert report.shoppers == 1


def test_the_report_says_what_cannot_be_learned(tmp_path: Path) -> None:
    _, report = run(tmp_path, write_csv(tmp_path / "a.csv", [row(query="")]))
    assert any("no event has a query" in line for line in report.lines())
    _, report = run(tmp_path, write_csv(tmp_path / "a.csv", [row()]))
    assert any("no impressions" in line for line in report.lines())


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "the first line must name the columns"),
            ("time,product,kind\n1,a,click\n", "has no column 'shopper'; its columns are time, product, kind"),
            ("time,time,product\n", "column 'time' is there more than once"),
        ],
    )
    def test_a_file_whose_columns_do_not_fit(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(LogError, match=message):
            run(tmp_path, tmp_path / "a.csv")

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        (tmp_path / "a.doc").write_text("")
        (tmp_path / "a.parquet").write_text("no")
        (tmp_path / "empty").mkdir()
        for path, message in (
            (tmp_path / "none.csv", "there is no"),
            (tmp_path / "a.doc", "must end in .csv"),
            (tmp_path / "a.parquet", "cannot be opened"),
            (tmp_path / "empty", "holds no file"),
        ):
            with pytest.raises(LogError, match=message):
                run(tmp_path, path)

    def test_a_folder_that_is_no_log_is_not_replaced(self, tmp_path: Path) -> None:
        file = write_csv(tmp_path / "a.csv", [row()])
        (tmp_path / "log").mkdir()
        (tmp_path / "log" / "mine.txt").write_text("mine")
        with pytest.raises(LogError, match="is no log, so it is not replaced"):
            run(tmp_path, file)
        with pytest.raises(LogError, match="exists; give --force"):
            import_log([file], tmp_path / "log", mapping(), ANY_BAD)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("nonsense", "is not TOML"),
            ("colour = 1", "has no key 'colour'"),
            (
                'time_unit = "h"\n[[source]]\ncolumns = {time="t", product="p", kind="k"}',
                "time_unit must be one of auto, s",
            ),
            ('timezone = "Mars"\n[[source]]\ncolumns = {time="t", product="p", kind="k"}', "timezone must be a name"),
            ('[[source]]\ncolumns = {time="t"}', "product needs a column.*a row needs its kind"),
            ('[[source]]\nshape = "rows"', "shape must be one of events, impressions, pages, table"),
            ('[[source]]\ncolumns = {tme="t"}', "there is no field 'tme'"),
            (
                '[[source]]\ncolumns = {time="t", product="p", kind="k"}\nkinds = {view = "look"}',
                "kinds: 'view' must be impression, click, cart, purchase",
            ),
            ("first_position = 2", r"needs a \[\[source\]\]"),
        ],
    )
    def test_a_mapping_that_cannot_be(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "mapping.toml").write_text(text)
        with pytest.raises(LogError, match=message):
            LogMapping.load(tmp_path / "mapping.toml")


_SLOW_IMPORT = """
import sys, time
from pathlib import Path
from models.events.importing import import_log
from models.events.importing.mapping import LogMapping
def progress(what, done, total):
    if what == sys.argv[4]:
        print("there", flush=True)
        time.sleep(60)
import_log.import_log([Path(sys.argv[1])], Path(sys.argv[2]), LogMapping.load(Path(sys.argv[3])), progress=progress)
"""


@pytest.mark.parametrize("step", ["find duplicates", "write the events", "write the log"])
def test_a_killed_import_leaves_nothing_under_its_name_and_is_repeated(tmp_path: Path, step: str) -> None:
    file = write_csv(tmp_path / "a.csv", [row(time=TIME_MS + at, product=f"p{at % 7}") for at in range(2_000)])
    columns = "\n".join(f'{name} = "{column}"' for name, column in COLUMNS.items())
    (tmp_path / "mapping.toml").write_text(f"[[source]]\n[source.columns]\n{columns}\n")
    arguments = [str(file), str(tmp_path / "log"), str(tmp_path / "mapping.toml"), step]
    started = subprocess.Popen([sys.executable, "-c", _SLOW_IMPORT, *arguments], stdout=subprocess.PIPE)
    assert started.stdout is not None
    assert started.stdout.readline() == b"there\n"
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    started.stdout.close()
    assert not (tmp_path / "log").exists()
    report = import_log([file], tmp_path / "log", mapping(), ANY_BAD)
    assert report.events == 2_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "log", "mapping.toml"]
    assert (tmp_path / "log" / LOG_JSON).is_file()


def test_two_imports_do_not_write_one_log(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", [row()])
    refused: list[str] = []

    def progress(what: str, done: int, total: int | None) -> None:
        if what == "sort":
            with pytest.raises(LogError) as error:
                import_log([file], tmp_path / "log", mapping(), ANY_BAD)
            refused.append(str(error.value))

    import_log([file], tmp_path / "log", mapping(), ANY_BAD, progress=progress)
    assert refused
    assert "another import is writing" in refused[0]


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from models.events.errors import LogError
from models.events.importing import import_log
from models.events.importing.mapping import LogMapping
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    import_log.import_log([Path(sys.argv[1])], Path(sys.argv[2]), LogMapping.load(Path(sys.argv[3])))
except LogError as error:
    print(error)
"""


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", [row(time=TIME_MS + at, product=f"p{at}") for at in range(30_000)])
    columns = "\n".join(f'{name} = "{column}"' for name, column in COLUMNS.items())
    (tmp_path / "mapping.toml").write_text(f"[[source]]\n[source.columns]\n{columns}\n")
    arguments = [str(file), str(tmp_path / "log"), str(tmp_path / "mapping.toml")]
    done = subprocess.run([sys.executable, "-c", _FULL_DISK, *arguments], capture_output=True, text=True, check=False)
    assert "is full: an import needs about twice the size" in done.stdout, done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "mapping.toml"]


def test_numbers_that_are_none_and_long_ids_of_parquet(tmp_path: Path) -> None:
    long = 1_234_567_890_123_456_789
    table = pa.Table.from_pylist([row(), row(query="lamp")])
    ids = pa.array([Decimal(long), Decimal(7)], pa.decimal128(38, 0))
    table = table.set_column(table.column_names.index("product"), "product", ids)
    nobody = pa.array([float("nan"), float("inf")])
    table = table.set_column(table.column_names.index("shopper"), "shopper", nobody)
    pq.write_table(table, tmp_path / "a.parquet")
    events, _ = run(tmp_path, tmp_path / "a.parquet")
    assert {event["product_id"] for event in events} == {str(long), "7"}
    assert {event["shopper_id"] for event in events} == {""}


@pytest.mark.parametrize(
    ("cell", "expected"), [("20250131", "2025-01-30T23:00"), ("2025-01-31 10:00+02", "2025-01-31T08:00")]
)
def test_days_and_short_offsets_are_read_in_the_stated_zone(tmp_path: Path, cell: str, expected: str) -> None:
    run(tmp_path, write_csv(tmp_path / "a.csv", [row(time=cell)]), mapping(timezone="Europe/Berlin"))
    then = datetime.fromisoformat(f"{expected}+00:00")
    assert open_log(tmp_path / "log").time_ms.tolist() == [round(then.timestamp() * 1000)]
