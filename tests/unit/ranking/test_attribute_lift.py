"""Lifts by taste and by the words of a query, compared with a slow computation by their definition."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.bundles.bundle import Bundle
from models.bundles.manifest import Manifest
from models.events.event import EVENT_SCHEMA
from models.products.product import Product
from models.query_types.type_model import TypePrediction
from models.ranking.feature_names import FEATURES
from models.ranking.features import CandidateFeatures, QueryInput
from models.ranking.learn_query_attributes import learn_query_attributes
from models.ranking.product_columns import ProductColumns
from models.ranking.query_attributes import FILE, QueryAttributes
from models.ranking.taste import Taste
from models.unified.history import HistoryKind, product_item, short_attributes
from models.unified.price_bands import PriceBands

CATEGORIES = ("Home > Sofas", "Home > Rugs", "Garden > Benches", "")
BRANDS = ("Halden", "Nord", "Glanz")
COLOURS = ("red", "blue", "green", "")


def make_products(count: int = 60) -> list[Product]:
    random = np.random.default_rng(3)

    def one(at: int) -> Product:
        attributes = {"colour": str(random.choice(COLOURS)), "care": str(random.choice(["wipe", "wash"]))}
        kept = {name: value for name, value in attributes.items() if value}
        brand, category, price = random.choice(BRANDS), random.choice(CATEGORIES), int(random.integers(100, 9_000))
        return Product(f"P-{at}", f"thing {at}", str(brand), str(category), price if at % 7 else None, True, kept)

    return [one(at) for at in range(count)]


PRODUCTS = make_products()
BANDS = PriceBands.from_products(PRODUCTS)


@pytest.fixture(scope="module")
def bundle(build_tiny: Callable[..., Manifest], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("lifts") / "bundle"
    build_tiny(folder, PRODUCTS)
    return Bundle(folder)


@pytest.fixture(scope="module")
def columns(bundle: Bundle) -> ProductColumns:
    return ProductColumns.from_bundle(bundle)


def question(bundle: Bundle, text: str = "thing", locale: str = "en-US", taste: Taste | None = None) -> QueryInput:
    axis = np.eye(bundle.manifest.dim, dtype=np.float32)[0]
    return QueryInput(text, locale, axis, None, axis, taste)


def by_chance(met: Sequence[tuple[Product, float]], has: Callable[[Product], bool]) -> float:
    """How much of `met` would have an attribute if each were any product of its category."""
    total = 0.0
    for product, weight in met:
        alike = [one for one in PRODUCTS if one.category == product.category]
        total += weight * sum(map(has, alike)) / len(alike)
    return total


def lift(met: Sequence[tuple[Product, float]], has: Callable[[Product], bool], prior: float) -> float:
    return math.log((sum(weight for one, weight in met if has(one)) + prior) / (by_chance(met, has) + prior))


def of_category(met: Sequence[tuple[Product, float]], category: str, prior: float) -> float:
    """A category is held against its department."""
    weight, department = sum(weight for one, weight in met if one.category == category), category.split(" > ", 1)[0]
    siblings = [one for one in PRODUCTS if one.category.split(" > ")[0] == department]
    usual = sum(w for one, w in met if one.category.split(" > ")[0] == department)
    usual *= sum(one.category == category for one in siblings) / len(siblings)
    return math.log((weight + prior) / (usual + prior))


def by_definition(met: Sequence[tuple[Product, float]], product: Product, prior: float) -> dict[str, float]:
    def has_attribute(attribute: str) -> Callable[[Product], bool]:
        return lambda one: attribute in short_attributes(one.attributes)

    return {
        "brand": lift(met, lambda one: one.brand == product.brand, prior),
        "category": of_category(met, product.category, prior),
        "price": 0.0
        if (band := BANDS.band(product)) is None
        else lift(met, lambda one: BANDS.band(one) == band, prior),
        "trait": sum(lift(met, has_attribute(attribute), prior) for attribute in short_attributes(product.attributes)),
    }


def test_affinities_are_those_of_their_definition(bundle: Bundle) -> None:
    features, random = CandidateFeatures(bundle), np.random.default_rng(5)
    for count in (1, 3, 20):
        chosen = [PRODUCTS[at] for at in random.integers(len(PRODUCTS), size=count)]
        kinds = [HistoryKind.PURCHASE if random.random() < 0.3 else HistoryKind.CLICK for _ in chosen]
        taste = Taste.from_history(
            [
                product_item(kind, at, one, BANDS.band(one))
                for at, (kind, one) in enumerate(zip(kinds, chosen, strict=True))
            ]
        )
        met = [(one, 2.0 if kind == HistoryKind.PURCHASE else 1.0) for kind, one in zip(kinds, chosen, strict=True)]
        found = features.compute(question(bundle, taste=taste), np.arange(len(PRODUCTS)))
        for row, product in enumerate(PRODUCTS):
            wanted = {f"{name}_affinity": value for name, value in by_definition(met, product, 1.0).items()}
            got = {name: float(found[row, FEATURES.index(name)]) for name in wanted}
            assert got == pytest.approx(wanted, abs=1e-5), (count, product)


def test_a_search_that_fails_leaves_nothing_to_the_next(bundle: Bundle) -> None:
    features, every = CandidateFeatures(bundle), np.arange(len(PRODUCTS))
    fond = question(bundle, taste=Taste.from_history([product_item(HistoryKind.CLICK, 1, PRODUCTS[0], None)]))
    broken = TypePrediction(((PRODUCTS[0].category, "much"),), False, "en-US")  # type: ignore[arg-type]
    before = features.compute(question(bundle), every)
    with pytest.raises(ValueError, match="much"):
        features.compute(replace(fond, types=broken), every)
    assert np.array_equal(features.compute(question(bundle), every), before)
    sure = replace(question(bundle), types=TypePrediction((("Home > Rugs", 0.5),), False, "en-US"))
    affinities = features.compute(sure, every)[
        :, FEATURES.index("brand_affinity") : FEATURES.index("trait_affinity") + 1
    ]
    assert not affinities.any()


def clicks(told: Sequence[tuple[str, str, Product]]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "id": f"e{at}",
                "time": at * 1000,
                "shopper_id": "",
                "session_id": f"s{at}",
                "locale": locale,
                "kind": "click",
                "product_id": product.id,
                "query": query,
                "position": 1,
                "price_minor": 0,
            }
            for at, (query, locale, product) in enumerate(told)
        ],
        EVENT_SCHEMA,
    )


def red_things() -> list[Product]:
    return [product for product in PRODUCTS if product.attributes.get("colour") == "red"]


def test_words_ask_for_what_was_clicked_after_them(bundle: Bundle, columns: ProductColumns) -> None:
    """In their own language, and those of a query add up; of a word that nobody used nothing is known."""
    told = [("rouge", "fr-FR", product) for product in red_things()]
    told += [("sofa", "en-US", product) for product in PRODUCTS if product.category == "Home > Sofas"]
    told += [("thing", "en-GB", product) for product in PRODUCTS]
    table = bundle.products()
    asked = learn_query_attributes(clicks(told), table, columns, until_ms=10**9)
    features = CandidateFeatures(bundle, query_attributes=asked, columns=columns)
    for text, locale, words in (
        ("Rouge!", "fr-CA", ["rouge"]),
        ("rouge sofa", "fr-FR", ["rouge"]),
        ("rouge", "en-US", []),
        ("sofa thing", "en-US", ["sofa", "thing"]),
        ("nobody", "en-US", []),
    ):
        found = features.compute(question(bundle, text, locale), np.arange(len(PRODUCTS)))
        for row, product in enumerate(PRODUCTS):
            for name in ("brand", "category", "price", "trait"):
                wanted = 0.0
                for word in words:
                    met = [(one, 1.0) for query, _, one in told if query == word]
                    wanted += by_definition(met, product, 3.0)[name]
                # What is hardly a lift is not kept: of three attributes of each of two words at most.
                assert found[row, FEATURES.index(f"{name}_asked")] == pytest.approx(
                    wanted, abs=0.25 * 2 * len(words) + 0.02
                )
    red = features.compute(question(bundle, "rouge", "fr-FR"), np.arange(len(PRODUCTS)))[
        :, FEATURES.index("trait_asked")
    ]
    is_red = np.isin([product.id for product in PRODUCTS], [product.id for product in red_things()])
    assert red[is_red].min() > 0.5 > red[~is_red].max()


def test_nothing_is_learned_of_what_came_too_late_or_was_hardly_clicked(
    bundle: Bundle, columns: ProductColumns
) -> None:
    table, red = bundle.products(), red_things()
    told = clicks([("rouge", "fr-FR", product) for product in red])
    assert len(learn_query_attributes(told, table, columns, until_ms=0).words) == 0
    assert len(learn_query_attributes(told, table, columns, until_ms=2001).words) == 1
    assert len(learn_query_attributes(told, table, columns, until_ms=2000).words) == 0  # two clicks
    again = pa.concat_tables([told.slice(0, 1).set_column(0, "id", [[f"again {at}"]]) for at in range(9)])
    assert len(learn_query_attributes(again, table, columns, until_ms=10**9).words) == 0  # one click, of one search


def test_what_words_ask_for_is_kept_in_a_file(bundle: Bundle, columns: ProductColumns, tmp_path: Path) -> None:
    told = clicks([("rouge", "fr-FR", product) for product in red_things()])
    asked = learn_query_attributes(told, bundle.products(), columns, until_ms=10**9)
    asked.save(tmp_path)
    read = QueryAttributes.load(tmp_path)
    for name in ("words", "starts", "keys", "lifts"):
        assert np.array_equal(getattr(read, name), getattr(asked, name))
    replace(asked, lifts=asked.lifts[1:]).save(tmp_path)
    with pytest.raises(ValueError, match="damaged"):
        QueryAttributes.load(tmp_path)
    (tmp_path / FILE).write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read"):
        QueryAttributes.load(tmp_path)
