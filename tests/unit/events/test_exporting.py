"""What a service showed and what shoppers did becomes a log whose impressions have their places, and the clicks on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.events.errors import LogError
from models.events.event import EVENT_SCHEMA, Event, EventKind
from models.events.event_log import open_log
from models.events.exporting.page_log import read_pages
from models.events.exporting.served_log import ServedLog
from models.events.shopper_events import ShopperEvents
from models.events.shown_pages import page_schema
from models.events.write_events import write_events

NOW = 1_790_000_000_000
MINUTE = 60_000
DAY = 24 * 60 * MINUTE


def page(request_id: str, *products: str, at: int = 0, **changes: Any) -> dict[str, Any]:
    """A page `at` minutes after NOW."""
    row = {
        "time": NOW + at * MINUTE, "request_id": request_id, "locale": "en-US", "query": "red sofa", "searched_query": "red sofa",
        "shopper": None, "bundle_version": "v", "ranked_by": "student", "sorted_by": "", "is_filtered": False, "offset": 0,
        "product_id": list(products), "score": [1.0] * len(products), "price_minor": [100] * len(products), "features": None,
    }  # fmt: skip
    return row | changes


def event(number: int, product: str, request_id: str = "", *, at: int = 1, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "id": f"e{number}", "time_ms": NOW + at * MINUTE, "shopper_id": "", "session_id": "theirs", "locale": "en-GB",
        "kind": EventKind.CLICK, "product_id": product, "query": "", "request_id": request_id,
    }  # fmt: skip
    return Event(**values | changes)


def shopper(name: str, *events: Event, tag: bytes = b"") -> ShopperEvents:
    def tag_of(day: int) -> bytes:
        return tag and tag + b"%d" % day

    return ShopperEvents(name=name, events=events, tag_of=tag_of)


def tag(text: bytes, at: int = 0) -> bytes:
    return text + b"%d" % ((NOW + at * MINUTE) // DAY)


def write_pages(folder: Path, *pages: dict[str, Any], name: str = "0") -> None:
    folder.mkdir(exist_ok=True)
    schema = page_schema((), 1.0)
    pq.write_table(pa.Table.from_pylist(list(pages), schema=schema), folder / f"{name}.parquet")


class Export:
    """Pages and shoppers, exported."""

    def __init__(
        self,
        folder: Path,
        pages: list[dict[str, Any]],
        *shoppers: ShopperEvents,
        chunk_pages: int = 5000,
        **limits: Any,
    ) -> None:
        write_pages(folder, *pages)
        served = ServedLog(read_pages(folder, **limits), **limits)
        served.join(shoppers)
        self.counts = served.counts
        self.file = folder / "log" / "events.parquet"
        self.file.parent.mkdir(exist_ok=True)
        write_events(self.file, served.rows.batches(chunk_pages=chunk_pages))
        self.rows = pq.read_table(self.file).to_pylist()
        assert pq.read_schema(self.file).names == EVENT_SCHEMA.names

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["kind"] == kind]

    @property
    def impressions(self) -> list[tuple[str, int]]:
        return [(row["product_id"], row["position"]) for row in self.of_kind("impression")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pages"


def test_a_page_becomes_impressions_and_a_click_on_it_has_its_place_query_and_session(folder: Path) -> None:
    done = Export(folder, [page("r1", "a", "b", "c", offset=24)], shopper("ann", event(1, "b", "r1", price_minor=90)))
    assert done.impressions == [("a", 25), ("b", 26), ("c", 27)]
    (click,) = done.of_kind("click")
    shown = done.of_kind("impression")
    assert {row["shopper_id"] for row in done.rows} == {"ann"}
    assert {row["session_id"] for row in done.rows} == {f"ann-{NOW}"}
    assert (click["query"], click["locale"], click["position"], click["price_minor"]) == ("red sofa", "en-US", 26, 90)
    assert [row["price_minor"] for row in shown] == [100, 100, 100]
    assert len({row["id"] for row in done.rows}) == 4
    assert done.counts.by_request == 1


def test_training_reads_the_page_with_its_click(folder: Path) -> None:
    done = Export(
        folder,
        [page("r1", "a", "b"), page("r2", "c", "d", at=90)],
        shopper("ann", event(1, "b", "r1"), event(2, "b", "r1", kind=EventKind.PURCHASE, at=5)),
    )
    log = open_log(done.file)
    assert len(log) == 6
    assert log.num_without_session == 0
    assert (log.num_sessions, log.shoppers.to_pylist()) == (2, ["ann"])
    assert np.asarray(log.position).tolist() == [1, 2, 2, 2, 1, 2]


def test_a_page_without_a_shopper_is_an_anonymous_session_of_its_own(folder: Path) -> None:
    done = Export(folder, [page("r1", "a", "b"), page("r2", "a")])
    assert {row["shopper_id"] for row in done.rows} == {""}
    first, same, other = (row["session_id"] for row in done.rows)
    assert first == same != other
    assert not any("r1" in value for row in done.rows for value in row.values() if isinstance(value, str))


@pytest.mark.parametrize("chunk_pages", [1, 2, 5, 5000])
def test_the_log_is_in_order_of_time_however_many_pages_are_made_at_once(folder: Path, chunk_pages: int) -> None:
    pages = [page(f"r{n}", "a", "b", at=n * 3) for n in (4, 0, 3, 1, 2)]
    events = [event(n, "x", at=n) for n in range(-2, 20)]
    done = Export(folder, pages, shopper("ann", *events), chunk_pages=chunk_pages)
    times = [row["time"] for row in done.rows]
    assert times == sorted(times)
    assert len(done.rows) == 10 + 22


class TestPageOfAnEvent:
    def test_an_event_on_a_page_that_was_not_logged_has_no_impressions_and_joins_no_other_page(
        self, folder: Path
    ) -> None:
        clicks = event(1, "a", "r1"), event(2, "z", "unlogged", query="Red  SOFA"), event(3, "z", "r9", query="lamp")
        done = Export(folder, [page("r1", "a", "b")], shopper("ann", *clicks))
        assert done.counts.on_unlogged == 2
        session = {row["product_id"]: row["session_id"] for row in done.of_kind("click")}
        assert session == {"a": f"ann-{NOW}", "z": f"ann-{NOW}"}  # the lamp: another query is another search
        first = next(row for row in done.of_kind("click") if row["query"] == "Red  SOFA")
        assert first["session_id"] == f"ann-{NOW}~"

    def test_an_event_that_names_a_page_without_its_product_is_not_of_that_page(self, folder: Path) -> None:
        done = Export(folder, [page("r1", "a", "b")], shopper("ann", event(1, "z", "r1", query="red sofa")))
        assert (done.counts.not_shown, done.counts.by_request) == (1, 0)
        assert {row["shopper_id"] for row in done.of_kind("impression")} == {""}

    def test_a_page_belongs_to_one_shopper(self, folder: Path) -> None:
        done = Export(
            folder, [page("r1", "a")], shopper("ann", event(1, "a", "r1")), shopper("bob", event(2, "a", "r1"))
        )
        assert (done.counts.by_request, done.counts.not_shown) == (1, 1)
        assert [row["shopper_id"] for row in done.of_kind("impression")] == ["ann"]

    def test_a_request_id_of_several_pages_is_the_nearest_that_shows_the_product(self, folder: Path) -> None:
        pages = [page("r1", "a", "b"), page("r1", "b", "c", at=10, offset=2)]
        clicks = event(1, "a", "r1", at=11), event(2, "b", "r1", at=11), event(3, "b", "r1", at=1)
        done = Export(folder, pages, shopper("ann", *clicks))
        assert [(row["product_id"], row["position"]) for row in done.of_kind("click")] == [("b", 2), ("a", 1), ("b", 3)]

    def test_without_a_request_id_it_is_the_latest_page_of_shopper_and_query(self, folder: Path) -> None:
        pages = [
            page("r1", "a", "b", shopper=tag(b"ann")),
            page("r2", "b", "a", at=10, shopper=tag(b"ann")),
            page("r3", "a", at=11, shopper=tag(b"bob")),
            page("r4", "a", at=12, query="lamp", shopper=tag(b"ann")),
        ]
        clicks = [
            event(1, "a", query="RED sofa", at=20),
            event(2, "a", query="red sofa", at=5),
            event(3, "z", query="red sofa", at=20),  # not shown
            event(4, "a", query="red sofa", at=41),  # too late
            event(5, "a", query="red sofa", at=-1),  # too early
            event(6, "a", at=20),  # no query
        ]
        done = Export(folder, pages, shopper("ann", *clicks, tag=b"ann"))
        assert (done.counts.by_query, done.counts.nameless) == (2, 4)
        placed = {row["time"].timestamp() * 1000: row["position"] for row in done.of_kind("click") if row["position"]}
        assert placed == {NOW + 5 * MINUTE: 1, NOW + 20 * MINUTE: 2}

    def test_a_clock_behind_does_not_put_a_click_before_its_page(self, folder: Path) -> None:
        done = Export(folder, [page("r1", "a", at=5)], shopper("ann", event(1, "a", "r1", at=4)))
        assert [row["kind"] for row in done.rows] == ["impression", "click"]
        assert done.rows[0]["time"] == done.rows[1]["time"]

    def test_a_recorded_impression_of_a_logged_page_is_left_out(self, folder: Path) -> None:
        seen = [event(n, "a", r, kind=EventKind.IMPRESSION) for n, r in enumerate(["r1", "unlogged"])]
        done = Export(folder, [page("r1", "a")], shopper("ann", *seen))
        assert done.counts.stored_impressions == 1
        assert len(done.impressions) == 2
        assert {row["shopper_id"] for row in done.rows} == {"ann"}


class TestShoppers:
    def test_tagged_pages_are_their_shoppers_and_sessions_end_with_a_pause(self, folder: Path) -> None:
        pages = [page(f"r{at}", "a", at=at, shopper=tag(b"ann", at)) for at in (0, 29, 80)]
        done = Export(folder, pages, shopper("ann", event(1, "z", at=55), tag=b"ann"))
        by_time = [(row["kind"], row["session_id"]) for row in done.rows]
        assert by_time == [
            ("impression", f"ann-{NOW}"),
            ("impression", f"ann-{NOW}"),
            ("click", f"ann-{NOW}"),
            ("impression", f"ann-{NOW}"),
        ]
        done = Export(folder, [*pages, page("r", "a", at=111, shopper=tag(b"ann", 111))], shopper("ann", tag=b"ann"))
        assert len({row["session_id"] for row in done.rows}) == 3
        assert {row["shopper_id"] for row in done.rows} == {"ann"}

    def test_pages_of_a_forgotten_shopper_are_anonymous_and_apart(self, folder: Path) -> None:
        pages = [page("r1", "a", shopper=tag(b"ann")), page("r2", "a", shopper=tag(b"ann"))]
        done = Export(folder, pages, shopper("bob", tag=b"bob"))
        assert done.counts.of_nobody == 2
        assert {row["shopper_id"] for row in done.rows} == {""}
        assert len({row["session_id"] for row in done.rows}) == 2

    def test_an_event_does_not_claim_a_page_with_the_tag_of_somebody_else(self, folder: Path) -> None:
        pages = [page("r1", "a", shopper=tag(b"ann")), page("r2", "a", at=1, shopper=tag(b"ann before"))]
        claims = shopper("bob", event(1, "a", "r1"), tag=b"bob"), shopper("ann", event(2, "a", "r2"), tag=b"ann")
        done = Export(folder, pages, *claims)
        assert [row["shopper_id"] for row in done.of_kind("impression")] == ["ann", ""]
        assert (done.counts.by_request, done.counts.not_shown) == (0, 2)


class TestWhatIsLeftOut:
    def test_pages_that_tell_nothing_of_relevance(self, folder: Path) -> None:
        pages = [
            page("r1", "a", "b", sorted_by="price"),
            page("r2", "a", query=""),
            page("r3"),
            page("r4", "c"),
        ]
        clicks = event(1, "b", "r1"), event(2, "a", "r2", query="x")
        done = Export(folder, pages, shopper("ann", *clicks))
        assert done.impressions == [("c", 1)]
        assert (done.counts.sorted, done.counts.without_query, done.counts.empty) == (1, 1, 1)
        assert [(row["query"], row["position"]) for row in done.of_kind("click")] == [("red sofa", 2), ("", 1)]
        said = "; ".join(done.counts.lines())
        assert "4 pages in the request log; 1 pages left out: in an order that the caller named" in said

    def test_times_outside_the_limits(self, folder: Path) -> None:
        pages = [page(f"r{at}", f"p{at}", at=at) for at in (0, 10, 20)]
        clicks = [event(at, f"p{at}", f"r{at}", at=at) for at in (0, 10, 20)]
        limits = {"since_ms": NOW + 10 * MINUTE, "until_ms": NOW + 20 * MINUTE}
        done = Export(folder, pages, shopper("ann", *clicks), **limits)
        assert [row["product_id"] for row in done.rows] == ["p10", "p10"]


class TestFiles:
    def test_all_whole_files_are_read_and_others_are_named(self, folder: Path) -> None:
        write_pages(folder, page("r2", "b", at=1), name="1")
        write_pages(folder, page("r1", "a"), name="2")
        whole = (folder / "1.parquet").read_bytes()
        (folder / "3.parquet").write_bytes(whole[: len(whole) // 2])
        (folder / ".4.parquet.partial").write_bytes(b"half")
        pages = read_pages(folder)
        assert pages.request_ids == ["r1", "r2"]
        assert (pages.num_files, pages.unread_files) == (2, ("3.parquet",))

    def test_a_file_of_another_kind_is_refused(self, folder: Path) -> None:
        write_pages(folder, page("r1", "a"))
        table = pq.read_table(folder / "0.parquet")
        pq.write_table(table.replace_schema_metadata({b"aisle.request_log": b"9"}), folder / "1.parquet")
        with pytest.raises(LogError, match=r"1.parquet is no file of a request log of format 1 \(it has format 9\)"):
            read_pages(folder)
        pq.write_table(pa.table({"a": [1]}), folder / "1.parquet")
        with pytest.raises(LogError, match="move it elsewhere"):
            read_pages(folder)

    def test_without_pages_there_are_clicks_alone(self, tmp_path: Path) -> None:
        served = ServedLog(read_pages(tmp_path / "nowhere"))
        served.join([shopper("ann", event(1, "a", "r1"))])
        (batch,) = [batch for batch in served.rows.batches() if batch.num_rows]
        assert batch.num_rows == 1
        assert served.rows.num_impressions == 0


def test_two_exports_of_one_time_are_one_log(folder: Path, tmp_path: Path) -> None:
    one = Export(folder, [page("r1", "a", "b")], shopper("ann", event(1, "b", "r1")))
    assert len(open_log([one.file, one.file])) == 3
