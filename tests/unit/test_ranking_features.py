"""Each feature by hand on a shop of six products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from models.bundle import Bundle
from models.catalogue import Product
from models.query_types.type_model import TypeModel, TypePrediction
from models.ranking.features import FEATURES, MAX_ENGAGED, CandidateFeatures, QueryInput
from models.unified.history import HistoryItem, HistoryKind, product_item
from models.unified.price_bands import PriceBands

Floats = npt.NDArray[np.float32]
EVERY = np.arange(6)


class Tower:
    """Queries are the first axis, shoppers the second for each item of their history, and searches between them."""

    def encode_queries(self, queries: Sequence[tuple[str, str]]) -> Floats:
        return np.eye(1, 16, dtype=np.float32).repeat(len(queries), axis=0)

    def encode_shoppers(self, histories: Sequence[Sequence[HistoryItem]]) -> Floats:
        return np.stack([np.eye(16, dtype=np.float32)[1] * len(history) for history in histories])

    def personalise(self, queries: Floats, shoppers: Floats) -> Floats:
        mixed = queries + np.sign(shoppers)
        return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def bundle(shop_bundle: Path) -> Bundle:
    return Bundle(shop_bundle)


@pytest.fixture(scope="module")
def features(bundle: Bundle) -> CandidateFeatures:
    return CandidateFeatures(bundle, Tower())  # type: ignore[arg-type]


@pytest.fixture
def ask(bundle: Bundle) -> QueryInput:
    axes = np.eye(bundle.manifest.dim, dtype=np.float32)
    return QueryInput("velvet sofa", "en-US", axes[0], None, axes[0])


def column(features: CandidateFeatures, query: QueryInput, name: str, rows: Sequence[int] = range(6)) -> list[float]:
    found = features.of(query, np.array(rows))
    assert found.shape == (len(rows), len(FEATURES))
    assert found.dtype == np.float32
    return [round(float(value), 4) for value in found[:, FEATURES.index(name)]]


def item(product: Product, kind: HistoryKind = HistoryKind.CLICK, at: int = 1, band: int | None = None) -> HistoryItem:
    return product_item(kind, at, product, band)


def test_cosines_are_those_of_the_bundles_vectors(features: CandidateFeatures, ask: QueryInput, bundle: Bundle) -> None:
    axes = np.eye(bundle.manifest.dim, dtype=np.float32)
    known = replace(ask, shopper=3 * axes[2], search=axes[1])
    vectors = np.asarray(bundle.unit_vectors(), np.float32)
    found = features.of(known, EVERY)
    assert np.allclose(found[:, :3], vectors[:, [0, 1, 2]], atol=1e-6)
    assert column(features, known, "shopper_known") == [1.0] * 6
    assert column(features, ask, "shopper_cosine") == [0.0] * 6
    assert column(features, replace(ask, shopper=0 * axes[2]), "shopper_known") == [0.0] * 6


def test_words_match_whole_without_case_or_accents(features: CandidateFeatures, ask: QueryInput) -> None:
    assert column(features, ask, "title_match") == [1.0, 0.5, 0.5, 0.0, 0.0, 0.0]
    # "Furniture > Sofas" holds "sofas", which is another word.
    assert column(features, replace(ask, text="RED cafe furniture"), "title_match") == [0, 0, 0, 0.3333, 0.3333, 0]
    assert column(features, replace(ask, text="RED cafe furniture"), "text_match") == [
        *(0.6667, 0.3333, 0.3333, 0.6667, 0.3333, 0.0)
    ]
    assert column(features, ask, "query_words") == [2.0] * 6


def test_a_query_without_words_matches_nothing(features: CandidateFeatures, ask: QueryInput) -> None:
    for name in ("title_match", "text_match", "query_words", "identifier_match"):
        assert column(features, replace(ask, text="!?"), name) == [0.0] * 6


def test_an_identifier_marks_its_products_alone(features: CandidateFeatures, ask: QueryInput) -> None:
    assert column(features, replace(ask, text="hx4210 bed"), "identifier_match") == [0, 0, 1, 0, 0, 0]


def test_a_type_counts_for_its_category_unless_the_classifier_abstained(
    features: CandidateFeatures, ask: QueryInput
) -> None:
    told = TypePrediction((("Furniture > Sofas", 0.7), ("Furniture > Tables", 0.2), ("Sports > Bikes", 0.1)), False, "")
    sure = replace(ask, types=told)
    assert column(features, sure, "type_probability") == [0.7, 0, 0, 0.2, 0, 0]
    assert column(features, sure, "type_known") == [1.0] * 6
    for unsure in (replace(told, abstained=True), None):
        assert column(features, replace(ask, types=unsure), "type_probability") == [0.0] * 6
        assert column(features, replace(ask, types=unsure), "type_known") == [0.0] * 6


def test_affinities_are_shares_of_what_was_engaged_and_a_purchase_counts_twice(
    features: CandidateFeatures, ask: QueryInput, shop: list[Product]
) -> None:
    history = [
        item(shop[0]),  # Halden, sofas, red
        item(shop[3], HistoryKind.PURCHASE),  # Nord, tables, green
        HistoryItem(HistoryKind.SEARCH, 9, query="red lamp"),
    ]
    fond = replace(ask, history=history)
    third, rest = 0.3333, 0.6667
    assert column(features, fond, "brand_affinity") == [third, third, rest, rest, 0, 0]  # in whatever case
    assert column(features, fond, "category_affinity") == [third, 0, 0, rest, 0, 0]
    assert column(features, fond, "colour_affinity") == [third, 0, 0, rest, 0, 0]
    assert column(features, fond, "trait_affinity")[0] == round((third + third) / 2, 4)  # "red" and "wipe"
    assert column(features, fond, "engaged") == [round(float(np.log(3)), 4)] * 6


def test_only_the_latest_of_a_long_history_make_a_taste(
    features: CandidateFeatures, ask: QueryInput, shop: list[Product]
) -> None:
    history = [item(shop[3], at=at) for at in range(MAX_ENGAGED)] + [item(shop[0], at=-1)]
    assert column(features, replace(ask, history=history), "brand_affinity", [0, 3]) == [0.0, 1.0]


def test_prices_stand_against_the_shoppers_usual_band_and_the_categorys_median(
    features: CandidateFeatures, ask: QueryInput, shop: list[Product]
) -> None:
    bands = PriceBands.of(shop)
    assert [bands.band(product) for product in shop] == [4, 3, None, 2, 1, 0]
    frugal = replace(ask, history=[item(shop[5], band=0), item(shop[4], HistoryKind.PURCHASE, band=3)])
    assert column(features, frugal, "price_above") == [0.5, 0.25, 0, 0, -0.25, -0.5]
    assert column(features, frugal, "price_distance") == [0.5, 0.25, 0, 0, 0.25, 0.5]
    unpriced = replace(ask, history=[item(shop[2])])
    assert column(features, unpriced, "price_above") == [0.0] * 6
    assert column(features, ask, "price_ratio") == [0.0] * 6  # each is alone in its category, or has no price


def test_whether_something_is_in_stock_is_known_of_every_bundle(features: CandidateFeatures, ask: QueryInput) -> None:
    assert column(features, ask, "in_stock") == [1, 0, 1, 1, 1, 1]


def test_a_row_depends_on_no_other_candidate(
    features: CandidateFeatures, ask: QueryInput, shop: list[Product], shop_types: TypeModel
) -> None:
    types = shop_types.classify(["red sofa"], ["en-US"])[0]
    asked = replace(ask, text="red sofa hx-4210", history=[item(shop[0], band=2)], types=types)
    together = features.of(asked, EVERY)
    alone = np.concatenate([features.of(asked, np.array([row])) for row in EVERY])
    assert np.allclose(together, alone, atol=1e-6)
    assert np.array_equal(features.of(asked, EVERY[::-1]), together[::-1])
    assert features.of(asked, np.zeros(0, np.int64)).shape == (0, len(FEATURES))


def test_many_searches_are_made_as_one_is(bundle: Bundle, shop: list[Product], shop_types: TypeModel) -> None:
    makes = CandidateFeatures(bundle, Tower(), shop_types)  # type: ignore[arg-type]
    one, two = makes.inputs(["sofa", "sessel"], ["en-US", "de-DE"], [[], [item(shop[0])]])
    assert one.types is not None
    assert one.types.types[0][0] == "Furniture > Sofas"
    assert two.types is not None
    assert two.types.types[0][0] == "Furniture > Armchairs"
    assert np.array_equal(one.search, one.query)
    assert not np.array_equal(two.search, two.query)
    assert len(two.history) == 1


def test_a_row_outside_the_catalogue_is_refused(features: CandidateFeatures, ask: QueryInput) -> None:
    for rows in ([6], [-1]):
        with pytest.raises(ValueError, match="rows must be 0 to 5"):
            features.of(ask, np.array(rows))
