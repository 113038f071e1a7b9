"""Queries ask for what their product is, in shoppers' words, with the stated rates."""

from __future__ import annotations

from collections import Counter

import pytest

from models.draws import Draws
from models.sample_store import SampleQuery, SampleStore, load_product_types
from models.sample_store.queries import SHOPPER_NOUN_RATE, TYPO_RATE


@pytest.fixture(scope="module")
def store() -> SampleStore:
    return SampleStore(20_000)


@pytest.fixture(scope="module")
def queries(store: SampleStore) -> list[SampleQuery]:
    draws = Draws(1)
    return [store.query(draws) for _ in range(6000)]


class TestQueries:
    def test_same_draws_give_the_same_queries(self, store: SampleStore, queries: list[SampleQuery]) -> None:
        draws = Draws(1)
        assert [store.query(draws) for _ in range(50)] == queries[:50]

    def test_queries_for_a_type_are_in_proportion_to_its_products(self, queries: list[SampleQuery]) -> None:
        counts = Counter(query.type for query in queries)
        total = sum(kind.share for kind in load_product_types())
        for at, kind in enumerate(load_product_types()):
            assert counts[at] / len(queries) == pytest.approx(kind.share / total, abs=0.008)

    def test_typing_errors_come_at_their_rate(self, queries: list[SampleQuery]) -> None:
        could = [query for query in queries if "model" not in query.constraints]
        assert sum(query.has_typo for query in could) / len(could) == pytest.approx(TYPO_RATE, abs=0.015)

    def test_shoppers_use_their_own_nouns_at_their_rate(self, queries: list[SampleQuery]) -> None:
        plain = [query for query in queries if not query.has_typo and "model" not in query.constraints]
        own = sum(any(noun in query.text for noun in load_product_types()[query.type].shopper_nouns) for query in plain)
        assert own / len(plain) == pytest.approx(SHOPPER_NOUN_RATE, abs=0.05)

    def test_the_product_satisfies_the_constraints_of_its_query(
        self, store: SampleStore, queries: list[SampleQuery]
    ) -> None:
        for query in queries[:1500]:
            product, latent = store.product(query.product), store.latent(query.product)
            assert query.text == query.text.lower().strip()
            assert query.type == latent.type
            facts = {**product.attributes, "brand": product.brand, "price_band": str(latent.price_band)}
            assert {name: facts[name] for name in query.constraints} == dict(query.constraints)

    def test_query_for_a_given_product(self, store: SampleStore) -> None:
        draws = Draws(2)
        assert {store.query(draws, product=17).product for _ in range(20)} == {17}

    def test_all_kinds_of_constraints_occur(self, queries: list[SampleQuery]) -> None:
        names = {name for query in queries for name in query.constraints}
        assert names >= {"brand", "price_band", "model", "colour", "material", "style", "size", "feature", "audience"}
        assert any(not query.constraints for query in queries)
