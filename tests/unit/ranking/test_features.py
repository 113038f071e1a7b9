"""Each feature by hand on a shop of six products."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.arrays import Floats
from models.bundles.bundle import Bundle
from models.bundles.manifest import Manifest
from models.products.product import Product
from models.query_types.type_model import TypeModel, TypePrediction
from models.ranking.feature_names import FEATURES
from models.ranking.features import CandidateFeatures, QueryInput
from models.ranking.product_words import MAX_TITLE_WORDS, MAX_WORDS
from models.ranking.taste import MAX_ITEMS, Taste
from models.unified.history import HistoryItem, HistoryKind, product_item
from models.unified.price_bands import PriceBands
from models.unified.words import words_of

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
    found = features.compute(query, np.array(rows))
    assert found.shape == (len(rows), len(FEATURES))
    assert found.dtype == np.float32
    return [round(float(value), 4) for value in found[:, FEATURES.index(name)]]


def item(product: Product, kind: HistoryKind = HistoryKind.CLICK, at: int = 1, band: int | None = None) -> HistoryItem:
    return product_item(kind, at, product, band)


def test_cosines_are_those_of_the_bundles_vectors(features: CandidateFeatures, ask: QueryInput, bundle: Bundle) -> None:
    axes = np.eye(bundle.manifest.dim, dtype=np.float32)
    known = replace(ask, shopper=3 * axes[2], search=axes[1])
    vectors = np.asarray(bundle.unit_vectors(), np.float32)
    found = features.compute(known, EVERY)
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


def test_an_affinity_is_how_much_more_than_by_chance_was_engaged_and_a_purchase_counts_twice(
    features: CandidateFeatures, ask: QueryInput, shop: list[Product]
) -> None:
    history = [
        item(shop[0], band=4),  # Halden, sofas, red, wipe
        item(shop[3], HistoryKind.PURCHASE, band=2),  # Nord, tables, green
        HistoryItem(HistoryKind.SEARCH, 9, query="red lamp"),
    ]
    fond = replace(ask, taste=Taste.from_history(history))

    def lift(met: float, by_chance: float) -> float:
        return round(float(np.log((met + 1) / (by_chance + 1))), 4)

    # Each category has one product, so that what was engaged with is what would have been by chance; departments have more.
    assert column(features, fond, "brand_affinity") == [0, 0, 0, 0, 0, 0]
    of_department = 3 / 4  # were by chance of each of the four categories
    assert column(features, fond, "category_affinity") == [
        lift(1, of_department),
        lift(0, of_department),
        lift(0, of_department),
        lift(2, of_department),
        0,
        0,
    ]
    halden = replace(ask, taste=Taste.from_history([item(shop[0]), item(replace(shop[3], brand=" HALDEN"))]))
    assert column(features, halden, "brand_affinity") == [lift(2, 1), lift(2, 1), lift(0, 1), lift(0, 1), 0, 0]
    assert column(features, fond, "engaged") == [round(float(np.log(3)), 4)] * 6
    assert column(features, ask, "brand_affinity") == column(features, ask, "trait_affinity") == [0.0] * 6


def test_only_the_latest_of_a_long_history_make_a_taste(shop: list[Product]) -> None:
    clicks = [item(shop[3], at=at) for at in range(MAX_ITEMS)]
    bought = [item(shop[4], HistoryKind.PURCHASE, at=at) for at in range(MAX_ITEMS)]
    long = Taste.from_history([*clicks, *bought, item(shop[0], at=-1), item(shop[0], HistoryKind.PURCHASE, at=-1)])
    short = Taste.from_history([*bought, *clicks])
    assert long is not None
    assert short is not None
    assert long.engaged == short.engaged == 2 * MAX_ITEMS
    assert np.array_equal(long.keys, short.keys)
    assert long.weights.max() == 2 * MAX_ITEMS


def test_products_that_this_shopper_clicked_and_bought_before_are_known(
    features: CandidateFeatures, ask: QueryInput, bundle: Bundle
) -> None:
    first, second, last = (bundle.products().product(row) for row in (0, 1, 5))
    history = [
        *(item(first, HistoryKind.PURCHASE, at) for at in range(3)),
        item(first),
        item(second),
        item(replace(last, id="sold-out")),
    ]
    known = replace(ask, taste=Taste.from_history(history))
    assert column(features, known, "bought_before") == [round(math.log1p(3), 4), 0, 0, 0, 0, 0]
    assert column(features, known, "clicked_before") == [round(math.log1p(1), 4)] * 2 + [0] * 4
    # The next search of a batch has a shopper of its own.
    other = replace(ask, taste=Taste.from_history([item(second)]))
    both = features.compute_many([known, ask, other], [EVERY, EVERY, EVERY])
    assert np.flatnonzero(both[:, FEATURES.index("clicked_before")]).tolist() == [0, 1, 13]
    # A product that a caller sends is known by its id.
    sent = features.compute_for_products(known, [replace(last, id=first.id), last])
    assert sent[:, FEATURES.index("bought_before")].round(4).tolist() == [pytest.approx(math.log1p(3), abs=1e-4), 0]


def test_prices_stand_against_the_shoppers_usual_band_and_the_categorys_median(
    features: CandidateFeatures, ask: QueryInput, shop: list[Product]
) -> None:
    bands = PriceBands.from_products(shop)
    assert [bands.band(product) for product in shop] == [4, 3, None, 2, 1, 0]
    frugal = replace(
        ask, taste=Taste.from_history([item(shop[5], band=0), item(shop[4], HistoryKind.PURCHASE, band=3)])
    )
    assert column(features, frugal, "price_above") == [0.5, 0.25, 0, 0, -0.25, -0.5]
    assert column(features, frugal, "price_distance") == [0.5, 0.25, 0, 0, 0.25, 0.5]
    unpriced = replace(ask, taste=Taste.from_history([item(shop[2])]))
    assert column(features, unpriced, "price_above") == [0.0] * 6
    assert column(features, ask, "price_ratio") == [0.0] * 6  # each is alone in its category, or has no price


def test_whether_something_is_in_stock_is_known_of_every_bundle(features: CandidateFeatures, ask: QueryInput) -> None:
    assert column(features, ask, "in_stock") == [1, 0, 1, 1, 1, 1]


def test_a_row_depends_on_no_other_candidate(
    features: CandidateFeatures, ask: QueryInput, shop: list[Product], shop_types: TypeModel
) -> None:
    types = shop_types.classify(["red sofa"], ["en-US"])[0]
    asked = replace(ask, text="red sofa hx-4210", taste=Taste.from_history([item(shop[0], band=2)]), types=types)
    together = features.compute(asked, EVERY)
    alone = np.concatenate([features.compute(asked, np.array([row])) for row in EVERY])
    assert np.allclose(together, alone, atol=1e-6)
    assert np.array_equal(features.compute(asked, EVERY[::-1]), together[::-1])
    assert features.compute(asked, np.zeros(0, np.int64)).shape == (0, len(FEATURES))


def test_many_searches_together_are_as_each_alone(
    features: CandidateFeatures, ask: QueryInput, shop: list[Product], shop_types: TypeModel
) -> None:
    types = shop_types.classify(["red sofa"], ["en-US"])[0]
    fond = replace(ask, text="nothing of this", shopper=ask.query, taste=Taste.from_history([item(shop[3], band=1)]))
    asked = [
        replace(ask, text="red sofa hx-4210", taste=Taste.from_history([item(shop[0], band=2)]), types=types),
        fond,
        replace(fond, text="", shopper=None, taste=None),
        replace(fond, types=replace(types, abstained=True)),
    ]
    rows = [EVERY, EVERY[::-1], np.array([2, 2, 5]), np.zeros(0, np.int64)]
    together = features.compute_many(asked, rows)
    assert np.allclose(together, np.concatenate([features.compute(*one) for one in zip(asked, rows, strict=True)]))
    assert features.compute_many([], []).shape == (0, len(FEATURES))
    with pytest.raises(ValueError, match="rows must be 0 to 5, not 0 to 6"):
        features.compute_many([ask, ask], [EVERY, EVERY + 1])


def test_features_are_those_of_their_definitions(
    bundle: Bundle, features: CandidateFeatures, ask: QueryInput, shop: list[Product]
) -> None:
    """Word by word and share by share, as slow as that is."""
    history = [item(shop[0], band=4), item(shop[1], HistoryKind.PURCHASE, band=3), item(shop[3], band=1)]
    told = TypePrediction((("Furniture > Sofas", 0.6), ("Furniture Care", 0.3)), False, "en-US")
    for text in ("velvet sofa", "red cafe table furniture", "halden green wipe", "nord hx4210"):
        asked = replace(ask, text=text, taste=Taste.from_history(history), types=told)
        found = features.compute(asked, EVERY)
        for row, product in enumerate(shop):
            wanted = by_definition(text, history, told, product)
            got = {name: float(found[row, FEATURES.index(name)]) for name in wanted}
            assert got == pytest.approx(wanted, abs=1e-5), (text, product.title)


def by_definition(
    text: str, history: Sequence[HistoryItem], told: TypePrediction, product: Product
) -> dict[str, float]:
    asked = words_of(text, 99)
    title = words_of(product.title, 99)
    every = [*title, *words_of(" ".join((product.brand, product.category, *product.attributes.values())), 99)]
    return {
        "title_match": sum(word in title for word in asked) / len(asked),
        "text_match": sum(word in every for word in asked) / len(asked),
        "type_probability": dict(told.types).get(product.category, 0.0),
    }


def test_long_texts_count_up_to_their_limits(build_tiny: Callable[..., Manifest], tmp_path: Path) -> None:
    """Words are kept by eight: titles and other fields around and beyond every step."""
    title = [f"t{at}" for at in range(MAX_TITLE_WORDS + 4)]
    care = [f"c{at}" for at in range(MAX_WORDS + 4)]
    lengths = [(1, 0), (7, 1), (8, 7), (9, 8), (16, 9), (len(title), len(care))]
    products = [
        Product(f"P-{at}", " ".join(title[:a]), "", "", None, True, {"care": " ".join(care[:b])})
        for at, (a, b) in enumerate(lengths)
    ]
    build_tiny(tmp_path / "long", products)
    bundle = Bundle(tmp_path / "long")
    features, vector = CandidateFeatures(bundle), np.zeros(bundle.manifest.dim, np.float32)
    for word, at in (*((word, at) for at, word in enumerate(title)), *((word, at) for at, word in enumerate(care))):
        ask = QueryInput(word, "en-US", vector, None, vector)
        of_title = word.startswith("t")
        limit = MAX_TITLE_WORDS if of_title else MAX_WORDS
        holds = [float(at < min(length[0 if of_title else 1], limit)) for length in lengths]
        assert column(features, ask, "text_match") == holds
        assert column(features, ask, "title_match") == [held * of_title for held in holds]


def test_products_given_inline_are_as_those_of_the_catalogue(
    features: CandidateFeatures, ask: QueryInput, shop: list[Product], shop_types: TypeModel
) -> None:
    types = shop_types.classify(["red sofa"], ["en-US"])[0]
    taste = Taste.from_history([item(shop[0], band=2), item(shop[3])])
    asked = replace(ask, text="red sofa hx-4210", shopper=ask.query, taste=taste, types=types)
    ordered = [replace(product, attributes=dict(sorted(product.attributes.items()))) for product in shop]
    inline = features.compute_for_products(asked, ordered)
    unknown = np.isnan(inline)
    names = {FEATURES[at] for at in np.flatnonzero(unknown.any(axis=0))}
    of_catalogue = {"words_held", "lexical_score", "clicked_share", "clicked", "popularity", "new", "value"}
    assert names == {"query_cosine", "search_cosine", "shopper_cosine", *of_catalogue}
    assert np.allclose(np.where(unknown, 0, inline), np.where(unknown, 0, features.compute(asked, EVERY)), atol=1e-6)
    assert features.compute_for_products(asked, []).shape == (0, len(FEATURES))


def test_a_product_that_the_catalogue_has_not_is_known_by_what_it_says(
    features: CandidateFeatures, ask: QueryInput, shop: list[Product]
) -> None:
    told = Product("Z-9000", "Zither ZX-77", "nord ", "Music", 500, False, {"colour": "puce", "string": "zither"})
    taste = Taste.from_history([item(shop[2]), item(replace(shop[4], brand="Nord"))])
    found = features.compute_for_products(replace(ask, text="zither zx77", taste=taste), [told])[0]
    values = {name: float(found[FEATURES.index(name)]) for name in FEATURES}
    of_brand = column(features, replace(ask, taste=taste), "brand_affinity", [3])
    assert round(values["brand_affinity"], 4) == of_brand[0] != 0
    assert values["category_affinity"] == values["trait_affinity"] == 0  # nobody can have engaged with these
    assert (values["identifier_match"], values["title_match"], values["in_stock"]) == (1, 0.5, 0)
    assert (values["price_ratio"], values["price_above"]) == (0, 0)
    assert not features.compute_for_products(replace(ask, text="zy-77"), [told])[0, FEATURES.index("identifier_match")]


def test_a_taste_travels_between_processes(features: CandidateFeatures, ask: QueryInput, shop: list[Product]) -> None:
    taste = Taste.from_history([item(shop[0], band=2), item(shop[3], HistoryKind.PURCHASE, band=1)])
    sent = pickle.loads(pickle.dumps(taste))  # noqa: S301
    here, there = (features.compute(replace(ask, taste=one), EVERY) for one in (taste, sent))
    assert np.array_equal(here, there)
    assert Taste.from_history([]) is Taste.from_history([HistoryItem(HistoryKind.SEARCH, 1, query="sofa")]) is None


def test_threads_do_not_mix_their_searches(features: CandidateFeatures, ask: QueryInput, shop: list[Product]) -> None:
    asked = [replace(ask, taste=Taste.from_history([item(product)])) for product in shop] * 50
    alone = [features.compute(one, EVERY) for one in asked[:6]] * 50
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda one: features.compute(one, EVERY), asked))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_many_searches_are_made_as_one_is(bundle: Bundle, shop: list[Product], shop_types: TypeModel) -> None:
    makes = CandidateFeatures(bundle, Tower(), shop_types)  # type: ignore[arg-type]
    one, two = makes.inputs(["sofa", "sessel"], ["en-US", "de-DE"], [[], [item(shop[0])]])
    assert one.types is not None
    assert one.types.types[0][0] == "Furniture > Sofas"
    assert two.types is not None
    assert two.types.types[0][0] == "Furniture > Armchairs"
    assert np.array_equal(one.search, one.query)
    assert not np.array_equal(two.search, two.query)
    assert two.taste is not None
    assert (one.taste, two.taste.engaged) == (None, 1)


def test_a_row_outside_the_catalogue_is_refused(features: CandidateFeatures, ask: QueryInput) -> None:
    for rows in ([6], [-1]):
        with pytest.raises(ValueError, match="rows must be 0 to 5"):
            features.compute(ask, np.array(rows))
