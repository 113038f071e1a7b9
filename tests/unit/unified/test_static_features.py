"""Features say of a product what they are named for, from 0 to 1, in the order of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.index.spec import num_columns
from models.products.product import Product
from models.products.product_table import ProductTable, write_products
from models.unified.embed_products import _write_vectors
from models.unified.signals import SIGNAL_SCALARS, ProductSignals, SavedSignals
from models.unified.static_feature_names import STATIC_FEATURES
from models.unified.static_features import SingleFeatures, static_features


def table_of(folder: Path, products: Sequence[Product]) -> ProductTable:
    write_products(folder / "products.arrow", products, ())
    return ProductTable(folder / "products.arrow")


def signals_of(popularity: Sequence[float | None]) -> ProductSignals:
    """None is a product that no shopper was shown."""
    scalars = np.zeros((len(popularity), len(SIGNAL_SCALARS)), np.float32)
    for row, value in enumerate(popularity):
        if value is not None:
            scalars[row, SIGNAL_SCALARS.index("popularity_rank")] = value
            scalars[row, SIGNAL_SCALARS.index("is_known")] = 1
    nothing = np.zeros((len(popularity), 1), np.float32)
    return ProductSignals(scalars, nothing, nothing)


def column(folder: Path, name: str, products: Sequence[Product], popularity: Sequence[float | None]) -> list[float]:
    features = static_features(table_of(folder, products), signals_of(popularity))
    assert features.shape == (len(products), len(STATIC_FEATURES))
    assert ((features >= 0) & (features <= 1)).all()
    return [float(value) for value in features[:, STATIC_FEATURES.index(name)]]


def test_popularity_is_the_quantile_and_new_is_what_nobody_met(tmp_path: Path, shop: list[Product]) -> None:
    popularity = [0.5, 0.0, None, 0.75, None, 0.25]
    assert column(tmp_path, "popularity", shop, popularity) == [0.5, 0.0, 0.0, 0.75, 0.0, 0.25]
    assert column(tmp_path, "new", shop, popularity) == [0, 0, 1, 0, 1, 0]


def test_stock_is_what_the_catalogue_says(tmp_path: Path, shop: list[Product]) -> None:
    assert column(tmp_path, "in_stock", shop, [None] * 6) == [1, 0, 1, 1, 1, 1]


def test_value_falls_with_the_price_among_the_category_alone(tmp_path: Path) -> None:
    priced = [("A", 300), ("B", 5), ("A", 100), ("A", None), ("A", 200), ("A", 200), ("B", 7), ("C", 1), ("D", None)]
    products = [
        Product(str(n), "x", category=category, price_minor=price) for n, (category, price) in enumerate(priced)
    ]
    values = column(tmp_path, "value", products, [None] * len(products))
    assert values == pytest.approx([1 / 8, 3 / 4, 7 / 8, 1 / 2, 1 / 2, 1 / 2, 1 / 4, 1 / 2, 1 / 2])


def test_a_catalogue_without_prices_has_no_value(tmp_path: Path) -> None:
    assert column(tmp_path, "value", [Product("1", "x"), Product("2", "y")], [None] * 2) == [0.5, 0.5]


def test_features_stand_behind_the_unit_vectors_and_zeros_behind_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors, features = rng.random((20_000, 32)).astype(np.float16), rng.random((20_000, 4)).astype(np.float32)
    _write_vectors(vectors, features, tmp_path / "vectors.npy")
    written = np.load(tmp_path / "vectors.npy")
    assert (written.dtype, written.shape) == (np.float16, (20_000, num_columns(32, 4)))
    np.testing.assert_array_equal(written[:, :32], vectors)
    np.testing.assert_array_equal(written[:, 32:36], features.astype(np.float16))
    assert not written[:, 36:].any()


def test_columns_are_as_many_as_are_read_fast_and_none_where_there_is_no_feature() -> None:
    assert [num_columns(256, number) for number in (0, 1, 4, 16, 17)] == [256, 272, 272, 272, 288]
    assert num_columns(100, 0) == 100


def random_shop(rng: np.random.Generator, size: int, start: int = 0) -> list[Product]:
    """Few categories and prices, so that many are equal."""
    return [
        Product(
            f"P-{start + at}",
            "x",
            category=str(rng.choice(["", "A", "B", "C > D"])),
            price_minor=None if rng.random() < 0.2 else int(rng.integers(0, 8)),
            in_stock=bool(rng.random() < 0.5),
        )
        for at in range(size)
    ]


def single(folder: Path, table: ProductTable, popularity: Sequence[float | None]) -> SingleFeatures:
    signals_of(popularity).save(folder, [table.id(row) for row in range(len(table))])
    return SingleFeatures(table, SavedSignals(folder))


@pytest.mark.parametrize("seed", range(5))
def test_a_product_of_the_catalogue_has_by_itself_what_it_has_among_all(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    products = random_shop(rng, 60)
    popularity = [None if value < 0.3 else value for value in rng.random(60).tolist()]
    table = table_of(tmp_path, products)
    np.testing.assert_array_equal(
        single(tmp_path, table, popularity).of(products), static_features(table, signals_of(popularity))
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_new_or_changed_product_has_what_a_catalogue_with_it_would_give_it(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    products = random_shop(rng, 40)
    popularity = [None if value < 0.3 else value for value in rng.random(40).tolist()]
    features = single(tmp_path, table_of(tmp_path, products), popularity)
    changed = random_shop(rng, 60)  # of which 20 are new
    for at, product in enumerate(changed):
        rest = [other for other in products if other.id != product.id]
        said = popularity[at] if at < 40 else None
        (tmp_path / str(at)).mkdir()
        rebuilt = static_features(
            table_of(tmp_path / str(at), [*rest, product]), signals_of([None] * len(rest) + [said])
        )
        np.testing.assert_array_equal(features.of([product])[0], rebuilt[-1])


def test_a_first_price_and_a_first_product_are_in_the_middle(tmp_path: Path) -> None:
    """As the only one of a category."""
    features = single(tmp_path, table_of(tmp_path, [Product("1", "x", category="A")]), [0.5])
    new = [Product("1", "x", category="A", price_minor=5), Product("2", "x", category="B", price_minor=5)]
    np.testing.assert_array_equal(features.of(new), np.array([[0.5, 0, 1, 0.5], [0, 1, 1, 0.5]], np.float32))
    assert features.of([]).shape == (0, len(STATIC_FEATURES))
