"""Facets, sorting, browsing and groups are what a loop over the products would give."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from models.bundles.bundle import Bundle
from models.products.product import Product
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.stages import open_search
from serving.compute.catalogue_search import MAX_GROUPED, NEAR, CatalogueSearch, Found
from serving.compute.facets import FacetQuestion, Scope
from serving.compute.filter_masks import AttributeClause, FilterMasks, ProductFilter
from serving.compute.retrieval import EncodedQuery, Query, SearchItem, Sorted, Subject
from serving.compute.value_order import SortBy, ValueOrder

COLOURS = ("red", "blue", "green", "")


def assortment(count: int) -> list[Product]:
    rng = np.random.default_rng(5)
    products = []
    for n in range(count):
        colour = COLOURS[int(rng.integers(4))]
        facts = {
            "width": f"{int(rng.integers(1, 9))} cm",
            "model": f"M{n // 3}",
            "released": f"2024-01-{n % 28 + 1:02}",
        }
        facts |= {"colour": colour} if colour else {}
        if n % 5 == 0:
            del facts["width"]
        price = None if n % 7 == 0 else int(rng.integers(1, 20)) * 100
        products.append(
            Product(f"P{n}", f"Thing {n}", ("Nord", "Halden")[n % 2], f"Home > Room {n % 3}", price, n % 4 > 0, facts)
        )
    return products


PRODUCTS = assortment(120)


@pytest.fixture(scope="module")
def bundle(build_tiny: Callable[..., Any], make_source: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("assortment") / "bundle"
    build_tiny(folder, PRODUCTS)
    return Bundle(folder)


@pytest.fixture(scope="module")
def search(bundle: Bundle) -> CatalogueSearch:
    return open_search(Catalogue.open(bundle), threads=1)


def browse(search: CatalogueSearch, k: int = 200, **fields: Any) -> Found:
    item = SearchItem(subject=Subject(query=Query("")), k=k, **fields)
    (found,) = search.search([item], np.zeros((1, search.index.width), np.float32))
    return found


def ask(
    search: CatalogueSearch, bundle: Bundle, row: int, k: int, *, query: str = "thing", unlike: int = -1, **fields: Any
) -> Found:
    vectors = np.asarray(bundle.unit_vectors(), np.float32)
    vector = vectors[row]
    if unlike >= 0:  # the vectors of a tiny encoder are much alike, their differences are not
        vector = (vector - vectors[unlike]) / np.linalg.norm(vector - vectors[unlike])
    item = SearchItem(subject=Subject(query=EncodedQuery(query, vector=vector)), k=k, **fields)
    padded = np.zeros((1, search.index.width), np.float32)
    padded[0, : len(vector)] = vector
    (found,) = search.search([item], padded)
    return found


def cells(name: str, rows: Sequence[int]) -> Counter[str]:
    return Counter(value for row in rows if (value := PRODUCTS[row].attributes.get(name, "")))


class TestBrowse:
    def test_without_a_popularity_products_come_in_the_order_of_the_catalogue(self, search: CatalogueSearch) -> None:
        found = browse(search, k=10)
        assert found.candidates.rows == list(range(10))
        assert (found.num_matching, found.num_considered) == (120, 120)

    def test_the_filter_is_exact(self, search: CatalogueSearch) -> None:
        wanted = ProductFilter(brands=("nord",), attributes=(AttributeClause("colour", ("RED", "none")),))
        expected = [n for n, p in enumerate(PRODUCTS) if p.brand == "Nord" and p.attributes.get("colour") == "red"]
        found = browse(search, filter=wanted)
        assert found.candidates.rows == expected
        assert found.num_matching == len(expected)


class TestSort:
    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("name", ["price", "width", "released"])
    def test_equals_by_row_and_missing_values_last(self, search: CatalogueSearch, name: str, descending: bool) -> None:
        def key(row: int) -> float:
            product = PRODUCTS[row]
            if name == "price":
                return np.nan if product.price_minor is None else product.price_minor
            text = product.attributes.get(name, "")
            return float(text[-2:] if name == "released" else text.split()[0]) if text else np.nan

        sign = -1 if descending else 1
        wanted = ProductFilter(in_stock_only=True)
        rows = [row for row in range(120) if PRODUCTS[row].in_stock]
        expected = sorted(rows, key=lambda row: (np.isnan(key(row)), sign * np.nan_to_num(key(row)), row))
        found = browse(search, filter=wanted, sort=SortBy(name, descending))
        assert found.candidates.rows == expected
        assert browse(search, k=7, filter=wanted, sort=SortBy(name, descending)).candidates.rows == expected[:7]

    def test_a_static_feature_orders(self, bundle: Bundle) -> None:
        table, vectors = bundle.products(), np.zeros((120, 20), np.float16)
        vectors[:, 17] = np.arange(120) % 10
        order = ValueOrder(table, FilterMasks(table), vectors, 16, ("new", "popularity"))
        assert order.default == SortBy("popularity", descending=True)
        mask = np.arange(120) < 30
        assert order.first(order.default, mask, 4).tolist() == [9, 19, 29, 8]


def by_price(rows: Sequence[int]) -> list[int]:
    return sorted(rows, key=lambda row: (PRODUCTS[row].price_minor or np.inf, row))


RED = [row for row in range(120) if PRODUCTS[row].attributes.get("colour") == "red"]


class TestSortOfAQuery:
    def test_all_products_that_hold_its_words_are_sorted_and_no_neighbour_is(
        self, search: CatalogueSearch, bundle: Bundle
    ) -> None:
        found = ask(search, bundle, 3, 7, query="red thing", sort=SortBy("price"))
        assert found.candidates.rows == by_price(RED)[:7]
        assert found.sorted == Sorted(Scope.MATCHING, len(RED), is_exact=True)
        wanted = ProductFilter(brands=("Nord",))
        found = ask(search, bundle, 3, 200, query="red thing", sort=SortBy("price"), filter=wanted)
        assert found.candidates.rows == by_price([row for row in RED if PRODUCTS[row].brand == "Nord"])

    def test_sorted_hits_have_the_evidence_of_the_plain_search(self, search: CatalogueSearch, bundle: Bundle) -> None:
        plain = ask(search, bundle, 3, 120, query="red thing").candidates
        found = ask(search, bundle, 3, 120, query="red thing", sort=SortBy("price")).candidates
        expected = plain.take([plain.rows.index(row) for row in found.rows])
        assert found.scores == pytest.approx(expected.scores)
        assert found.coverages == expected.coverages
        assert found.lexical_boosts == expected.lexical_boosts

    @pytest.mark.parametrize(
        "fields",
        [{"query": "violet thing", "unlike": 40}, {"query": "red thing", "unlike": 40, "lexical_weight": 0.0}],
    )
    def test_where_no_product_holds_all_words_what_scores_near_the_best_is_sorted(
        self, search: CatalogueSearch, bundle: Bundle, fields: dict[str, Any]
    ) -> None:
        plain = ask(search, bundle, 3, 120, **fields).candidates
        near = [row for row, score in zip(plain.rows, plain.scores, strict=True) if score >= plain.scores[0] - NEAR]
        assert 1 < len(near) < 120
        found = ask(search, bundle, 3, 120, sort=SortBy("price"), **fields)
        assert found.candidates.rows == by_price(near)
        assert found.sorted == Sorted(Scope.BEST, len(near), is_exact=True)
        cut = ask(search, bundle, 3, 2, sort=SortBy("price"), **fields)
        assert cut.sorted == Sorted(Scope.BEST, 2, is_exact=False)

    def test_what_scores_near_the_best_of_its_own_reading_is_sorted(
        self, search: CatalogueSearch, bundle: Bundle
    ) -> None:
        unit = np.asarray(bundle.unit_vectors(), np.float32)
        vectors = np.zeros((2, search.index.width), np.float32)
        for number, (row, length) in enumerate(((3, 5.0), (40, 0.5))):  # all of the second reading score less
            away = unit[row] - unit[43 - row]
            vectors[number, : unit.shape[1]] = length * away / np.linalg.norm(away)

        def asked(query: str, vector: Any) -> SearchItem:
            return SearchItem(subject=Subject(query=EncodedQuery(query, vector=vector)), k=40, sort=SortBy("price"))

        first, second = map(asked, ("violet thing", "purple thing"), vectors)
        (found,) = search.search([dataclasses.replace(first, others=(second,))], vectors)
        assert found.sorted is not None
        assert found.sorted.scope is Scope.BEST
        assert set(found.candidates.readings) == {0, 1}

    def test_what_is_not_similar_is_left_out_before(self, search: CatalogueSearch, bundle: Bundle) -> None:
        plain = ask(search, bundle, 3, 120, query="red thing").candidates
        red = [similarity for row, similarity in zip(plain.rows, plain.similarities, strict=True) if row in RED]
        threshold = sorted(red)[len(red) // 2]
        found = ask(search, bundle, 3, 20, query="red thing", sort=SortBy("price"), min_similarity=threshold)
        kept = [
            row
            for row, similarity in zip(plain.rows, plain.similarities, strict=True)
            if similarity >= threshold and row in RED
        ]
        assert found.candidates.rows == by_price(kept)
        assert found.sorted == Sorted(Scope.MATCHING, len(kept), is_exact=True)

    def test_a_threshold_takes_the_place_of_what_is_near(self, search: CatalogueSearch, bundle: Bundle) -> None:
        plain = ask(search, bundle, 3, 20, query="violet thing").candidates
        threshold = sorted(plain.similarities)[4]
        found = ask(search, bundle, 3, 20, query="violet thing", sort=SortBy("price"), min_similarity=threshold)
        kept = [row for row, similarity in zip(plain.rows, plain.similarities, strict=True) if similarity >= threshold]
        assert found.candidates.rows == by_price(kept)

    def test_facets_count_what_is_sorted_and_foretell_the_hits_of_each_value(
        self, search: CatalogueSearch, bundle: Bundle
    ) -> None:
        chosen = ProductFilter(brands=("Nord",))
        questions = (FacetQuestion("brand", 9), FacetQuestion("category", 9))
        found = ask(search, bundle, 3, 5, query="red thing", sort=SortBy("price"), filter=chosen, facets=questions)
        brands, categories = found.facets
        assert dict(brands.values) == Counter(PRODUCTS[row].brand for row in RED)
        assert (brands.scope, brands.num_products) == (Scope.MATCHING, len(RED))
        assert found.sorted
        assert categories.num_products == found.sorted.total
        for brand, count in brands.values:
            other = ProductFilter(brands=(str(brand),))
            hits = ask(search, bundle, 3, 5, query="red thing", sort=SortBy("price"), filter=other)
            assert hits.sorted == Sorted(Scope.MATCHING, count, is_exact=True)

    def test_groups_are_made_of_all_that_match(self, search: CatalogueSearch, bundle: Bundle) -> None:
        found = ask(search, bundle, 3, 200, query="red thing", sort=SortBy("price"), group_by="model")
        cheapest: dict[str, int] = {}
        for row in by_price(RED):
            cheapest.setdefault(PRODUCTS[row].attributes["model"], row)
        assert found.candidates.rows == list(cheapest.values())
        assert found.sorted == Sorted(Scope.MATCHING, len(cheapest), is_exact=True)
        page = ask(search, bundle, 3, 2, query="red thing", sort=SortBy("price"), group_by="model")
        assert page.sorted == found.sorted
        assert list(page.candidates.groups) == page.candidates.rows == found.candidates.rows[:2]

    def test_a_product_that_holds_an_identifier_of_the_query_is_sorted_too(
        self, search: CatalogueSearch, bundle: Bundle
    ) -> None:
        found = ask(search, bundle, 3, 200, query="P17 thing red", sort=SortBy("price"))
        assert found.candidates.rows == [17]


class TestFacets:
    def test_all_products_that_pass_are_counted(self, search: CatalogueSearch) -> None:
        wanted = ProductFilter(brands=("Nord",))
        (colours,) = browse(search, k=3, filter=wanted, facets=(FacetQuestion("colour", 2),)).facets
        expected = cells("colour", [row for row in range(120) if PRODUCTS[row].brand == "Nord"])
        assert dict(colours.values).items() <= expected.items()
        assert [count for _, count in colours.values] == [count for _, count in expected.most_common(2)]
        assert (colours.num_values, colours.num_products, colours.scope) == (3, 60, Scope.ALL)

    def test_the_own_filter_does_not_restrict_the_counts(self, search: CatalogueSearch) -> None:
        wanted = ProductFilter(brands=("Nord",), attributes=(AttributeClause("colour", ("red",)),))
        colours, brands = browse(
            search, filter=wanted, facets=(FacetQuestion("colour", 9), FacetQuestion("brand", 9))
        ).facets
        assert dict(colours.values) == cells("colour", [n for n in range(120) if PRODUCTS[n].brand == "Nord"])
        red = [product for product in PRODUCTS if product.attributes.get("colour") == "red"]
        assert dict(brands.values) == Counter(product.brand for product in red)

    def test_ranges_have_the_bounds_of_filters(self, search: CatalogueSearch) -> None:
        questions = (
            FacetQuestion("price", 20, ((None, 500.0), (500.0, 900.0), (5000.0, None))),
            FacetQuestion("width", 20, ((2.0, 4.0),)),
        )
        prices, widths = browse(search, facets=questions).facets
        known = [product.price_minor for product in PRODUCTS if product.price_minor is not None]
        assert prices.ranges == (sum(p <= 500 for p in known), sum(500 <= p <= 900 for p in known), 0)
        assert prices.bounds == (min(known), max(known))
        widest = browse(search, filter=ProductFilter(attributes=(AttributeClause("width", low=2.0, high=4.0),)))
        assert widths.ranges == (widest.num_matching,)

    def test_values_are_searched(self, search: CatalogueSearch) -> None:
        (found,) = browse(search, facets=(FacetQuestion("model", 20, text="m1"),)).facets
        assert {value for value, _ in found.values} == {f"M{n}" for n in range(40) if str(n).startswith("1")}
        assert found.num_values == len(found.values)

    def test_categories_are_counted_at_every_level(self, search: CatalogueSearch) -> None:
        (found,) = browse(search, facets=(FacetQuestion("category", 20),)).facets
        assert dict(found.values) == {"Home": 120, "Home > Room 0": 40, "Home > Room 1": 40, "Home > Room 2": 40}

    def test_with_a_query_the_best_are_counted(self, search: CatalogueSearch, bundle: Bundle) -> None:
        wanted = ProductFilter(attributes=(AttributeClause("colour", ("red",)),))
        questions = (FacetQuestion("colour", 9), FacetQuestion("model", 50))
        colours, models = ask(search, bundle, 3, 15, filter=wanted, facets=questions).facets
        assert dict(colours.values) == cells("colour", ask(search, bundle, 3, 15).candidates.rows)
        assert dict(models.values) == cells("model", ask(search, bundle, 3, 15, filter=wanted).candidates.rows)
        assert (colours.num_products, colours.scope) == (15, Scope.BEST)


class TestGroups:
    def test_one_product_of_each_value_stays(self, search: CatalogueSearch) -> None:
        wanted = ProductFilter(in_stock_only=True)
        found = browse(search, filter=wanted, group_by="model")
        rows = [row for row in range(120) if PRODUCTS[row].in_stock]
        firsts = {row // 3: row for row in reversed(rows)}
        assert found.candidates.rows == sorted(firsts.values())
        for row in found.candidates.rows:
            group = found.candidates.groups[row]
            others = tuple(other for other in rows if other // 3 == row // 3 and other != row)
            assert (group.value, group.num_others, group.others) == (f"M{row // 3}", len(others), others)
        assert (found.num_matching, found.num_considered) == (len(rows), min(len(rows), MAX_GROUPED))

    def test_products_without_a_value_stay(self, search: CatalogueSearch, bundle: Bundle) -> None:
        plain = ask(search, bundle, 3, 120).candidates.rows
        grouped = ask(search, bundle, 3, 120, group_by="colour").candidates.rows
        seen: set[str] = set()
        expected = []
        for row in plain:
            colour = PRODUCTS[row].attributes.get("colour", "")
            if not colour or colour not in seen:
                expected.append(row)
                seen.add(colour)
        assert grouped == expected
