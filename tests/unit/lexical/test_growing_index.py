"""An index that products were added to and removed from answers as one that is built of what is left."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.lexical.lexical_index import LexicalIndex
from models.lexical.postings import Parameters
from models.products.changes import AddedProducts, RemovedProducts
from models.products.product import Product
from models.products.product_table import ProductTable, write_products

NO_VECTORS = np.zeros((0, 0), np.float16)
ENGLISH = (
    *("sofa", "sofas", "red", "velvet", "wi-fi", "camera", "HX-4210", "HX-4210/00", "12 in", "500 GB", "kids'"),
    *("the", "for", "noise-cancelling", "headphones", "lamp", "oak", "Zürich", "30x40cm", "<b>soft</b>", "& more"),
)
GERMAN_PARTS = ("Leder", "Handschuhe", "Winter", "Jacke", "Garten", "Tisch", "Holz", "Stuhl")
# Parts are far more frequent than compounds, so that these are split the same way before and after.
GERMAN = (*5 * GERMAN_PARTS, "Lederhandschuhe", "Winterjacke", "Gartentisch", "Holzstuhl", "für", "größe 42", "GSR-18")
CHINESE = ("红色运动鞋", "运动鞋", "红色帽子", "靴", "革靴", "帽子", "HX-4210", "蓝色")
PROSE = "It goes with every room, and its cover can be washed at thirty degrees, again and again"
CATALOGUES = {"en-US": ENGLISH, "de-DE": GERMAN, "zh-CN": CHINESE}


def rebuilt(folder: Path, products: Sequence[Product], old: LexicalIndex) -> LexicalIndex:
    """Returns an index of the products, with the mean lengths and the fields of another."""
    folder.mkdir(exist_ok=True)
    names = list(dict.fromkeys(name for product in products for name in product.attributes))
    write_products(folder / "products.arrow", products, names[:3], keeps_rare=True)
    return LexicalIndex.build(
        ProductTable(folder / "products.arrow"), old.analyzer.language, lengths=old.lengths, attributes=old.attributes
    )


def built(folder: Path, products: Sequence[Product], locale: str) -> LexicalIndex:
    names = list(dict.fromkeys(name for product in products for name in product.attributes))
    write_products(folder / "products.arrow", products, names)
    LexicalIndex.build(ProductTable(folder / "products.arrow"), locale).save(folder / "lexical")
    return LexicalIndex.load(folder / "lexical", len(products))


def draw(rng: random.Random, number: int, words: Sequence[str]) -> Product:
    def text(most: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(0, most)))

    attributes = {"ean": f"49609{number:08}", "colour": text(2), "about": f"{PROSE} {text(8)}.", "details": text(3)}
    if not number % 3:
        attributes["details"] = '{"Fabric": "velvet", "Seats": 3}'
    if not number % 7:
        attributes |= {f"rare {number % 5}": text(2), "care": f"{PROSE}. {text(4)}"}
    filled = {name: value for name, value in attributes.items() if value and rng.random() < 0.8}
    return Product(f"P-{number:05}", text(6), text(1), text(2), attributes=filled)


def added(start: int, products: Sequence[Product]) -> AddedProducts:
    return AddedProducts(start, products, NO_VECTORS)


def removed(rows: Sequence[int], products: Sequence[Product]) -> RemovedProducts:
    return RemovedProducts(np.array(rows, np.int64), products)


def mask_of(living: Sequence[int], size: int) -> np.ndarray:
    mask = np.zeros(size, np.bool_)
    mask[list(living)] = True
    return mask


def expect_equal(
    grown: LexicalIndex, anew: LexicalIndex, living: Sequence[int], words: Sequence[str], rng: random.Random
) -> None:
    """Compares all answers; row n of the new index is `living[n]` of the grown one."""
    rows, mask = np.array(living, np.int64), mask_of(living, grown.num_products)
    words = tuple(dict.fromkeys(words))
    for word in words:
        for spelled in grown.analyzer.words(word):
            analyzed = grown.analyzer.word(spelled)
            for term in (analyzed.term, *analyzed.parts):
                assert grown.count(term) == anew.count(term), term
        np.testing.assert_array_equal(grown.holding(word), rows[anew.holding(word)], err_msg=word)
    queries = [*words, *(" ".join(rng.choices(words, k=rng.randint(1, 4))) for _ in range(30)), "unheard", "P-00007"]
    for query in queries:
        here, there = grown.query(query), anew.query(query)
        assert here.words == there.words
        np.testing.assert_array_equal(here.hashes, there.hashes)
        np.testing.assert_array_equal(here.weights, there.weights)
        np.testing.assert_array_equal(here.word_weights, there.word_weights)
        within = np.array([rng.random() < 0.5 for _ in living], np.bool_)
        for k, admitted in ((len(living) + 1, np.ones(len(living), np.bool_)), (3, within)):
            all_rows = mask.copy()
            all_rows[rows] = admitted
            hits, expected = grown.search(here, k, all_rows), anew.search(there, k, admitted)
            np.testing.assert_array_equal(hits.rows, rows[expected.rows], err_msg=query)
            np.testing.assert_array_equal(hits.scores, expected.scores, err_msg=query)
        if living:
            match, expected_match = grown.match(here, rows), anew.match(there, np.arange(len(living)))
            np.testing.assert_allclose(match.scores, expected_match.scores, rtol=1e-6)
            np.testing.assert_allclose(match.coverage, expected_match.coverage, rtol=1e-6)
            np.testing.assert_allclose(match.named, expected_match.named, rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("locale", CATALOGUES)
def test_changes_give_what_a_rebuild_gives(tmp_path: Path, locale: str, seed: int) -> None:
    rng, words = random.Random(f"{locale} {seed}"), CATALOGUES[locale]
    products = [draw(rng, number, words) for number in range(60)]
    products += [Product(f"P-{number:05}", part) for number, part in enumerate(10 * GERMAN_PARTS, 60)]
    grown = built(tmp_path, products, locale)
    living = list(range(len(products)))
    for _ in range(25):
        if rng.random() < 0.6 or not living:
            start = len(products)
            products += [draw(rng, start + n, words) for n in range(rng.choice((1, 1, 3, 20)))]
            grown.append(added(start, products[start:]))
            living += range(start, len(products))
        else:
            rows = rng.sample(living, min(len(living), rng.choice((1, 2, 10))))
            grown.remove(removed(rows, [products[row] for row in rows]))
            living = [row for row in living if row not in set(rows)]
    anew = rebuilt(tmp_path / "anew", [products[row] for row in living], grown)
    expect_equal(grown, anew, living, words, rng)


def test_an_index_of_which_all_was_removed_finds_nothing_and_grows_again(tmp_path: Path) -> None:
    first = [Product("a", "red sofa"), Product("b", "red lamp")]
    grown = built(tmp_path, first, "en")
    grown.remove(removed([1, 0], first[::-1]))
    assert grown.count("red") == 0
    assert not len(grown.search(grown.query("red"), 5, mask_of([], 2)).rows)
    assert not len(grown.holding("red"))
    grown.append(added(2, [Product("c", "red rug")]))
    expect_equal(
        grown, rebuilt(tmp_path / "anew", [Product("c", "red rug")], grown), [2], ("red", "rug"), random.Random()
    )


def test_a_query_is_weighed_anew_after_a_change(tmp_path: Path) -> None:
    grown = built(tmp_path, [Product("a", "red sofa"), Product("b", "oak lamp")], "en")
    assert grown.query("red") is grown.query("red")
    before = grown.query("wi fi red")
    assert len(before.hashes) == 3
    grown.append(added(2, [Product("c", "wifi lamp in red"), Product("d", "red rug")]))
    after = grown.query("wi fi red")
    assert len(after.hashes) == 4  # now "wifi" is a term
    assert after.weights[2] < before.weights[2]  # and "red" is less rare


def test_a_search_finds_the_same_as_before_among_products_that_are_removed_and_added_again(tmp_path: Path) -> None:
    rng = random.Random(0)
    products = [draw(rng, number, ENGLISH) for number in range(50)]
    grown = built(tmp_path, products, "en")
    query = "velvet sofa for kids"
    before = grown.search(grown.query(query), 50)
    grown.append(added(50, products))
    grown.remove(removed(range(50), products))
    after = grown.search(grown.query(query), 50, mask_of(range(50, 100), 100))
    np.testing.assert_array_equal(after.rows, before.rows + 50)
    np.testing.assert_array_equal(after.scores, before.scores)


def test_the_field_of_a_new_attribute_is_kept_by_a_rebuild(tmp_path: Path) -> None:
    grown = built(tmp_path, [Product("a", "red sofa")], "en")
    grown.append(added(1, [Product("b", "lamp", attributes={"sku": "HX-4210", "story": f"{PROSE}, in red."})]))
    assert grown.attributes == {"sku": "attributes", "story": "description"}
    assert grown.match(grown.query("red"), np.array([0, 1])).named.tolist() == [1, 0]


def test_products_are_weighed_as_the_index_was_built(tmp_path: Path) -> None:
    products = [Product("a", "red red sofa"), Product("b", "red lamp", "Halden")]
    write_products(tmp_path / "products.arrow", products, ())
    parameters = Parameters(k1=3.0)
    LexicalIndex.build(ProductTable(tmp_path / "products.arrow"), "en", parameters=parameters).save(
        tmp_path / "lexical"
    )
    grown = LexicalIndex.load(tmp_path / "lexical", 2)
    grown.append(added(2, products))
    scores = grown.match(grown.query("red halden"), np.arange(4)).scores
    assert scores[2:].tolist() == scores[:2].tolist()


def test_rows_that_do_not_follow_and_saving_what_has_changed_are_refused(tmp_path: Path) -> None:
    grown = built(tmp_path, [Product("a", "red sofa")], "en")
    with pytest.raises(ValueError, match="the next row is 1, not 2"):
        grown.append(added(2, [Product("b", "lamp")]))
    grown.append(added(1, [Product("b", "lamp")]))
    with pytest.raises(ValueError, match="has changed since it was built"):
        grown.save(tmp_path / "again")


def test_other_threads_read_while_products_are_added(tmp_path: Path) -> None:
    rng = random.Random(1)
    grown = built(tmp_path, [draw(rng, number, ENGLISH) for number in range(20)], "en")
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                rows = grown.holding("velvet sofa")
                assert (np.diff(rows) > 0).all()
                grown.match(grown.query("red sofa hx-4210"), np.arange(20))
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    readers = [threading.Thread(target=read) for _ in range(3)]
    try:
        for reader in readers:
            reader.start()
        for number in range(20, 400):
            product = draw(rng, number, ENGLISH)
            grown.append(added(number, [product]))
            if not number % 5:
                grown.remove(removed([number], [product]))
    finally:
        done.set()
        for reader in readers:
            reader.join()
        sys.setswitchinterval(interval)
    assert failures == []
