"""Retrieval learns from the logs of all locales: words that one locale's log alone explains find its products."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from models.arrays import silent
from models.bundles.build import Recipe
from models.bundles.bundle import Bundle
from models.bundles.sources import catalogue_source
from models.index.tuner import IndexTarget
from models.products.product_table import ProductTable
from models.train_all import LoopRecipe, Shop
from models.train_all.stages import Makers
from models.unified.bundle_part import UNIFIED_PART
from models.unified.history import query_words
from models.unified.light_tower import LightTower
from models.unified.load_model import load_weights
from models.unified.network import UnifiedNetwork
from models.unified.recipe import UnifiedRecipe
from models.unified.update import Update
from models.unified.words import Ragged, WordBook, locale_tokens, word_batch
from tests.learning.conftest import DAY_MS, KINDS, make_events

# No word of a title or of the first locale, and no n-gram of one. "light" is a lamp in the first locale, and a bin in the second.
GERMAN = dict(
    zip(
        KINDS,
        ("Kanapee", "Vorleger", "Funzel", "Gardine", "Wasserkocher", "Turnschuh", "Strickpulli", "light"),
        strict=True,
    )
)
TOP = 10
CHANCE = 1 / len(KINDS)
UNTIL_MS = 50 * DAY_MS  # of 60


@pytest.fixture(scope="module")
def shop(planted_table: ProductTable, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The planted shop, with a log of each of two locales."""
    folder = tmp_path_factory.mktemp("locales")
    products = [
        {"id": product.id, "title": product.title, "brand": product.brand, "category": product.category}
        for product in planted_table.products()
    ]
    pq.write_table(pa.Table.from_pylist(products), folder / "products.parquet")
    pq.write_table(make_events(150, 16, seed=0), folder / "us.parquet")
    german = make_events(80, 12, seed=1, locale="de-DE", words=tuple(GERMAN.values()), prefix="de ")
    pq.write_table(german, folder / "de.parquet")
    return Shop(
        catalogue_source(folder / "products.parquet", {}, (), (), "EUR"),
        (folder / "us.parquet", folder / "de.parquet"),
        Recipe(name="shop", currency="EUR", index=IndexTarget(latency_ms=100)),
    )


def retrieval(shop: Shop, loop: LoopRecipe, recipe: UnifiedRecipe, out: Path, update: Update | None = None) -> Bundle:
    make = Makers(shop=shop, recipe=replace(loop, unified=recipe), seed=0, device="cpu")
    make.unified(UNTIL_MS if update is None else make.end_ms, [], out, silent, update=update)
    return Bundle(out)


def found(bundle: Bundle, words: dict[str, str], locale: str) -> dict[str, float]:
    """Returns, by word, the share of the first TOP products that are of the kind."""
    tower = LightTower(UNIFIED_PART.open(bundle))
    vectors = np.asarray(bundle.unit_vectors(), np.float32)
    scores = tower.encode_queries([(word, locale) for word in words.values()]) @ vectors.T
    kinds = np.array([category.split(" > ")[1] for category in bundle.products().category_by_id().values()])
    return {
        word: float((kinds[np.argsort(-score)[:TOP]] == kind).mean())
        for (kind, word), score in zip(words.items(), scores, strict=True)
    }


def nearness(bundle: Bundle, word: str, locale: str, kind: str) -> float:
    """Returns the mean cosine of a word with products of the kind, less that with all products."""
    (vector,) = LightTower(UNIFIED_PART.open(bundle)).encode_queries([(word, locale)])
    scores = np.asarray(bundle.unit_vectors(), np.float32) @ vector
    is_kind = [category.endswith(f"> {kind}") for category in bundle.products().category_by_id().values()]
    return float(scores[is_kind].mean() - scores.mean())


@pytest.fixture(scope="module")
def bundle(
    shop: Shop, tiny_loop: LoopRecipe, tiny_recipe: UnifiedRecipe, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    return retrieval(shop, tiny_loop, tiny_recipe, tmp_path_factory.mktemp("both") / "bundle")


def test_words_of_each_locale_find_what_its_log_says(bundle: Bundle) -> None:
    assert min(found(bundle, KINDS, "en-US").values()) > 0.8
    assert min(found(bundle, GERMAN, "de-DE").values()) > 0.8


def test_a_word_of_two_locales_means_what_each_says(bundle: Bundle) -> None:
    assert found(bundle, {"lamp": "light"}, "en-US")["light"] > 0.8
    assert found(bundle, {"bin": "light"}, "de-DE")["light"] > 0.8


def test_the_light_tower_is_the_network_in_every_locale(bundle: Bundle, tiny_recipe: UnifiedRecipe) -> None:
    folder, book = UNIFIED_PART.open(bundle), WordBook(tiny_recipe.hashing)
    asked = [("light", "en-US"), ("light", "de-DE"), ("light", "fr-FR"), ("Kanapee light", "DE-de"), ("", "de-DE")]
    words = [query_words(text) for text, _ in asked]
    numbers = torch.tensor([0, 1, 2, 1, 1])  # 2 is any other
    own = [locale_tokens(row, ("en-US", "de-DE")[at]) if at < 2 else [] for row, at in zip(words, numbers, strict=True)]
    network = UnifiedNetwork(tiny_recipe, 2, tiny_recipe.graph_dim, locale_words=True)
    network.load_state_dict(load_weights(folder))
    rows = Ragged.from_rows(book.numbers(row) for row in words)
    with torch.inference_mode():
        bags = network.bags(word_batch([rows], book.buckets()))
        in_locales = Ragged.from_rows([book.hashing.bucket(token) for token in row] for row in own)
        vectors = network.search.query(network.in_locales(bags, in_locales), numbers).numpy()
    np.testing.assert_allclose(LightTower(folder).encode_queries(asked), vectors, atol=1e-4)
    assert vectors[0] @ vectors[1] < 0.5


def test_all_locales_are_served(bundle: Bundle) -> None:
    assert bundle.manifest.locales == ("en-US", "de-DE")


def test_an_update_keeps_all_locales_and_learns_their_new_events(
    bundle: Bundle, shop: Shop, tiny_loop: LoopRecipe, tiny_recipe: UnifiedRecipe, tmp_path: Path
) -> None:
    """From UNTIL_MS on shoppers of the second locale call sofas by a new word."""
    log = pq.read_table(shop.logs[1])
    is_new = pc.and_(pc.greater_equal(log["time"].cast(pa.int64()), UNTIL_MS), pc.equal(log["query"], GERMAN["sofa"]))
    at = log.schema.get_field_index("query")
    pq.write_table(log.set_column(at, "query", pc.if_else(is_new, "Ottomane", log["query"])), tmp_path / "de.parquet")
    later = replace(shop, logs=(shop.logs[0], tmp_path / "de.parquet"))
    update = Update(UNIFIED_PART.open(bundle), UNTIL_MS)
    updated = retrieval(later, tiny_loop, tiny_recipe, tmp_path / "updated", update)
    assert nearness(updated, "Ottomane", "de-DE", "sofa") > nearness(bundle, "Ottomane", "de-DE", "sofa") + 0.05
    assert min(found(updated, GERMAN, "de-DE").values()) > 0.8
    assert min(found(updated, KINDS, "en-US").values()) > 0.8


def test_without_its_log_or_with_its_clicks_shuffled_a_locales_words_find_nothing(
    shop: Shop, tiny_loop: LoopRecipe, tiny_recipe: UnifiedRecipe, tmp_path: Path
) -> None:
    """The control."""
    alone = retrieval(replace(shop, logs=shop.logs[:1]), tiny_loop, tiny_recipe, tmp_path / "alone")
    assert np.mean([*found(alone, GERMAN, "de-DE").values()]) < CHANCE + 0.15
    tower = LightTower(UNIFIED_PART.open(alone))  # its words are still its words where the locale is not known
    known, unknown = (
        tower.encode_queries([(word, locale) for word in KINDS.values()]) for locale in ("en-US", "de-DE")
    )
    np.testing.assert_allclose(known, unknown, atol=1e-6)
    log = pq.read_table(shop.logs[1])
    products = np.random.default_rng(0).permutation(log["product_id"].to_numpy(zero_copy_only=False))
    at = log.schema.get_field_index("product_id")
    pq.write_table(log.set_column(at, "product_id", pa.array(products)), tmp_path / "shuffled.parquet")
    shuffled = replace(shop, logs=(shop.logs[0], tmp_path / "shuffled.parquet"))
    bundle = retrieval(shuffled, tiny_loop, tiny_recipe, tmp_path / "shuffled")
    assert np.mean([*found(bundle, GERMAN, "de-DE").values()]) < CHANCE + 0.15
    assert min(found(bundle, KINDS, "en-US").values()) > 0.8
