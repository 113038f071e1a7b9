"""The lexical index: the scores of the formula, exactly what a mask admits, the same bytes each time, and no query that breaks it."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.lexical.analysis import Analyzer
from models.lexical.field_texts import attribute_fields
from models.lexical.lexical_index import FACTS_FILE, LexicalError, LexicalIndex
from models.lexical.postings import Parameters, Postings
from models.products.changes import AddedProducts
from models.products.product import Product
from models.products.product_table import BLOCK, ProductTable, write_products

WORDS = ("red", "blue", "sofa", "lamp", "oak", "hx-4210", "12 in", "velvet")
ATTRIBUTES = ("material", "about")
STEP = 1 / 65_535

MakeTable = Callable[[Sequence[Product]], ProductTable]


def table_of(folder: Path, products: Sequence[Product], attributes: Sequence[str] = ATTRIBUTES) -> ProductTable:
    write_products(folder / "products.arrow", products, attributes)
    return ProductTable(folder / "products.arrow")


def index_of(folder: Path, *titles: str, locale: str = "en-US") -> LexicalIndex:
    ids = (
        str(n).translate(str.maketrans("0123456789", "abcdefghij")) + "zz" for n in range(len(titles))
    )  # no query has them
    return LexicalIndex.build(
        table_of(folder, [Product(*product) for product in zip(ids, titles, strict=True)]), locale
    )


def found(index: LexicalIndex, query: str, k: int = 10) -> list[int]:
    return index.search(index.query(query), k).rows.tolist()


def formula(products: Sequence[Product], query: str, parameters: Parameters) -> np.ndarray:
    """BM25F of plain words, product after product, straight from the paper. Every field here is one column."""
    analyzer = Analyzer("en")
    texts = [
        {
            "identifiers": product.id,
            "title": product.title,
            "brand": product.brand,
            "category": product.category,
            "attributes": product.attributes.get("material", ""),
        }
        for product in products
    ]
    counted = [
        {field: Counter(analyzer.word(w).term for w in analyzer.words(text)) for field, text in fields.items()}
        for fields in texts
    ]
    filled = {field: [n for words in counted if (n := words[field].total())] for field in counted[0]}
    means = {field: max(1.0, sum(numbers) / max(1, len(numbers))) for field, numbers in filled.items()}
    scores = np.zeros(len(products))
    for term in dict.fromkeys(analyzer.word(word).term for word in analyzer.words(query)):
        holders = sum(any(term in words for words in fields.values()) for fields in counted)
        idf = math.log(1 + (len(products) - holders + 0.5) / (holders + 0.5))
        for row, fields in enumerate(counted):
            frequency = 0.0
            for field, words in fields.items():
                b = parameters.lengths[field]
                frequency += parameters.weights[field] * words[term] / (1 - b + b * words.total() / means[field])
            scores[row] += idf * frequency / (parameters.k1 + frequency)
    return scores


plain = st.lists(st.sampled_from(["red", "blue", "sofa", "lamp", "oak", "velvet"]), max_size=5).map(" ".join)
shelves = st.lists(st.tuples(plain, plain, plain, plain), min_size=1, max_size=40)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shelf=shelves, query=plain, k=st.integers(1, 50), data=st.data())
def test_scores_are_those_of_the_formula_and_masks_are_exact(
    tmp_path: Path, shelf: list[tuple[str, str, str, str]], query: str, k: int, data: st.DataObject
) -> None:
    products = [
        Product(f"p{row}", title, brand, category, attributes={"material": material} if material else {})
        for row, (title, brand, category, material) in enumerate(shelf)
    ]
    index = LexicalIndex.build(table_of(tmp_path, products), "en")
    parsed = index.query(query)
    everything = index.search(parsed, len(products) + 1)
    expected = formula(products, query, Parameters())
    np.testing.assert_allclose(index.match(parsed, np.arange(len(products))).scores, expected, atol=1e-4)
    assert set(everything.rows.tolist()) == set(np.flatnonzero(expected).tolist())
    np.testing.assert_allclose(everything.scores, expected[everything.rows], atol=1e-4)
    assert (np.diff(everything.scores) <= 0).all()

    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(products), max_size=len(products))))
    admitted = mask[everything.rows]
    hits = index.search(parsed, k, mask)
    np.testing.assert_array_equal(hits.rows, everything.rows[admitted][:k])
    np.testing.assert_array_equal(hits.scores, everything.scores[admitted][:k])


def test_many_products_are_masked_and_cut_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    titles = [" ".join(rng.choice(WORDS, rng.integers(1, 6))) for _ in range(3_000)]
    index = index_of(tmp_path, *titles)
    for query in ("red sofa", "hx-4210 lamp", "velvet", "12 in blue oak lamp"):
        parsed = index.query(query)
        everything = index.search(parsed, len(titles))
        order = np.lexsort((everything.rows, -everything.scores))
        np.testing.assert_array_equal(order, np.arange(len(order)))  # equal scores by row
        for share in (0.0, 0.003, 0.5, 1.0):
            mask = rng.random(len(titles)) < share
            for k in (1, 10, 200, 5_000):
                hits = index.search(parsed, k, mask)
                np.testing.assert_array_equal(hits.rows, everything.rows[mask[everything.rows]][:k])


def test_a_match_has_the_scores_of_a_search(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    index = index_of(tmp_path, *(" ".join(rng.choice(WORDS, 3)) for _ in range(500)))
    parsed = index.query("red hx-4210 12 in lamp unheard")
    hits = index.search(parsed, 500)
    np.testing.assert_allclose(index.match(parsed, hits.rows).scores, hits.scores, rtol=1e-5)
    others = np.setdiff1d(np.arange(500), hits.rows)
    assert (index.match(parsed, others).scores == 0).all()


def test_coverage_is_the_share_of_the_words_and_prose_does_not_name_a_product(tmp_path: Path) -> None:
    prose = "Goes with every curtain that you may have, in rooms of any size and any light."
    products = [
        Product("a", "red sofa", "Halden", "Furniture", attributes={"material": "oak", "about": prose}),
        Product("b", "red lamp", "Halden", "Lighting"),
        Product("c", "blue rug"),
    ]
    index = LexicalIndex.build(table_of(tmp_path, products), "en")
    parsed = index.query("halden oak sofa curtain")
    match = index.match(parsed, np.array([2, 1, 0]))
    weights = dict(zip(parsed.words, parsed.word_weights.tolist(), strict=True))
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["oak"] > weights["halden"]  # it is rarer
    assert match.coverage.tolist() == pytest.approx([0, weights["halden"], 1])
    assert match.named.tolist() == pytest.approx([0, weights["halden"], 1 - weights["curtain"]])


def test_a_product_is_named_by_a_query_all_of_whose_words_it_holds_outside_its_prose(tmp_path: Path) -> None:
    prose = "goes with a red velvet sofa, and with what you may put beside it in the same room of the house"
    products = [
        Product("a", "Red velvet sofa"),
        Product("b", "Red sofa", attributes={"material": "velvet"}),
        Product("c", "Red sofa", attributes={"about": prose}),
        Product("d", "Red velvet lamp", attributes={"about": prose}),
        Product("e", "Red velvet sofabed sofas"),
    ]
    index = LexicalIndex.build(table_of(tmp_path, products), "en-US")
    for query, rows in {
        "red velvet sofa": [0, 1, 4],
        "velvet the sofa": [0, 1, 4],
        "lamp red": [3],
        "red lamp unheard": [],
        "room": [],
        "": [],
    }.items():
        assert index.naming(index.query(query)).tolist() == rows, query
    index.append(AddedProducts(5, [Product("f", "Sofa of red velvet")], np.zeros((0, 0), np.float16)))
    assert index.naming(index.query("red velvet sofa")).tolist() == [0, 1, 4, 5]


def test_a_word_that_no_product_has_is_not_covered(tmp_path: Path) -> None:
    index = index_of(tmp_path, "red sofa", "red lamp")
    match = index.match(index.query("red unheard"), np.array([0]))
    assert 0 < match.coverage[0] < 1


def test_a_part_covers_a_part_of_its_word(tmp_path: Path) -> None:
    index = index_of(tmp_path, "HX-4210 toner", "HX-4210 drum", "HX toner")
    match = index.match(index.query("hx-4210"), np.arange(3))
    assert match.coverage.tolist() == pytest.approx([1, 1, 0.5])


@pytest.mark.parametrize(
    ("locale", "titles", "query", "expected"),
    [
        ("en", ["Printer HX-4210", "Printer HX-4120"], "hx 4210", [0, 1]),
        ("en", ["Printer HX 4210", "Printer ZZ 9"], "hx4210", [0]),
        ("en", ["Wi-Fi camera", "Camera"], "wifi", [0]),
        ("en", ["Wifi camera", "Baby camera"], "wi fi", [0]),
        ("en", ["Noise cancelling headphones", "Vase"], "noise-cancelling headphone", [0]),
        ("en", ["Power bank", "Bank power", "Vase"], "powerbank", [0, 1]),
        ("en", ["Bag for 12 in laptops", "Bag for 15 in laptops"], '12" laptop bag', [0, 1]),
        ("de", ["Handschuhe aus Leder", "Handschuhe aus Wolle", "Tasche aus Leder"], "Lederhandschuhe", [0, 1, 2]),
        ("de", ["Handschuhe", "Lederhandschuhe", "Leder", "Leder", "Handschuhe"], "Handschuhe Leder", [1, 0, 2, 3, 4]),
        ("ja", ["運動靴", "革靴", "帽子"], "靴", [0, 1]),
        ("zh", ["红色运动鞋", "红色帽子"], "运动鞋", [0]),
    ],
)
def test_what_means_the_same_is_found(
    tmp_path: Path, locale: str, titles: list[str], query: str, expected: list[int]
) -> None:
    assert found(index_of(tmp_path, *titles, locale=locale), query) == expected


def test_stop_words_count_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    index = index_of(tmp_path, "The Who", "Sofa for the garden", "Lamp")
    assert index.query("the sofa").words == ("sofa",)
    assert found(index, "the who")[0] == 0
    assert sorted(found(index, "the")) == [0, 1]


@pytest.mark.parametrize(
    "query",
    [
        "", " ", "?!", "🎧", "\ud83d", "a", "靴", "^(a+)+$ .*", "x" * 512, "red " * 128, "שלום red سماعات", "\u202e\u200f", "ก" * 512,
        "-" * 512, "' OR 1=1 --", "<script>", "a'b'c'd'e'f'g'h'i'j'k", "\0", "1" * 512, "é" * 300, "a-" * 256, "é́" * 200,
    ],
)  # fmt: skip
def test_no_query_breaks_a_search(tmp_path: Path, query: str) -> None:
    index = index_of(tmp_path, "red sofa", "blue lamp")
    parsed = index.query(query)
    hits, match = index.search(parsed, 10), index.match(parsed, np.array([1, 0]))
    assert hits.rows.tolist() == ([0] if "red" in query else [])
    assert np.isfinite(match.scores).all()
    assert match.coverage.shape == (2,)
    assert ((match.named >= 0) & (match.named <= match.coverage)).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60))
def test_a_product_is_found_by_its_own_title(tmp_path: Path, text: str) -> None:
    text = "".join(char for char in text if not "\ud800" <= char <= "\udfff")
    index = index_of(tmp_path, text, "Lamp")
    parsed = index.query(text)
    if not parsed.words:
        return
    assert 0 in found(index, text)
    assert index.match(parsed, np.array([0])).coverage[0] == pytest.approx(1, abs=1e-5)


def test_columns_belong_to_fields_by_what_they_hold(tmp_path: Path) -> None:
    products = [
        Product(
            f"p{n}",
            "Sofa",
            attributes={
                "ean": f"49609995753{n:02}",
                "colour": ("red", "blue")[n % 2],
                "width": str(n % 7),
                "about": "It seats three, and its cover can be washed at thirty degrees, again and again.",
                "details": json.dumps(
                    {"Fabric": "velvet", "Number of seats, without the children": n, "Warranty in years": 2}
                ),
            },
        )
        for n in range(40)
    ]
    table = table_of(tmp_path, products, ("ean", "colour", "width", "about", "details"))
    assert attribute_fields(table) == {
        "ean": "identifiers",
        "colour": "attributes",
        "width": "attributes",
        "about": "description",
        "details": "attributes",
    }
    assert attribute_fields(table, {"ean": "attributes", "gone": "description"}) == {
        **attribute_fields(table),
        "ean": "attributes",
        "gone": "description",
    }
    index = LexicalIndex.build(table, "en")
    assert len(found(index, "velvet", 100)) == 40
    assert found(index, "4960999575307") == [7]


def test_products_of_several_blocks_keep_their_rows(tmp_path: Path) -> None:
    titles = [f"sofa number{row}" for row in range(BLOCK + 3)]
    index = index_of(tmp_path, *titles)
    assert found(index, f"number{BLOCK + 2}", 1) == [BLOCK + 2]
    assert index.count("sofa") == BLOCK + 3
    assert found(index, "sofa", 3) == [0, 1, 2]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_catalogue_gives_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    titles = [" ".join(rng.choice(WORDS, 4)) for _ in range(200)]
    for name in ("one", "two"):
        index_of(tmp_path, *titles).save(tmp_path / name)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_saved_index_is_the_same_index(tmp_path: Path) -> None:
    index = index_of(tmp_path, "Lederhandschuhe", "Handschuhe aus Leder", "Lampe", locale="de-DE")
    index.save(tmp_path / "lexical")
    loaded = LexicalIndex.load(tmp_path / "lexical", 3)
    assert loaded.analyzer.language == "de"
    for query in ("handschuhe", "lederhandschuhe", "lampe"):
        before, after = index.search(index.query(query), 5), loaded.search(loaded.query(query), 5)
        np.testing.assert_array_equal(before.rows, after.rows)
        np.testing.assert_array_equal(before.scores, after.scores)


def test_threads_share_an_index(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    index = index_of(tmp_path, *(" ".join(rng.choice(WORDS, 4)) for _ in range(2_000)))
    queries = [" ".join(rng.choice(WORDS, 2)) for _ in range(40)]
    alone = [index.search(index.query(query), 50).rows.tolist() for query in queries]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda query: index.search(index.query(query), 50).rows.tolist(), queries * 5))
    finally:
        sys.setswitchinterval(interval)
    assert together == alone * 5


def test_products_without_words_are_never_found(tmp_path: Path) -> None:
    index = index_of(tmp_path, "", "🎧")
    assert found(index, "sofa") == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format_version", 99, "format_version is 99, expected 2"),
        ("stemmer", "0.1", "stemmer is '0.1'"),
        ("fields", ["title"], r"fields is \['title'\]"),
        ("products", 7, "products is 7, expected 2"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path: Path, field: str, value: object, message: str) -> None:
    index_of(tmp_path, "red sofa", "blue lamp").save(tmp_path / "lexical")
    facts = json.loads((tmp_path / "lexical" / FACTS_FILE).read_text())
    (tmp_path / "lexical" / FACTS_FILE).write_text(json.dumps(facts | {field: value}))
    with pytest.raises(LexicalError, match=message):
        LexicalIndex.load(tmp_path / "lexical", 2)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("term_offsets.npy", np.array([0, 1], np.int64), "offsets do not fit"),
        ("posting_rows.npy", np.array([0], np.uint32), "the offsets say"),
        ("posting_rows.npy", np.array([9, 9, 9, 9, 9, 9], np.uint32), "there are 2 products"),
        ("posting_weights.npy", np.zeros(6, np.float32), "expected uint16"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, name: str, array: np.ndarray, message: str) -> None:
    index_of(tmp_path, "red sofa", "blue lamp").save(tmp_path / "lexical")  # six terms: four words and two ids
    np.save(tmp_path / "lexical" / name, array)
    with pytest.raises(ValueError, match=message):
        Postings.load(tmp_path / "lexical", 2)
