"""What training reads of a history from columns is what serving makes of the same events, and nothing of the future."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.events.errors import LogError
from models.events.event import EVENT_SCHEMA, Event, EventKind
from models.events.kinds import CLICK, PURCHASE
from models.products.product import Product
from models.unified.examples import Examples, HeldOutSearches
from models.unified.features import product_features
from models.unified.histories import Histories
from models.unified.history import (
    MAX_ATTRIBUTES,
    HistoryBlocks,
    HistoryItem,
    HistoryKind,
    block_items,
    history_items,
    query_words,
    short_attributes,
)
from models.unified.price_bands import PriceBands
from models.unified.shopping_log import ShoppingLog
from models.unified.words import Ragged, WordBook, WordHashing

PRODUCTS = [
    Product("A", "Velvet Sofa", "Halden", "Furniture > Sofas", 49_900, True, {"colour": "red"}),
    Product("B", "Café Table", "Nord", "Furniture > Tables", 9_900),
    Product("C", "Lamp", "", "", None),
]
BLOCKS = HistoryBlocks(2, 3, 3, 2)


def event(id: str, time_ms: int, kind: str, product: str, **fields: object) -> dict[str, object]:  # noqa: A002
    usual: dict[str, object] = {"shopper_id": "S", "session_id": "1", "locale": "en-US", "query": "couch"}
    return {"id": id, "time": time_ms, "kind": kind, "product_id": product, **usual, **fields}


EVENTS = [
    event("1", 100, "impression", "A"),
    event("2", 110, "click", "A"),
    event("3", 120, "cart", "A"),
    event("4", 130, "purchase", "A"),
    event("5", 200, "impression", "B", query="desk", session_id="2"),
    event("6", 205, "click", "B", query="desk", session_id="2"),
    event("7", 210, "click", "gone", query="desk", session_id="2"),
    event("8", 300, "click", "C", query="light", session_id="3", shopper_id=""),
    event("9", 400, "impression", "B", query="table", session_id="4"),
    event("10", 420, "purchase", "B", query="table", session_id="4"),
    event("11", 430, "impression", "C", query="light", session_id="3", shopper_id=""),
    event("12", 500, "purchase", "A", query="sofa", session_id="3", shopper_id=""),
]


def log_of(events: list[dict[str, object]]) -> ShoppingLog:
    return ShoppingLog.from_table(pa.Table.from_pylist(events, EVENT_SCHEMA), [product.id for product in PRODUCTS])


def columns_words(shopper: str, time_ms: int) -> list[list[str]]:
    """Words of the history's tokens, block after block, as training sees them."""
    log = log_of(EVENTS)
    book = WordBook(WordHashing())
    features = product_features(PRODUCTS, PriceBands.from_products(PRODUCTS), book, WordHashing())
    queries = Ragged.from_rows([book.numbers(query_words(query)) for query in log.queries])
    texts = Ragged.concatenate([queries, features.terms, features.tags, features.brands])
    histories = Histories.from_log(log, BLOCKS, features.brand)
    number = log.shopper[[e["shopper_id"] for e in EVENTS].index(shopper)]
    found = histories.before(np.array([number]), np.array([time_ms]))[0]
    words = {at: word for word, at in book.items()}
    return [[words[w] for w in texts.row(at).tolist()] if at >= 0 else [] for at in found.tolist()]


def served_words(shopper: str, time_ms: int) -> list[list[str]]:
    """The same as serving makes them of events."""
    events = [
        Event(
            str(e["id"]),
            int(str(e["time"])),
            shopper,
            str(e["session_id"]),
            "en-US",
            EventKind(str(e["kind"])),
            str(e["product_id"]),
            str(e["query"]),
        )
        for e in EVENTS
        if e["shopper_id"] == shopper and int(str(e["time"])) < time_ms
    ]
    by_id = {product.id: product for product in PRODUCTS}
    blocks = block_items(history_items(events, by_id.get, PriceBands.from_products(PRODUCTS).band), BLOCKS)
    sizes = BLOCKS.sizes()
    return [words for name, items in blocks.items() for words in items + [[]] * (sizes[name] - len(items))]


@pytest.mark.parametrize("shopper", ["S", ""])
@pytest.mark.parametrize("time_ms", [0, 100, 111, 131, 206, 400, 421, 10_000])
def test_training_and_serving_read_the_same_history(shopper: str, time_ms: int) -> None:
    assert columns_words(shopper, time_ms) == served_words(shopper, time_ms)


def test_nothing_at_or_after_the_moment_is_in_a_history() -> None:
    """The event at 110 is the first click: it is known at 111, and neither at 110 nor before."""
    clicks = slice(BLOCKS.queries, BLOCKS.queries + BLOCKS.clicks)
    assert not any(columns_words("S", 110)[clicks])
    assert columns_words("S", 111)[clicks][0][:2] == ["velvet", "sofa"]


def test_a_click_does_not_announce_its_own_purchase() -> None:
    """Of a search all that follows is judged by what was known when it was made."""
    examples = Examples.from_log(log_of(EVENTS), until_ms=10_000, impressions_per_positive=0.0, seed=0)
    assert examples.searched_ms.tolist() == [100, 200, 300, 400, 500]
    assert examples.kind.tolist() == [PURCHASE, CLICK, CLICK, PURCHASE, PURCHASE]  # the strongest of a product


def test_examples_end_with_the_window_and_held_out_searches_begin_after_it() -> None:
    log = log_of(EVENTS)
    assert Examples.from_log(log, 400, 0.0, 0).searched_ms.max() < 400
    held = HeldOutSearches.from_log(log, 400)
    bought = held.bought_product[np.argsort(held.bought_search)]
    found = zip([log.queries[query] for query in held.query], bought.tolist(), held.is_anonymous.tolist(), strict=True)
    assert sorted(found) == [("sofa", 0, True), ("table", 1, False)]


def test_an_anonymous_session_knows_its_own_past_and_no_others() -> None:
    log = log_of([*EVENTS, event("13", 600, "click", "A", session_id="9", shopper_id="")])
    third, ninth = (log.shopper[at] for at in (7, 12))
    assert third == log.shopper[10]
    assert third != ninth


def test_the_order_of_items_does_not_matter_and_the_latest_come_first() -> None:
    items = [HistoryItem(HistoryKind.SEARCH, time, query=f"query {time}") for time in (1, 3, 2)]
    assert block_items(items, BLOCKS)["queries"] == [["query", "3"], ["query", "2"]]


def test_an_event_that_comes_twice_counts_once_and_rows_need_no_order() -> None:
    log = log_of([*reversed(EVENTS), EVENTS[3]])
    assert len(log) == len(EVENTS)
    assert log.time_ms.tolist() == sorted(log.time_ms.tolist())


def test_a_log_that_cannot_be_learned_from_says_what_is_wrong(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(EVENTS, EVENT_SCHEMA)
    with pytest.raises(LogError, match="no column query"):
        ShoppingLog.from_table(table.drop_columns(["query"]), ["A"])
    with pytest.raises(LogError, match="no event"):
        ShoppingLog.from_table(table.slice(0, 0), ["A"])
    with pytest.raises(LogError, match="time is string"):
        ShoppingLog.from_table(table.set_column(1, "time", pa.array(["x"] * len(table))), ["A"])

    kinds = pa.array(["look"] * len(table))
    with pytest.raises(LogError, match="kind holds 'look'"):
        ShoppingLog.from_table(table.set_column(5, "kind", kinds), ["A"])
    with pytest.raises(LogError, match="0 clicks"):
        Examples.from_log(ShoppingLog.from_table(table, ["other"]), 10_000, 0.0, 0)
    (tmp_path / "log.parquet").write_text("no")
    with pytest.raises(LogError, match="not a log in Parquet"):
        ShoppingLog.read(tmp_path / "log.parquet", ["A"])


def test_price_bands_are_those_of_the_category_where_it_has_enough_products() -> None:
    cheap = [Product(f"m{i}", "Mug", "", "Mugs", 100 + i) for i in range(40)]
    dear = [Product(f"s{i}", "Sofa", "", "Sofas", 90_000 + i) for i in range(40)]
    bands = PriceBands.from_products([*cheap, *dear, PRODUCTS[2]])
    assert [bands.band(cheap[0]), bands.band(cheap[-1]), bands.band(dear[0]), bands.band(dear[-1])] == [0, 4, 0, 4]
    assert bands.band(PRODUCTS[2]) is None
    assert bands.band(Product("x", "Desk", "", "Desks", 50_000)) == 2  # among all


def test_of_many_attributes_those_that_products_share_are_kept() -> None:
    few = {"width": "35 mm", "colour": "Red"}
    assert short_attributes(few) == ("width=35 mm", "colour=red")
    measures = {f"m{at}": f"{at} mm" for at in range(MAX_ATTRIBUTES)}
    many = short_attributes({**measures, "colour": "Red", "style": "rustic"})
    assert many[:3] == ("colour=red", "style=rustic", "m0=0 mm")
    assert len(many) == MAX_ATTRIBUTES
