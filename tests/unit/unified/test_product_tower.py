"""The product tower on NumPy gives the vectors of the trained network, for every set of blocks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.products.product import Product
from models.unified.light_tower import LightTower
from models.unified.model_files import (
    FORMAT_VERSION,
    PRODUCT_FILE,
    READER_FILE,
    SEARCH_FILE,
    SPEC_FILE,
    VOCABULARY_FILE,
)
from models.unified.network import UnifiedNetwork
from models.unified.numpy_layers import gelu
from models.unified.price_bands import PriceBands
from models.unified.product_tower import LightProductTower
from models.unified.query_generation import TextReader
from models.unified.recipe import ProductBlocks, QueryGeneration, TowerSizes, UnifiedRecipe
from models.unified.saved_model import ProductEncoder
from models.unified.signals import SIGNAL_SCALARS, ProductSignals
from models.unified.words import WordHashing

GRAPH_DIM = 5
WORDS = ("velvet", "sofa", "lamp", "rug", "grey", "wool", "café", "grün", "HX-4210", "2000mm", "wipe", "沙发", "oak")
VARIANTS = {
    "frozen text": ProductBlocks(),
    "tuned text": ProductBlocks(text="tuned"),
    "no text": ProductBlocks(text="none"),
    "text alone": ProductBlocks("tuned", graph=False, ngrams=False, ids=False, scalars=False, locale=False),
    "no graph": ProductBlocks(graph=False),
    "no n-grams": ProductBlocks(ngrams=False),
    "no ids": ProductBlocks(ids=False),
    "no scalars": ProductBlocks(scalars=False),
    "no locale": ProductBlocks(locale=False),
    "graph alone": ProductBlocks("none", graph=True, ngrams=False, ids=False, scalars=False, locale=False),
}


def random_products(number: int, seed: int = 0) -> list[Product]:
    """Products with long and empty texts, without prices, and in deep categories."""
    rng = np.random.default_rng(seed)

    def text(most: int) -> str:
        return " ".join(rng.choice(WORDS, rng.integers(0, most + 1)))

    return [
        Product(
            f"P-{at}",
            text(12),
            text(1),
            " > ".join(rng.choice(WORDS[:4], rng.integers(0, 7))),
            None if rng.random() < 0.2 else int(rng.integers(0, 100_000)),
            bool(rng.random() < 0.8),
            {name: text(20) for name in ("colour", "care", "size")} if rng.random() < 0.7 else {},
        )
        for at in range(number)
    ] + [Product("", ""), Product("P-1", "!?", category=" > > ")]


def write_model(folder: Path, blocks: ProductBlocks, products: Sequence[Product], locales: Sequence[str]) -> None:
    """Writes what a bundle keeps of a model, with random weights. Every other product was shown to shoppers."""
    torch.manual_seed(0)
    recipe = UnifiedRecipe(
        "tiny",
        hashing=WordHashing(bits=10),
        sizes=TowerSizes(dim=32, prefixes=(32,), token_dim=16, id_bits=8, id_dim=4, product_hidden=24),
        products=blocks,
        query_generation=QueryGeneration(dim=16, layers=2, heads=2, vocabulary=64, max_product_words=9),
    )
    network = UnifiedNetwork(recipe, len(locales), GRAPH_DIM)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    weights = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    light = {name: value for name, value in weights.items() if name.startswith(("tokens.", "search."))}
    save_file(light, folder / SEARCH_FILE)
    save_file({name: value for name, value in weights.items() if name not in light}, folder / PRODUCT_FILE)
    if blocks.text == "frozen":
        save_file(TextReader(recipe.query_generation).state_dict(), folder / READER_FILE)
    vocabulary = {"words": ["sofa", "velvet", "brand=wool", "price=3", "rug"], "size": 64}
    (folder / VOCABULARY_FILE).write_text(json.dumps(vocabulary))
    PriceBands.from_products(products).save(folder)
    rng = np.random.default_rng(0)
    known = np.arange(len(products)) % 2 == 0
    scalars = rng.random((len(products), len(SIGNAL_SCALARS))).astype(np.float32)
    scalars[:, SIGNAL_SCALARS.index("is_known")] = 1
    columns = [scalars, rng.normal(size=(len(products), len(locales))), rng.normal(size=(len(products), GRAPH_DIM))]
    shown = [np.where(known[:, None], values, 0).astype(np.float32) for values in columns]
    ProductSignals(*shown).save(folder, [product.id for product in products])
    spec = {"recipe": asdict(recipe), "locales": locales, "graph_dim": GRAPH_DIM, "threshold": 0.2}
    (folder / SPEC_FILE).write_text(json.dumps({"format_version": FORMAT_VERSION, **spec}))


def opened(folder: Path) -> LightProductTower:
    return LightProductTower(folder, LightTower(folder))


@pytest.mark.parametrize("locales", [("en-US", "de-DE"), ("en-US",)])
@pytest.mark.parametrize("blocks", VARIANTS.values(), ids=VARIANTS.keys())
def test_vectors_are_those_of_the_trained_network(
    blocks: ProductBlocks, locales: Sequence[str], tmp_path: Path
) -> None:
    products = random_products(60)
    write_model(tmp_path, blocks, products[:-2], locales)
    newer = [Product(f"new {product.id}", product.title, product.brand) for product in products]
    expected = ProductEncoder(tmp_path).encode([*products, *newer])
    tower = opened(tmp_path)
    np.testing.assert_allclose(tower.encode([*products, *newer]), expected, atol=1e-5)
    np.testing.assert_allclose(
        [tower.encode([product])[0] for product in products], expected[: len(products)], atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)


def test_no_products_get_no_vectors(tmp_path: Path) -> None:
    write_model(tmp_path, ProductBlocks(), random_products(3)[:-2], ("en-US",))
    assert opened(tmp_path).encode([]).shape == (0, 32)


def test_a_product_that_was_shown_has_its_signals_and_another_has_none(tmp_path: Path) -> None:
    products = random_products(10)[:-2]
    write_model(tmp_path, ProductBlocks(), products, ("en-US",))
    shown, never_shown = products[0], products[1]
    renamed = [
        Product(f"{p.id} again", p.title, p.brand, p.category, p.price_minor, p.in_stock, p.attributes)
        for p in products
    ]
    vectors = opened(tmp_path).encode([shown, renamed[0], never_shown, renamed[1]])
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)
    np.testing.assert_allclose(vectors[2], vectors[3], atol=1e-6)


def test_the_order_of_attributes_does_not_matter(tmp_path: Path) -> None:
    write_model(tmp_path, ProductBlocks(), random_products(3)[:-2], ("en-US",))
    values = {"colour": "red oak", "style": "old rug", "care": "wipe it", "size": "big bed"}
    turned = dict(reversed(values.items()))
    first, second = opened(tmp_path).encode(
        [Product("1", "Sofa", attributes=values), Product("1", "Sofa", attributes=turned)]
    )
    np.testing.assert_array_equal(first, second)


def test_gelu_is_that_of_pytorch() -> None:
    values = np.linspace(-12, 12, 10_001, dtype=np.float32)
    expected = torch.nn.functional.gelu(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(gelu(values), expected, atol=2e-6)
    assert gelu(values).dtype == np.float32
