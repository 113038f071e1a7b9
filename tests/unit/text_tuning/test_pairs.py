from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.bundles.source import Source
from models.events.errors import LogError
from models.events.event import EVENT_SCHEMA
from models.products.product import Product, product_text
from models.products.product_table import ProductTable, write_products
from models.text_tuning.pairs import ClickPairs, PairRules, gather_pairs, read_log
from models.text_tuning.product_texts import TextFields, product_texts
from models.text_tuning.query_keys import LeakGuard, loose_key, plain_key
from models.unified.shopping_log import ShoppingLog

IDS = ["A", "B", "C", "D"]
UNDAMPED = PairRules(damping="none")


def events(rows: Sequence[tuple[str, str, str, str]], first: int = 0) -> pa.Table:
    """From (session, query, kind, product), a millisecond apart."""
    return pa.Table.from_pylist(
        [
            {
                "id": str(first + at),
                "time": first + at,
                "shopper_id": "",
                "session_id": session,
                "locale": "en-US",
                "kind": kind,
                "product_id": product,
                "query": query,
            }
            for at, (session, query, kind, product) in enumerate(rows)
        ],
        EVENT_SCHEMA,
    )


def log(*rows: tuple[str, str, str, str]) -> ShoppingLog:
    return ShoppingLog.from_table(events(rows), IDS)


def as_dict(pairs: ClickPairs) -> dict[tuple[str, str], float]:
    return {
        (pairs.queries[query], IDS[product]): weight
        for query, product, weight in zip(
            pairs.query.tolist(), pairs.product.tolist(), pairs.weight.tolist(), strict=True
        )
    }


# ---- which queries are the same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("velvet sofa", "Sofas, velvet"),
        ("cookie jars", "jar cookies"),
        ("knife", "KNIVES"),
        ("gloves", "glove"),
        ("box", "boxes"),
        ("candy dress", "candies dresses"),
        ("café table", "cafe tables"),
    ],
)
def test_order_plural_case_and_accents_make_no_other_query(one: str, other: str) -> None:
    assert loose_key(one) == loose_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("red sofa", "blue sofa"), ("bus", "bu"), ("glass", "glas"), ("a 1", "a 2")]
)
def test_other_words_make_another_query(one: str, other: str) -> None:
    assert loose_key(one) != loose_key(other)


def test_the_guard_knows_near_duplicates_and_lets_others_pass() -> None:
    guard = LeakGuard(["T-Shirt blue", "sofa"])
    assert all(query in guard for query in ("t shirts blue", "blue t-shirt", "tshirtblue", "SOFAS!", " sofa "))
    assert not any(query in guard for query in ("t shirt", "blue", "sofa bed", "", "?!"))
    assert "anything" not in LeakGuard([])


def test_the_plain_key_keeps_order_and_number() -> None:
    assert plain_key(" Velvet  SOFAS! ") == "velvet sofas"
    assert plain_key("sofas velvet") != plain_key("velvet sofas")


# ---- pairs


def test_weights_are_the_points_of_searches_and_what_repeats_within_a_search_counts_once() -> None:
    shopped = log(
        ("s1", "sofa", "click", "A"),
        ("s1", "sofa", "click", "A"),
        ("s1", "sofa", "cart", "A"),
        ("s2", "sofa", "click", "A"),
        ("s2", "sofa", "purchase", "A"),
        ("s2", "rug", "click", "B"),
    )
    assert as_dict(gather_pairs(shopped, UNDAMPED)) == {("sofa", "A"): 1 + 2 + 1 + 4, ("rug", "B"): 1}


@pytest.mark.parametrize(("damping", "expected"), [("none", 3.0), ("sqrt", np.sqrt(3.0)), ("log", np.log(4.0))])
def test_points_are_damped(damping: str, expected: float) -> None:
    shopped = log(*((f"s{at}", "sofa", "click", "A") for at in range(3)))
    weights = gather_pairs(shopped, PairRules(damping=damping)).weight  # type: ignore[arg-type]
    assert weights == pytest.approx([expected])


def test_queries_that_differ_in_case_and_marks_are_one_as_typed_most_often() -> None:
    shopped = log(
        ("s1", "SOFA", "click", "A"),
        ("s2", "sofa!", "click", "A"),
        ("s3", "sofa!", "click", "B"),
        ("s4", "sofas", "click", "C"),
    )
    pairs = gather_pairs(shopped, UNDAMPED)
    assert as_dict(pairs) == {("sofa!", "A"): 2, ("sofa!", "B"): 1, ("sofas", "C"): 1}
    assert pairs.report.queries_merged == 1
    assert pairs.group.tolist() == [0, 0]
    assert pairs.clicked.row(0).tolist() == [0, 1, 2]


def test_a_pair_below_the_threshold_is_not_learned_from_but_remembered_as_clicked() -> None:
    shopped = log(
        ("s1", "sofa", "click", "A"),
        ("s2", "sofa", "click", "A"),
        ("s1", "sofa", "click", "B"),
        ("s1", "sofa", "purchase", "B"),
    )
    pairs = gather_pairs(shopped, PairRules(min_searches=2, damping="none"))
    assert as_dict(pairs) == {("sofa", "A"): 2}
    assert pairs.clicked.row(0).tolist() == [0, 1]
    assert (pairs.report.pairs_found, pairs.report.pairs_below_threshold, pairs.report.pairs) == (2, 1, 1)


def test_every_event_that_is_not_used_is_counted_under_one_reason() -> None:
    shopped = log(
        ("s1", "sofa", "impression", "A"),
        ("s1", "", "click", "A"),
        ("s1", "?!", "click", "A"),
        ("s1", "sofa", "click", "nowhere"),
        ("s1", "Rugs", "click", "A"),
        ("s1", "sofa", "click", "D"),
        ("s1", "sofa", "click", "A"),
        ("s1", "sofa", "click", "B"),
    )
    pairs = gather_pairs(shopped, UNDAMPED, excluded_queries=["rug"], excluded_products=[3], before_ms=7)
    report = pairs.report
    assert as_dict(pairs) == {("sofa", "A"): 1}
    assert report.dropped == {
        "impression": 1,
        "without a query": 1,
        "query without words": 1,
        "product not in the catalogue": 1,
        "at or after the cut-off": 1,
        "excluded query or a near-duplicate": 1,
        "excluded product": 1,
    }
    assert report.used + sum(report.dropped.values()) == report.events == 8


def test_nothing_to_learn_from_is_an_error_that_says_why() -> None:
    with pytest.raises(LogError, match='"impression": 1'):
        gather_pairs(log(("s1", "sofa", "impression", "A")), UNDAMPED)
    with pytest.raises(LogError, match="2 searches; the most is 1"):
        gather_pairs(log(("s1", "sofa", "click", "A")), PairRules(min_searches=2))


def test_the_control_keeps_queries_products_and_weights_but_not_who_goes_with_whom() -> None:
    rows = [(f"s{at}", f"query {at}", "click", IDS[at % 4]) for at in range(40)]
    pairs = gather_pairs(log(*rows), UNDAMPED)
    control = pairs.shuffled(0)
    assert np.bincount(control.product).tolist() == np.bincount(pairs.product).tolist()
    assert np.array_equal(control.query, pairs.query)
    assert not np.array_equal(control.product, pairs.product)
    assert np.array_equal(control.product, pairs.shuffled(0).product)
    assert control.clicked.row(int(pairs.group[0])).tolist() == [control.product[0]]


def test_logs_of_one_shop_are_read_together(tmp_path: Path) -> None:
    for at, query in enumerate(("sofa", "rug")):
        pq.write_table(events([("s1", query, "click", "A")], first=at), tmp_path / f"{at}.parquet")
    read = read_log([tmp_path / "0.parquet", tmp_path / "1.parquet"], IDS)
    assert as_dict(gather_pairs(read, UNDAMPED)) == {("sofa", "A"): 1, ("rug", "A"): 1}
    with pytest.raises(LogError, match=r"2\.parquet is not a log"):
        read_log([tmp_path / "2.parquet"], IDS)


@pytest.mark.parametrize(
    ("rules", "named"),
    [({"min_searches": 0}, "min_searches"), ({"points": (0, 0, 0)}, "points"), ({"damping": "x"}, "damping")],
)
def test_rules_outside_their_limits_are_refused_by_name(rules: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PairRules(**rules)  # type: ignore[arg-type]


# ---- texts

PRODUCTS = [
    Product(
        "A", "Velvet Sofa", "Halden", "Home > Living Room > Sofas", 1000, True, {"text": "Seats three.", "code": "X1"}
    ),
    Product("B", "Sofa, velvet", "Halden", "Home > Sofas", None, True, {}),
    Product("C", "Halden Rug", "Halden", "Home > Rugs", 500, False, {"text": "Wool"}),
]
SOURCE = Source(
    name="shop",
    fingerprint="1",
    products=lambda: iter(PRODUCTS),
    report=dict,
    attributes=("text", "code"),
    text_attributes=("text",),
    num_products=3,
)


def test_a_product_is_read_as_a_bundle_encodes_it(tmp_path: Path) -> None:
    write_products(tmp_path / "products.arrow", SOURCE.products(), SOURCE.attributes)
    table = ProductTable(tmp_path / "products.arrow")
    encoded = [product_text(product, SOURCE.text_attributes) for product in table.products()]
    assert product_texts(SOURCE, TextFields()).texts == encoded


def test_fields_can_be_left_out_and_attributes_chosen() -> None:
    assert product_texts(SOURCE, TextFields(brand=False, category=False, attributes=())).texts[0] == "Velvet Sofa"
    assert product_texts(SOURCE, TextFields(brand=False, attributes=("code",))).texts[0] == (
        "Velvet Sofa. Living Room, Sofas. X1"
    )
    with pytest.raises(ValueError, match="'colour' is no attribute of shop: text, code"):
        product_texts(SOURCE, TextFields(attributes=("colour",)))


def test_products_with_the_same_words_are_kin() -> None:
    assert product_texts(SOURCE, TextFields()).group.tolist() == [0, 0, 1]
