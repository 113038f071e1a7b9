"""The product tower on NumPy alone: it gives a product that comes while Aisle serves the vector that a build would give it.

Its vectors equal those of the trained network to 1e-4. Safe to call from several threads: its only state is the cache of words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from models.arrays import Codes, Floats
from models.products.product import Product
from models.unified.features import (
    CATALOGUE_SCALARS,
    ID_SLOTS,
    MAX_PRODUCT_WORDS,
    catalogue_scalars,
    id_buckets,
    tower_words,
)
from models.unified.light_reader import LightReader, multiplications
from models.unified.light_tower import LightTower, read_spec
from models.unified.model_files import PRODUCT_FILE, READER_FILE, VOCABULARY_FILE
from models.unified.numpy_layers import Layers, unit
from models.unified.price_bands import PriceBands
from models.unified.recipe import ProductBlocks, QueryGeneration
from models.unified.signals import ProductSignals, saved_signals
from models.unified.vocabulary import PAD, Vocabulary
from models.unified.word_vectors import WordVectors
from models.unified.words import WordHashing

_MAX_WORDS = MAX_PRODUCT_WORDS + 2  # with the field tokens
_TOWER = "product."
_READER = "product.reader."


class LightProductTower:
    """Encodes products, whether the training met them or not. It shares the table of words with the search tower of the same folder."""

    def __init__(self, folder: Path, search: LightTower) -> None:
        recipe = read_spec(folder)["recipe"]
        self._blocks = ProductBlocks(**recipe["products"])
        self._writing = QueryGeneration(**recipe["query_generation"])
        self._ids_hashing = WordHashing(bits=recipe["sizes"]["id_bits"])
        self._hashing = search.spec.hashing
        self._words = WordVectors(
            search.tokens, search.spec.hashing
        )  # products have more words, which would displace those of queries
        self._dim = search.spec.dim
        self._signals = saved_signals(folder)
        self._bands = PriceBands.load(folder)
        weights = load_file(folder / PRODUCT_FILE)
        self._ids = weights.pop(f"{_TOWER}ids.weight", None)  # (buckets, id_dim)
        reader = {name.removeprefix(_READER): weights.pop(name) for name in list(weights) if name.startswith(_READER)}
        if self._blocks.text == "frozen":
            reader = load_file(folder / READER_FILE)
        self._reader = LightReader(reader, self._writing) if self._blocks.text != "none" else None
        self._layers = Layers({name: value for name, value in weights.items() if name.startswith(_TOWER)})
        vocabulary = json.loads((folder / VOCABULARY_FILE).read_text(encoding="utf-8"))
        self._token_of = Vocabulary(tuple(vocabulary["words"]), vocabulary["size"]).token_of(self._hashing.bucket)

    def encode(self, products: Sequence[Product]) -> Floats:
        """Returns unit vectors (products, dim). A product that no shopper was shown in the training has no signals."""
        if not products:
            return np.zeros((0, self._dim), np.float32)
        bands = [self._bands.band(product) for product in products]
        texts = [
            [word for word in tower_words(product, band) if word] for product, band in zip(products, bands, strict=True)
        ]
        signals = self._signals.for_ids([product.id for product in products])
        inputs = [self._normed(name, part) for name, part in self._parts(products, bands, texts, signals).items()]
        return unit(self._layers.dense(f"{_TOWER}dense", np.concatenate(inputs, axis=1)))

    def _parts(
        self,
        products: Sequence[Product],
        bands: Sequence[int | None],
        texts: Sequence[Sequence[str]],
        signals: ProductSignals,
    ) -> dict[str, Floats]:
        """Returns the blocks (products, width) in the order of the network's inputs."""
        parts: dict[str, Floats] = {}
        if self._reader is not None:
            parts["text"] = self._reader.read(self._tokens(texts))
        if self._blocks.graph:
            parts["graph"] = signals.graph
        if self._blocks.ngrams:
            parts["ngrams"] = self._words.bags(texts)
        if self._ids is not None:
            buckets = np.array([id_buckets(product, self._ids_hashing) for product in products], np.int64)
            buckets[~signals.known, 0] = 0
            parts["ids"] = self._ids[buckets].reshape(len(products), ID_SLOTS * self._ids.shape[1])
        if self._blocks.scalars:
            edges = self._bands.edges.get("", [])
            own = [catalogue_scalars(product, band, edges) for product, band in zip(products, bands, strict=True)]
            scalars = np.array(own, np.float32).reshape(-1, len(CATALOGUE_SCALARS))
            parts["scalars"] = np.concatenate([scalars, signals.scalars], axis=1)
        if self._blocks.locale:
            parts["locale"] = signals.locales
        return parts

    def _tokens(self, texts: Sequence[Sequence[str]]) -> Codes:
        """Returns (texts, words) the tokens that the text block reads, filled up with PAD."""
        tokens = np.full((len(texts), self._writing.max_product_words), PAD, np.int32)
        for row, text in enumerate(texts):
            cut = text[: self._writing.max_product_words]
            tokens[row, : len(cut)] = [self._token_of(word) for word in cut]
        return tokens

    def _normed(self, name: str, part: Floats) -> Floats:
        norm = f"{_TOWER}norms.{name}"
        return self._layers.norm(norm, part) if self._layers.holds(f"{norm}.weight") else part


def text_multiplications(folder: Path) -> int:
    """Returns how many multiplications the text block takes for a product at most, the larger part of a large tower's work."""
    recipe = read_spec(folder)["recipe"]
    writing = QueryGeneration(**recipe["query_generation"])
    if ProductBlocks(**recipe["products"]).text == "none":
        return 0
    return multiplications(writing) * min(writing.max_product_words, _MAX_WORDS)
