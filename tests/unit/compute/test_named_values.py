"""Products that state another value than the query names hold less of it, whether they were built in or came later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.bundles.bundle import Bundle
from models.products.changes import AddedProducts
from models.products.product import Product
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.stages import open_search
from serving.compute.candidate_search import OTHER_VALUE
from serving.compute.facets import Scope
from serving.compute.filter_masks import NO_FILTER, ProductFilter
from serving.compute.named_values import NamedValues
from serving.compute.retrieval import EncodedQuery, SearchItem, Subject
from serving.compute.value_order import SortBy

STYLES = ("Plain", "Ribbed")
KINDS = (
    ("leather-boots", "Boots", "Shoes > Boots > Ankle Boots", {"material": "Leather", "colour": "Black"}),
    ("faux-boots", "Boots", "Shoes > Boots > Ankle Boots", {"material": "Faux Leather", "colour": "Black"}),
    ("unknown-boots", "Leather boots", "Shoes > Boots > Ankle Boots", {"colour": "Black"}),
    ("oak-desk", "Desk in oak", "Furniture > Desks", {"material": "Solid Pine", "colour": "Oak"}),
    ("solid-oak-desk", "Desk", "Furniture > Desks", {"material": "Solid Oak", "colour": "Walnut"}),
    ("shirt", "Shirt", "Clothing > Shirts", {"material": "Cotton", "colour": "White"}),
    ("t-shirt", "T-Shirt", "Clothing > Tops > T-Shirts", {"material": "Organic Cotton", "colour": "White"}),
    ("nowhere", "Shirt", "", {"material": "Cotton", "colour": "White"}),
)
PRODUCTS = [
    Product(f"{name}-{n}", title, "Nord", category, 100, True, {**facts, "style": STYLES[n % 2]})
    for n in range(3)
    for name, title, category, facts in KINDS
]
MISMATCHES: dict[str, dict[str, float]] = {  # query -> kind -> share; other kinds are not looked at
    "black leather boots": {"leather-boots": 0, "faux-boots": 1 / 3, "unknown-boots": 0, "shirt": 1},
    "Faux leather boots": {"leather-boots": 2 / 3, "faux-boots": 0, "unknown-boots": 0},
    "solid oak desks": {"oak-desk": 2 / 3, "solid-oak-desk": 0, "shirt": 1},
    "oak desk": {"oak-desk": 0, "solid-oak-desk": 1 / 2},
    "oak solid oak desk": {"oak-desk": 2 / 4, "solid-oak-desk": 1 / 4},
    "a white cotton shirt": {"shirt": 0, "t-shirt": 2 / 4, "nowhere": 0},
    "organic cotton": {"t-shirt": 0, "shirt": 1},
    "ankle boots": {"leather-boots": 0, "shirt": 1, "nowhere": 0},
}


@pytest.fixture
def catalogue(build_tiny: Callable[..., Any], tmp_path: Any) -> Catalogue:
    build_tiny(tmp_path / "bundle", PRODUCTS)
    return Catalogue.open(Bundle(tmp_path / "bundle"))


def kind(product: Product) -> str:
    return product.id.rsplit("-", 1)[0]


def named(catalogue: Catalogue) -> NamedValues:
    assert catalogue.lexical
    return NamedValues(catalogue.masks, catalogue.lexical.analyzer)


def check(values: NamedValues, products: list[Product], rows: np.ndarray) -> None:
    for query, expected in MISMATCHES.items():
        found = values.mismatch(query, rows)
        assert found is not None, query
        shares = dict(zip(map(kind, products), found.tolist(), strict=True))
        assert {name: shares[name] for name in expected} == pytest.approx(expected), query


def test_what_states_another_value_mismatches_and_what_states_none_may_fit(catalogue: Catalogue) -> None:
    check(named(catalogue), PRODUCTS[:8], np.arange(8))
    assert named(catalogue).mismatch("comfy things", np.arange(8)) is None
    assert named(catalogue).mismatch("", np.arange(8)) is None


def test_products_that_came_later_are_read_and_so_are_their_new_values(catalogue: Catalogue) -> None:
    values = named(catalogue)
    assert values.mismatch("suede", np.arange(8)) is None
    size = len(PRODUCTS)
    suede = Product(
        "suede-9", "Boots", "Nord", "Shoes > Suede Boots", 100, True, {"material": "Suede", "colour": "Black"}
    )
    later = [*PRODUCTS[:8], suede]
    vectors = np.zeros((len(later), catalogue.vectors.shape[1]), np.float16)
    added = AddedProducts(size, later, vectors)
    catalogue.attributes.append(added)
    catalogue.table.append(added)
    catalogue.masks.append(added)
    check(values, later[:8], np.arange(size, size + 8))
    rows = np.array([0, 1, 2, size, size + 1, size + 2, size + 8])
    assert values.mismatch("suede", rows) == pytest.approx([1, 1, 0, 1, 1, 0, 0])  # unknown-boots states no material
    assert values.mismatch("suede boots", rows[-1:]) == pytest.approx([0])


def test_a_search_counts_it_as_words_that_a_product_lacks(catalogue: Catalogue) -> None:
    search = open_search(catalogue)
    vector = np.zeros(search.index.width, np.float32)
    vector[0] = 1
    subject = Subject(query=EncodedQuery("leather boots", "en-US", vector=vector))
    (found,) = search.search([SearchItem(subject=subject, k=len(PRODUCTS))], vector[None])
    assert catalogue.lexical
    rows = np.array(found.candidates.rows)
    held_by_row = catalogue.lexical.match(catalogue.lexical.query("leather boots"), rows).named
    asked, held = (
        {kind(PRODUCTS[row]): share for row, share in zip(rows.tolist(), shares, strict=True)}
        for shares in (found.candidates.coverages, held_by_row.tolist())
    )
    assert asked["leather-boots"] == pytest.approx(held["leather-boots"])
    assert asked["faux-boots"] == pytest.approx(held["faux-boots"] * (1 - OTHER_VALUE / 2))
    assert asked["faux-boots"] < held["faux-boots"]


def kinds_by_price(
    catalogue: Catalogue, query: str, product_filter: ProductFilter = NO_FILTER
) -> tuple[set[str], Scope]:
    search = open_search(catalogue, threads=1)
    vector = np.eye(1, search.index.width, dtype=np.float32)
    subject = Subject(query=EncodedQuery(query, vector=vector[0, : search.index.dim]))
    item = SearchItem(subject=subject, k=24, filter=product_filter, sort=SortBy("price"))
    (found,) = search.search([item], vector)
    assert found.sorted
    return {kind(PRODUCTS[row]) for row in found.candidates.rows}, found.sorted.scope


def test_under_an_order_by_value_no_product_matches_that_states_another_value_unless_all_do(
    catalogue: Catalogue,
) -> None:
    assert kinds_by_price(catalogue, "black leather boots") == ({"leather-boots", "unknown-boots"}, Scope.MATCHING)
    assert kinds_by_price(catalogue, "white shirts") == ({"shirt", "nowhere"}, Scope.MATCHING)
    tops = ProductFilter(categories=("Clothing > Tops",))
    assert kinds_by_price(catalogue, "white shirts", tops) == ({"t-shirt"}, Scope.MATCHING)
    assert kinds_by_price(catalogue, "pink shirts")[1] is Scope.BEST
