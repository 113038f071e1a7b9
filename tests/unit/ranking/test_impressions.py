"""Pages with nested labels, and histories that know nothing of their own page or of anything later."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.events.errors import LogError
from models.events.event import EVENT_SCHEMA, Event, EventKind
from models.products.product import Product
from models.products.product_table import ProductTable, write_products
from models.ranking.impressions import Impressions, read_impressions
from models.unified.history import HistoryItem, HistoryKind, history_items
from models.unified.price_bands import PriceBands

PRODUCTS = [
    Product("A", "Velvet Sofa", "Halden", "Furniture > Sofas", 49_900, True, {"colour": "red"}),
    Product("B", "Café Table", "Nord", "Furniture > Tables", 9_900),
    Product("C", "Lamp", "", "", None),
]
BANDS = PriceBands.from_products(PRODUCTS)


def event(time_ms: int, kind: str, product: str, position: int | None = None, **fields: object) -> dict[str, object]:
    usual: dict[str, object] = {"shopper_id": "S", "session_id": "1", "locale": "en-US", "query": "couch"}
    usual["id"] = json.dumps([time_ms, kind, product, fields])
    return usual | {"time": time_ms, "kind": kind, "product_id": product, "position": position} | fields


DESK = {"query": "desk", "session_id": "2"}
EVENTS = [
    event(100, "impression", "B", 2),
    event(100, "impression", "A", 1),
    event(110, "click", "A", 1),
    event(120, "purchase", "A", 1),  # the cart was not logged
    event(130, "impression", "gone", 3),
    event(200, "impression", "C", 1, **DESK),
    event(200, "impression", "B", 2, **DESK),
    event(200, "impression", "A", 3, **DESK),
    event(210, "cart", "B", 2, **DESK),
    event(300, "click", "C", 1, query="light", session_id="3"),  # without an impression
    event(400, "impression", "A", 1, query="sofa", session_id="4", shopper_id=""),
    event(410, "click", "A", 1, query="sofa", session_id="4", shopper_id=""),
    event(420, "impression", "C", None, query="light", session_id="4", shopper_id=""),
    event(430, "impression", "C", 1, query="", session_id="5"),  # no search
]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ProductTable:
    path = tmp_path_factory.mktemp("shown") / "products.arrow"
    write_products(path, PRODUCTS, ("colour",))
    return ProductTable(path)


def read(table: ProductTable, events: list[dict[str, object]] = EVENTS, **window: int) -> Impressions:
    return read_impressions(pa.Table.from_pylist(events, EVENT_SCHEMA), table, BANDS, **window)  # type: ignore[arg-type]


def test_a_page_holds_what_was_shown_by_position_and_what_came_of_it(table: ProductTable) -> None:
    shown = read(table)
    assert shown.queries == ["couch", "desk", "sofa", "light"]
    assert shown.page.tolist() == [0, 0, 1, 1, 1, 2, 3]
    assert [PRODUCTS[row].id for row in shown.product.tolist()] == ["A", "B", "C", "B", "A", "A", "C"]
    assert shown.position.tolist() == [1, 2, 1, 2, 3, 1, 0]
    assert shown.labels.tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert shown.is_anonymous.tolist() == [False, False, True, True]
    assert shown.time_ms.tolist() == [100, 200, 400, 420]


def test_labels_are_nested(table: ProductTable) -> None:
    labels = read(table).labels
    assert (np.diff(labels, axis=1) <= 0).all()


def test_a_history_is_what_serving_makes_of_the_events_before(table: ProductTable) -> None:
    def served(events: list[dict[str, object]]) -> list[HistoryItem]:
        told = [
            Event(
                "", int(str(e["time"])), "", str(e["session_id"]), "", EventKind(str(e["kind"])), str(e["product_id"])
            )
            for e in events
        ]
        queries = [str(e["query"]) for e in events]
        with_query = [
            Event(t.id, t.time_ms, "", t.session_id, "", t.kind, t.product_id, q)
            for t, q in zip(told, queries, strict=True)
        ]
        return history_items(with_query, lambda name: next((p for p in PRODUCTS if p.id == name), None), BANDS.band)

    shown = read(table)
    assert shown.histories[0] == []
    assert shown.histories[1] == served(EVENTS[:5])
    assert [item.kind for item in shown.histories[1]] == [HistoryKind.SEARCH, HistoryKind.CLICK, HistoryKind.PURCHASE]
    # An anonymous shopper is their session: the page before, and nothing of who else searched.
    assert shown.histories[2] == []
    assert shown.histories[3] == served(EVENTS[10:12])


def test_a_history_holds_nothing_of_its_own_search_or_later(table: ProductTable) -> None:
    shown = read(table)
    for searched_ms, history in zip(shown.time_ms.tolist(), shown.histories, strict=True):
        assert all(item.time_ms < searched_ms for item in history)


def test_what_happens_after_the_window_is_not_known(table: ProductTable) -> None:
    early = read(table, until_ms=115)
    assert early.queries == ["couch"]
    assert early.labels[0].tolist() == [1, 0, 0]  # the purchase came at 120
    late = read(table, since_ms=200)
    assert late.queries == ["desk", "sofa", "light"]
    assert len(late.histories[0]) == 3  # what came before the window is still the past
    with pytest.raises(LogError, match="shows no product"):
        read(table, until_ms=100)
    with pytest.raises(ValueError, match="since_ms 5 must be before until_ms 5"):
        read(table, since_ms=5, until_ms=5)


def test_pages_are_drawn_whole_and_alike_for_a_seed(table: ProductTable) -> None:
    many = [
        event(1000 * page + at, "impression", "AB"[at], at + 1, session_id=str(page), query=f"q{page}")
        for page in range(50)
        for at in range(2)
    ]
    drawn, again, other = (read(table, many, max_pages=10, seed=seed) for seed in (0, 0, 1))
    assert drawn.num_pages == 10
    assert np.bincount(drawn.page).tolist() == [2] * 10
    assert drawn.queries == again.queries != other.queries
    assert (np.diff(drawn.time_ms) > 0).all()


def test_pages_are_taken_in_the_order_asked_for(table: ProductTable) -> None:
    shown = read(table)
    taken = shown.take(np.array([2, 0]))
    assert taken.queries == ["sofa", "couch"]
    assert taken.page.tolist() == [0, 1, 1]
    assert taken.product.tolist() == [0, 0, 1]
    assert taken.labels[0].tolist() == [1, 0, 0]
    early, late = shown.before(400)
    assert (early.queries, late.queries) == (["couch", "desk"], ["sofa", "light"])
    assert late.page.tolist() == [0, 1]


def test_positions_stay_with_their_events_where_the_file_is_out_of_order_and_repeats(
    table: ProductTable, tmp_path: Path
) -> None:
    disordered = [*EVENTS[::-1], EVENTS[1] | {"position": 9}]
    pq.write_table(pa.Table.from_pylist(disordered, EVENT_SCHEMA), tmp_path / "events.parquet")
    shown = read_impressions(tmp_path / "events.parquet", table, BANDS)
    assert shown.position.tolist() == read(table).position.tolist()


def test_a_log_that_cannot_be_read_is_refused_by_name(table: ProductTable, tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no column position"):
        read_impressions(pa.Table.from_pylist(EVENTS, EVENT_SCHEMA).drop(["position"]), table, BANDS)
    with pytest.raises(LogError, match="is not a log in Parquet"):
        read_impressions(tmp_path / "none.parquet", table, BANDS)
    with pytest.raises(ValueError, match="max_pages must be 1 or more, not 0"):
        read(table, max_pages=0)
