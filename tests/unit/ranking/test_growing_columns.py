"""The features of a catalogue that changed are those of one that is read anew, with what is learned from all products as it was."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.arrays import Float16s, Floats, Progress
from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import VECTORS, Bundle
from models.bundles.source import Source
from models.bundles.work_folder import WorkFolder
from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts
from models.products.growing_rows import GrowingRows
from models.products.product import Product
from models.products.product_table import ProductTable
from models.query_types.type_model import TypePrediction
from models.ranking.feature_names import FEATURES
from models.ranking.features import CandidateFeatures, QueryInput
from models.ranking.product_columns import NUMBERS, ProductColumns, vocabulary_ids
from models.ranking.product_words import PRICE_AT
from models.ranking.taste import NO_KEY, Taste, price_key
from models.text_encoder.embed_products import TextEmbedding
from models.unified.history import HistoryKind, product_item
from models.unified.static_feature_names import STATIC_FEATURES

CATEGORIES = ("Home > Sofas", "Home > Rugs", "Garden > Benches", "")
BRANDS = ("Halden", "Nord", "Glanz", "")
WORDS = ("velvet", "sofa", "café", "grüne", "wide", "hex", "a", "oak", "bench")


def static(product: Product) -> Float16s:
    """Features that say which product with which offer it is."""
    digits = zlib.crc32(product.id.encode())
    value = zlib.crc32(f"{product.id} {product.price_minor}".encode())
    return np.array([digits % 90 / 90, digits % 2, product.in_stock, value % 70 / 70], np.float16)


class StaticEmbedding(TextEmbedding):
    """The text encoder's vectors with `static` behind them."""

    boosts = STATIC_FEATURES

    def embed(self, table: ProductTable, work: WorkFolder, progress: Progress) -> dict[str, Any]:
        stated = super().embed(table, work, progress)
        vectors = np.load(work.folder / VECTORS)
        features = np.stack([static(product) for product in table.products()])
        np.save(work.folder / VECTORS, np.concatenate([vectors, np.pad(features, ((0, 0), (0, 12)))], axis=1))
        return stated


@dataclass(frozen=True, slots=True)
class History:
    """What happened to a catalogue."""

    first: list[Product]
    changes: list[AddedProducts | RemovedProducts | ChangedOffers]
    rows: list[int]  # of the living products
    living: list[Product]


def happened(rng: np.random.Generator) -> History:
    """Products of old and new brands come, go, are replaced and get new offers. Vectors are filled in later."""

    def price() -> int | None:
        return int(rng.integers(100, 9_000)) if rng.random() < 0.8 else None

    def one(number: int, brands: tuple[str, ...] = BRANDS) -> Product:
        attributes = {"colour": str(rng.choice(["red", "blue", ""])), "care": str(rng.choice(["wipe", "wash it"]))}
        kept = {name: text for name, text in attributes.items() if text}
        title = " ".join(rng.choice(WORDS, int(rng.integers(1, 20))))
        brand, category, in_stock = str(rng.choice(brands)), str(rng.choice(CATEGORIES)), bool(rng.random() < 0.7)
        return Product(f"P-{number}", title, brand, category, price(), in_stock, kept)

    first = [one(number) for number in range(60)]
    every, living = list(first), dict(enumerate(first))
    changes: list[AddedProducts | RemovedProducts | ChangedOffers] = []
    for step in range(9):
        rows = rng.choice(list(living), 6, replace=False)
        if step % 3 == 0:
            replaced = RemovedProducts(rows[:3], [living.pop(row) for row in rows[:3].tolist()])
            numbers = [int(product.id[2:]) for product in replaced.products] + list(range(len(every), len(every) + 20))
            added = [one(number, (*BRANDS, "Neu")) for number in numbers]
            changes += [replaced, AddedProducts(len(every), added, np.zeros((0, 0), np.float16))]
            living.update(enumerate(added, start=len(every)))
            every += added
        elif step % 3 == 1:
            changes.append(RemovedProducts(rows, [living.pop(row) for row in rows.tolist()]))
        else:
            offered = [replace(living[row], price_minor=price(), in_stock=rng.random() < 0.5) for row in rows.tolist()]
            changes.append(ChangedOffers(rows, offered, np.stack(list(map(static, offered)))))
            living.update(zip(rows.tolist(), offered, strict=True))
    rows = sorted(living)
    return History(first, changes, rows, [living[row] for row in rows])


def grown(bundle: Bundle, history: History, final: Float16s) -> ProductColumns:
    columns = ProductColumns.from_bundle(bundle)
    unit = {row: final[at, :32] for at, row in enumerate(history.rows)}
    for change in history.changes:
        if isinstance(change, AddedProducts):
            vectors = np.zeros((len(change.products), final.shape[1]), np.float16)
            for at, product in enumerate(change.products):
                vectors[at, :32] = unit.get(change.start + at, 0)
                vectors[at, 32:36] = static(product)
            added = replace(change, vectors=vectors)
            columns.vectors.append(added)
            columns.append(added)
        elif isinstance(change, RemovedProducts):
            columns.remove(change)
        else:
            columns.vectors.change_offers(change)
            columns.change_offers(change)
    return columns


def read_anew(bundle: Bundle, learned: ProductColumns) -> ProductColumns:
    """The columns of a bundle, with the vocabulary, bands and medians of another one."""
    fresh = ProductColumns.from_bundle(bundle)
    keys = np.concatenate([[np.uint64(NO_KEY)], fresh.vocabulary])[fresh.attribute_ids.all()]
    numbers = fresh.numbers.all().copy()
    for row, product in enumerate(bundle.products().products()):
        band = learned.bands.band(product)
        ratio = 0.0
        if product.price_minor:
            ratio = np.clip(np.log(product.price_minor) - learned.medians[product.category], -3, 3)
        numbers[row, NUMBERS.index("price_band")] = -1 if band is None else min(band, 4)
        numbers[row, NUMBERS.index("price_ratio")] = ratio
        keys[row, PRICE_AT] = price_key(band)
    ids = GrowingRows(vocabulary_ids(learned.vocabulary, keys))
    return replace(
        fresh,
        numbers=GrowingRows(numbers),
        attribute_ids=ids,
        vocabulary=learned.vocabulary,
        baseline=learned.baseline,
        bands=learned.bands,
        medians=learned.medians,
    )


@pytest.mark.parametrize("seed", range(2))
def test_features_are_those_of_the_catalogue_read_anew(
    seed: int, make_source: Callable[..., Source], exported_encoder: Path, tmp_path: Path
) -> None:
    history = happened(np.random.default_rng(seed))
    embedding = StaticEmbedding(str(exported_encoder), ("care",))
    for name, products in (("first", history.first), ("final", history.living)):
        build_bundle(make_source(products), Recipe(name="shop"), tmp_path / name, lambda *_: None, embedding=embedding)
    first, final = Bundle(tmp_path / "first"), Bundle(tmp_path / "final")
    columns = grown(first, history, final.vectors())
    assert len(columns) == 60 + 3 * 23
    rebuilt = read_anew(final, columns)

    both = [CandidateFeatures(bundle, columns=read) for bundle, read in ((first, columns), (final, rebuilt))]
    rng, places = np.random.default_rng(seed), np.arange(len(history.living))
    for _ in range(5):
        engaged = [history.living[at] for at in rng.integers(len(places), size=6)]
        items = [product_item(HistoryKind.CLICK, n, one, columns.bands.band(one)) for n, one in enumerate(engaged)]
        vectors: Floats = rng.standard_normal((3, 32)).astype(np.float32)
        told = TypePrediction((("Home > Sofas", 0.6), ("Garden > Benches", 0.3)), False, "en-US")
        text = " ".join(rng.choice([*WORDS, "wash", "neu"], 3))
        query = QueryInput(text, "en-US", vectors[0], vectors[1], vectors[2], Taste.from_history(items), told)
        chosen = rng.choice(places, 40)
        found = both[0].compute(query, np.array(history.rows)[chosen])
        expected = both[1].compute(query, chosen)
        is_cosine = np.char.endswith(np.array(FEATURES), "_cosine")
        others = ~is_cosine & ~np.isin(FEATURES, ["words_held", "lexical_score"])  # of an index that did not grow here
        np.testing.assert_allclose(found[:, others], expected[:, others], atol=1e-5)
        np.testing.assert_allclose(found[:, is_cosine], expected[:, is_cosine], atol=0.02)  # bf16 texts, other batches


def test_an_attribute_of_appended_products_alone_is_shared_by_none(
    make_source: Callable[..., Source], exported_encoder: Path, tmp_path: Path
) -> None:
    history = happened(np.random.default_rng(0))
    embedding = StaticEmbedding(str(exported_encoder), ("care",))
    build_bundle(
        make_source(history.first), Recipe(name="shop"), tmp_path / "shop", lambda *_: None, embedding=embedding
    )
    columns = ProductColumns.from_bundle(Bundle(tmp_path / "shop"))
    new = [Product(f"N-{at}", "sofa", "Neu", "Home > Sofas", 500) for at in range(3)]
    vectors = np.zeros((3, 48), np.float16)
    columns.vectors.append(AddedProducts(60, new, vectors))
    columns.append(AddedProducts(60, new, vectors))
    ids = columns.take(np.arange(60, 63)).attribute_ids
    assert (ids[:, 1] == 0).all()
    assert (ids[:, 0] > 0).all()
