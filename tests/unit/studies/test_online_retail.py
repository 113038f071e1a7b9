"""Invoices become purchases by customer and derived query; what is no sale is left out and counted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.events.event import EVENT_SCHEMA
from models.studies.purchases.evaluate_online_retail import evaluate_online_retail
from models.studies.purchases.online_retail import FILE, OnlineRetailError, derive_queries, read_online_retail

START = datetime(2011, 1, 4, 9, 30)

Line = tuple[str, str, str, int, float, float | None, str]
LINES: list[Line] = [
    ("536365", "85123a", "WHITE HEART HOLDER ", 6, 2.55, 17850.0, "United Kingdom"),
    ("536365", "71053", "WHITE METAL LANTERN", 6, 3.39, 17850.0, "United Kingdom"),
    ("C536379", "85123A", "WHITE HEART HOLDER", -1, 2.55, 17850.0, "United Kingdom"),
    ("536380", "71053", "METAL LANTERN", 2, 3.39, None, "France"),
    ("536381", "POST", "POSTAGE", 1, 18.0, 12583.0, "France"),
    ("536381", "85123A", "CREAM HEART HOLDER", 1, 2.95, 12583.0, "France"),
    ("536382", "85123A", "CREAM HEART HOLDER", 1, 2.95, 12583.0, "Atlantis"),
    ("536383", "71053", "WHITE METAL LANTERN", 1, 0.0, 12583.0, "France"),
]


def written(path: Path, lines: list[Line]) -> Path:
    names = ("InvoiceNo", "StockCode", "Description", "Quantity", "UnitPrice", "CustomerID", "Country")
    columns = dict(zip(names, map(list, zip(*lines, strict=True)), strict=True))
    columns["InvoiceDate"] = [START + timedelta(days=int(line[0].strip("C")) % 1000) for line in lines]
    pq.write_table(pa.table(columns), path)
    return path


def test_what_is_no_sale_of_a_product_to_a_customer_is_left_out_and_counted(tmp_path: Path) -> None:
    retail = read_online_retail(written(tmp_path / FILE, LINES))
    assert retail.left_out == {
        "cancelled": 1,
        "no customer": 1,
        "not a product": 1,
        "no quantity or price": 1,
        "no description": 0,
    }
    assert retail.log.num_rows == 4
    assert retail.log.schema == EVENT_SCHEMA


def test_a_product_has_its_commonest_description_and_median_price(tmp_path: Path) -> None:
    retail = read_online_retail(written(tmp_path / FILE, LINES))
    assert [(p.id, p.title, p.price_minor) for p in retail.products] == [
        ("71053", "WHITE METAL LANTERN", 339),
        ("85123A", "CREAM HEART HOLDER", 295),
    ]


def test_a_purchase_keeps_customer_invoice_place_and_price(tmp_path: Path) -> None:
    events = read_online_retail(written(tmp_path / FILE, LINES)).log.to_pylist()
    assert [event["shopper_id"] for event in events] == ["17850", "17850", "12583", "12583"]
    assert [event["session_id"] for event in events] == ["536365", "536365", "536381", "536382"]
    assert [event["locale"] for event in events] == ["und-GB", "und-GB", "und-FR", "und"]
    assert events[0]["price_minor"] == 255
    assert len({event["id"] for event in events}) == 4


def test_the_query_is_the_kind_of_the_product_and_no_colour_size_or_pattern() -> None:
    titles = [
        "WHITE HANGING HEART T-LIGHT HOLDER",
        "GLASS CANDLE HOLDERS",
        "LUNCH BAG RED RETROSPOT",
        "JUMBO BAG",
        "SET OF 3 BAGS PANTRY DESIGN",
        "BAG HOLDER LARGE",
    ]
    assert derive_queries(titles, min_kind=2) == ("holder", "holder", "bag", "bag", "bag", "holder")


def test_a_query_never_fits_fewer_products_than_asked_for() -> None:
    titles = ["BLUE MUG", "RED MUG", "TALL MUG CABINET", "TEAPOT", "12 PENCILS", "BLUE 3"]
    queries = derive_queries(titles, min_kind=3)
    assert queries == ("mug", "mug", "mug", "", "", "")
    assert derive_queries(titles, min_kind=4) == ("",) * 6


def test_what_is_not_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OnlineRetailError, match="cannot be read as Parquet"):
        read_online_retail(tmp_path / "nothing.parquet")
    pq.write_table(pa.table({"InvoiceNo": ["1"]}), tmp_path / FILE)
    with pytest.raises(OnlineRetailError, match="the columns StockCode, .* are missing"):
        read_online_retail(tmp_path / FILE)
    with pytest.raises(OnlineRetailError, match="no sale of a product"):
        read_online_retail(written(tmp_path / FILE, LINES[2:5]))


def test_customers_who_buy_the_same_again_are_recognised(tmp_path: Path) -> None:
    """Twenty customers, each with a mug of their own among thirty alike: history tells, popularity does not."""
    lines: list[Line] = [
        (f"{536000 + month * 20 + n}", f"{10000 + n}", f"PLAIN{chr(65 + n)} MUG", 1, 1.0, float(n), "Malta")
        for month in range(10)
        for n in range(20)
    ]
    lines += [("537000", f"{20000 + n}", f"OTHER{n} MUG", 1, 1.0, 99.0, "Malta") for n in range(10)]
    evaluation = evaluate_online_retail(written(tmp_path / FILE, lines), lambda *_: None)
    recall = {ranker: intervals["recall@5"].value for ranker, intervals in evaluation.summary.overall.items()}
    assert recall["earlier purchases among BM25"] == 1.0
    assert recall["popular among BM25"] < 0.5
    assert evaluation.facts.simulated is False


def test_the_real_data_gives_queries_that_fit_more_products_than_are_shown(real_data: Callable[[str], Path]) -> None:
    retail = read_online_retail(real_data(FILE))
    assert (len(retail.products), retail.log.num_rows) == (3_659, 396_337)
    assert min(retail.kind_sizes.values()) > 20
    assert retail.left_out["no customer"] == 134_697


def test_on_real_purchases_history_beats_popularity_and_popularity_words(real_data: Callable[[str], Path]) -> None:
    summary = evaluate_online_retail(real_data(FILE), lambda *_: None, max_cases=2_000).summary
    words, popular, lately, history, both = (
        summary.main(name)
        for name in (
            "BM25",
            "popular among BM25",
            "bought lately among BM25",
            "earlier purchases among BM25",
            "earlier purchases among BM25, then bought lately",
        )
    )
    assert words.high < popular.low < popular.high < history.low
    assert popular.high < lately.low
    assert max(lately.high, history.high) < both.low
