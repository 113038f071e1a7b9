"""After any changes, masks, facets, orders and groups are those of a catalogue that was built of the living products."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.arrays import Bools, Float16s, Ints
from models.products.attributes import columns
from models.products.attributes.collector import AttributeCollector
from models.products.attributes.columns import AttributeColumns
from models.products.attributes.spec import AttributeSpec
from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts, RowParallel
from models.products.product import Product
from models.products.product_table import ProductTable, write_products
from models.ranking.diversity import NO_GROUP
from serving.compute import filter_masks, value_order
from serving.compute.facets import FacetCounter, FacetCounts, FacetQuestion
from serving.compute.filter_masks import NO_FILTER, AttributeClause, FilterMasks, ProductFilter
from serving.compute.value_order import SortBy, ValueOrder, group_rows

SPECS = tuple(
    map(
        AttributeSpec.parse,
        (
            "colour:keyword",
            "tags:keywords",
            "size:number:cm",
            "released:date",
            "vegan:bool",
            "rare:keyword",
            "note:text",
        ),
    )
)
FEATURES = ("new", "popularity")
DIM = 3
BRANDS = ("Halden", "HALDEN", "Nord", "Straße", "STRASSE", "")
PATHS = ("Home > Sofas", "home > SOFAS", "Home > Beds", "Home > Sofas > Corner", "Garden", "")
COLOURS = ("red", "Red", "blue", "dark red", "grün")
SIZES = ("1 cm", "2 cm", "1 in", "-3", "0.5 m", "unknown", "1.25")


class Shop:
    """Everything by row that a search of values reads."""

    def __init__(self, folder: Path, products: Sequence[Product], features: Float16s) -> None:
        folder.mkdir()
        collector = AttributeCollector(SPECS)
        for product in products:
            collector.add(product)
        collector.save(folder / "attributes")
        write_products(folder / "products.arrow", products, ("colour",), keeps_rare=True)
        self.table = ProductTable(folder / "products.arrow")
        self.attributes = AttributeColumns.load(folder / "attributes", len(products))
        self.masks = FilterMasks(self.table, self.attributes)
        self.order = ValueOrder(self.table, self.masks, vectors_of(features), DIM, FEATURES)
        self.counter = FacetCounter(self.masks)
        self.parts: tuple[RowParallel, ...] = (self.table, self.attributes, self.masks, self.order)

    def mask(self, product_filter: ProductFilter) -> Bools:
        mask = self.masks.mask(product_filter)
        return np.ones(len(self.table), np.bool_) if mask is None else mask


def vectors_of(features: Float16s) -> Float16s:
    vectors = np.zeros((len(features), DIM + 5), np.float16)
    vectors[:, DIM : DIM + len(FEATURES)] = features
    return vectors


class Changes:
    """Random changes of a shop, and what its rows hold after them."""

    def __init__(self, folder: Path, seed: int, count: int) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.num_ids = 0
        self.products = [self.new_product() for _ in range(count)]
        self.features = np.array([self.new_features() for _ in range(count)], np.float16)
        self.is_alive = [True] * count
        self.shop = Shop(folder / "grown", self.products, self.features)
        self.shop.masks.warm_up()

    @property
    def living(self) -> Ints:
        return np.flatnonzero(self.is_alive)

    def rebuilt(self) -> Shop:
        folder = self.folder / f"rebuilt-{len(self.products)}-{self.random.random()}"
        return Shop(folder, [self.products[row] for row in self.living.tolist()], self.features[self.living])

    def new_features(self) -> list[float]:
        return [self.random.choice((0.0, 0.5, 1.0)), self.random.randrange(8) / 8]

    def new_product(self, product_id: str = "") -> Product:
        rng = self.random
        self.num_ids += 1
        tags = rng.sample(COLOURS, rng.randrange(4))
        texts = {
            "colour": rng.choice((*COLOURS, f"colour {rng.randrange(9)}")) if rng.random() < 0.8 else "",
            "tags": "|".join(tags),
            "size": rng.choice(SIZES) if rng.random() < 0.5 else str(rng.randrange(9)),
            "released": f"2024-01-0{rng.randrange(1, 10)}" if rng.random() < 0.7 else "",
            "vegan": rng.choice(("yes", "no", "")),
            "rare": rng.choice(("one", "two", f"n{rng.randrange(9)}")) if rng.random() < 0.1 else "",
            "note": "prose" if rng.random() < 0.5 else "",
            f"key {rng.randrange(300)}": "x" if rng.random() < 0.2 else "",
        }
        lists = {"tags": tuple(tags)} if tags and rng.random() < 0.5 else {}
        if lists:
            texts["tags"] = ", ".join(tags)
        return Product(
            product_id or f"P{self.num_ids}",
            "T",
            brand=rng.choice((*BRANDS, f"Brand {rng.randrange(9)}")),
            category=rng.choice((*PATHS, f"Home > {rng.randrange(9)}")),
            price_minor=rng.choice((None, *range(9))),
            in_stock=rng.random() < 0.7,
            attributes={name: text for name, text in texts.items() if text},
            other_categories=tuple(rng.sample(PATHS[:-1], rng.choice((0, 0, 0, 1, 2)))),
            lists=lists,
        )

    def step(self) -> None:
        """Makes one change: an update, new products, a removal or other offers."""
        rng, living = self.random, self.living.tolist()
        chosen = rng.sample(living, min(len(living), rng.randrange(1, 6)))
        kind = rng.choice(("update", "append", "remove", "offers", "offers"))
        if kind == "update":
            products = [self.new_product(self.products[row].id) for row in chosen]
            self.remove(chosen)
            self.append(products)
        elif kind == "append":
            self.append([self.new_product() for _ in chosen])
        elif kind == "remove" and len(living) > 10:
            self.remove(chosen)
        else:
            self.change_offers(chosen)

    def append(self, products: Sequence[Product]) -> None:
        features = np.array([self.new_features() for _ in products], np.float16)
        added = AddedProducts(len(self.products), products, vectors_of(features))
        for part in self.shop.parts:
            part.append(added)
        self.products += products
        self.features = np.concatenate([self.features, features])
        self.is_alive += [True] * len(products)

    def remove(self, rows: Sequence[int]) -> None:
        removed = RemovedProducts(np.array(rows, np.int64), [self.products[row] for row in rows])
        for part in self.shop.parts:
            part.remove(removed)
        for row in rows:
            self.is_alive[row] = False

    def change_offers(self, rows: Sequence[int]) -> None:
        for row in rows:
            offer = {"price_minor": self.random.choice((None, *range(12))), "in_stock": self.random.random() < 0.5}
            self.products[row] = dataclasses.replace(self.products[row], **offer)
            self.features[row] = self.new_features()
        changed = ChangedOffers(
            np.array(rows, np.int64), [self.products[row] for row in rows], self.features[list(rows)]
        )
        for part in self.shop.parts:
            part.change_offers(changed)


FILTERS = (
    NO_FILTER,
    ProductFilter(brands=("halden", "brand 3")),
    ProductFilter(brands=("strasse",), in_stock_only=True),
    ProductFilter(categories=("HOME",)),
    ProductFilter(categories=("home > sofas", "Garden"), min_price_minor=2, max_price_minor=6),
    ProductFilter(categories=("home > 4", "none")),
    ProductFilter(min_price_minor=3),
    ProductFilter(max_price_minor=7, in_stock_only=True),
    ProductFilter(in_stock_only=True),
    ProductFilter(attributes=(AttributeClause("colour", ("RED", "colour 3")),)),
    ProductFilter(attributes=(AttributeClause("tags", ("red", "blue")),), in_stock_only=True),
    ProductFilter(attributes=(AttributeClause("size", low=1.0, high=4.0), AttributeClause("vegan", low=1, high=1))),
    ProductFilter(attributes=(AttributeClause("released", low=1704153600000.0), AttributeClause("rare", ("one",)))),
)
QUESTIONS = (
    *(FacetQuestion(name, 50) for name in ("brand", "category", "price", "colour", "tags", "size", "vegan", "rare")),
    *(FacetQuestion(name, 3) for name in ("brand", "category", "price", "colour", "tags", "size", "released")),
    FacetQuestion("colour", 4, text="RED"),
    FacetQuestion("category", 4, text="sofa"),
    FacetQuestion("size", 5, ((None, 1.0), (1.0, 3.0), (2.5, None))),
    FacetQuestion("price", 5, ((None, 3.0), (2.0, 9.0))),
)
ORDERS = [
    SortBy(name, is_descending)
    for name in ("price", "popularity", "new", "size", "released", "vegan")
    for is_descending in (False, True)
]


def without_case(counts: FacetCounts) -> FacetCounts:
    values = tuple((value.casefold() if isinstance(value, str) else value, count) for value, count in counts.values)
    return dataclasses.replace(counts, values=values)


def assert_same(changes: Changes) -> None:
    grown, built, living = changes.shop, changes.rebuilt(), changes.living
    assert_same_products(changes, built)
    for product_filter in FILTERS:
        mask = grown.mask(product_filter)
        assert len(mask) == len(grown.table)
        expected = built.mask(product_filter)
        assert np.flatnonzero(mask).tolist() == living[expected].tolist(), product_filter
        for question in QUESTIONS:
            if built.masks.column(question.name) is None:
                continue
            counted = grown.counter.of_all(question, grown.masks.mask(product_filter))
            assert without_case(counted) == without_case(
                built.counter.of_all(question, built.masks.mask(product_filter))
            ), (question, product_filter)
        for by in (None, *ORDERS):
            if by and by.name in grown.attributes and by.name not in built.attributes:
                continue
            for count in (3, 1000):
                rows = grown.order.first(by, grown.masks.mask(product_filter), count)
                same = built.order.first(by, built.masks.mask(product_filter), count)
                assert rows.tolist() == living[same].tolist(), (by, product_filter)
    shuffled = np.array(changes.random.sample(range(len(living)), min(30, len(living))))
    for question in QUESTIONS:
        if built.masks.column(question.name) is not None:
            of_rows = grown.counter.of_rows(question, living[shuffled])
            assert without_case(of_rows) == without_case(built.counter.of_rows(question, shuffled)), question
    for by in ORDERS:
        if by.name not in grown.attributes or by.name in built.attributes:
            assert grown.order.sorted(by, living[shuffled]).tolist() == built.order.sorted(by, shuffled).tolist()
    assert_same_groups(grown, built, living, shuffled)


def assert_same_products(changes: Changes, built: Shop) -> None:
    grown, living = changes.shop, changes.living
    products = [changes.products[row] for row in living.tolist()]
    assert (len(grown.table), grown.table.num_alive) == (len(changes.products), len(living))
    assert [grown.table.product(row) for row in range(len(grown.table))] == changes.products
    assert [grown.table.row_of(product.id) for product in products] == living.tolist()
    gone = {product.id for product in changes.products} - {product.id for product in products}
    assert {grown.table.row_of(product_id) for product_id in gone} <= {None}
    everywhere, among = living.tolist(), np.arange(len(living)).tolist()
    assert grown.masks.categories(everywhere) == [product.category for product in products]
    boosts = [("home > sofas", 0.5), ("Home", 0.2), ("Home > 3", 0.7)]
    assert grown.masks.type_boosts(boosts, living).tolist() == built.masks.type_boosts(boosts, np.array(among)).tolist()
    brands = grown.masks.brands(everywhere).tolist()
    assert brands == grown.masks.brand_numbers([product.brand for product in products]).tolist()
    assert len(set(brands)) == len({product.brand.casefold() for product in products})
    assert all((brand == NO_GROUP) == (not product.brand) for brand, product in zip(brands, products, strict=True))
    for path in ("HOME", "home > sofas", "home > 5", "none"):
        assert grown.masks.rows_of_category(path).tolist() == living[built.masks.rows_of_category(path)].tolist()
        assert grown.masks.holds("category", path) == built.masks.holds("category", path)
    for name in (*BRANDS, *(f"brand {n}" for n in range(9)), "none"):
        assert grown.masks.holds("brand", name) == built.masks.holds("brand", name)
    for keyword in (*COLOURS, *(f"colour {n}" for n in range(9))):
        assert grown.masks.holds_keyword("colour", keyword) == built.masks.holds_keyword("colour", keyword)


def assert_same_groups(grown: Shop, built: Shop, living: Ints, rows: Ints) -> None:
    for name in ("colour", "tags", "rare"):
        if name not in built.attributes:
            continue
        for product_filter in FILTERS[:3]:
            kept, groups = group_rows(grown.masks, name, living[rows], grown.masks.mask(product_filter))
            same_kept, same_groups = group_rows(built.masks, name, rows, built.masks.mask(product_filter))
            assert kept == same_kept
            assert {
                row: (group.value.casefold(), group.num_others, list(group.others)) for row, group in groups.items()
            } == {
                int(living[row]): (group.value.casefold(), group.num_others, living[list(group.others)].tolist())
                for row, group in same_groups.items()
            }


@pytest.mark.parametrize("seed", range(6))
def test_everything_is_as_if_built_of_the_living(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    if seed % 2:  # limits that a test would not reach
        monkeypatch.setattr(filter_masks, "MAX_NOTED", 7)
        monkeypatch.setattr(filter_masks, "MAX_CACHED_MASKS", 5)
        monkeypatch.setattr(value_order, "MAX_LATER", 0.1)
        monkeypatch.setattr(value_order, "MAX_NOTED", 9)
        monkeypatch.setattr(columns, "MIN_SORTED", 5)
        monkeypatch.setattr(value_order, "MIN_STEP", 2)
    changes = Changes(tmp_path, seed, count=40)
    assert_same(changes)
    for number in range(40):
        changes.step()
        if changes.random.random() < 0.2 or number == 39:
            assert_same(changes)


def test_what_is_made_after_changes_knows_them(tmp_path: Path) -> None:
    changes = Changes(tmp_path, 7, count=30)
    for _ in range(20):
        changes.step()
    shop = changes.shop
    shop.masks = FilterMasks(shop.table, shop.attributes)
    shop.counter = FacetCounter(shop.masks)
    assert_same_products(changes, changes.rebuilt())
    assert_same(changes)


def test_masks_stay_while_nothing_changes(tmp_path: Path) -> None:
    changes = Changes(tmp_path, 1, count=20)
    masks, wanted = changes.shop.masks, ProductFilter(min_price_minor=1)
    assert masks.mask(NO_FILTER) is None
    assert masks.mask(wanted) is masks.mask(wanted)
    changes.remove([3])
    assert masks.mask(NO_FILTER) is masks.mask(NO_FILTER) is not None
    assert masks.mask(wanted) is masks.mask(wanted)
