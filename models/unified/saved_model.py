"""The model folder: writes a trained network, and loads its product tower.

spec.json                   recipe, seed, locales, sizes, pruning threshold
search_tower.safetensors    the light tower and the table of tokens: all that serving needs in addition to the spec
product_tower.safetensors   the heavy tower
text_reader.safetensors     the text block, if it is frozen; with vocabulary.json
signals.parquet             engagement with each product in the training window
price_bands.json            edges of the price bands by category
product_vectors.npy         (products, dim) float16, in order of the catalogue
product_ids.parquet         their ids
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import save_file

from models.arrays import Float16s, Floats, Progress
from models.products.product import Product
from models.products.product_table import ProductTable
from models.unified.features import product_features
from models.unified.history import HistoryBlocks
from models.unified.light_tower import read_spec
from models.unified.load_model import has_locale_words, load_reader, load_vocabulary, load_weights
from models.unified.model_files import (
    FORMAT_VERSION,
    IDS_FILE,
    PRODUCT_FILE,
    READER_FILE,
    SEARCH_FILE,
    SPEC_FILE,
    VECTORS_FILE,
    VOCABULARY_FILE,
)
from models.unified.network import CatalogueInputs, UnifiedNetwork, product_vectors
from models.unified.price_bands import PriceBands
from models.unified.query_generation import read_products
from models.unified.recipe import (
    HingeTargets,
    LossWeights,
    NegativeMix,
    ProductBlocks,
    QueryGeneration,
    TowerSizes,
    UnifiedRecipe,
)
from models.unified.signals import SavedSignals
from models.unified.training_data import TrainingData
from models.unified.vocabulary import text_tokens
from models.unified.words import WordBook, WordHashing

__all__ = ["IDS_FILE", "VECTORS_FILE", "ProductEncoder", "export_product_vectors", "recipe_of", "save_model"]


_BLOCK = 16_384


def save_model(
    network: UnifiedNetwork,
    data: TrainingData,
    table: ProductTable,
    recipe: UnifiedRecipe,
    seed: int,
    folder: Path,
    progress: Progress,
) -> None:
    """Writes the folder, including the vectors of the whole catalogue."""
    folder.mkdir(parents=True)
    network.eval()
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    light = {name: value for name, value in weights.items() if name.startswith(("tokens.", "search."))}
    save_file(light, folder / SEARCH_FILE)
    save_file({name: value for name, value in weights.items() if name not in light}, folder / PRODUCT_FILE)
    if data.reader is not None and recipe.products.text == "frozen":
        save_file({name: value.cpu() for name, value in data.reader.state_dict().items()}, folder / READER_FILE)
    (folder / VOCABULARY_FILE).write_text(json.dumps(asdict(data.vocabulary)), encoding="utf-8")
    product_ids = [table.id(row) for row in range(len(table))]
    pq.write_table(pa.table({"id": pa.array(product_ids, pa.string())}), folder / IDS_FILE)
    data.catalogue.signals.save(folder, product_ids)
    data.bands.save(folder)
    spec = {
        "format_version": FORMAT_VERSION,
        "recipe": asdict(recipe),
        "seed": seed,
        "locales": data.log.locales,
        "graph_dim": data.catalogue.signals.graph.shape[1],
        "threshold": network.threshold.item(),
        "until_ms": data.until_ms,
    }
    (folder / SPEC_FILE).write_text(json.dumps(spec, indent=1), encoding="utf-8")
    vectors = np.lib.format.open_memmap(
        folder / VECTORS_FILE, mode="w+", dtype=np.float16, shape=(len(table), recipe.sizes.dim)
    )
    for start in range(0, len(table), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(table)))
        vectors[rows] = product_vectors(network, data.catalogue, data.buckets, rows)
        progress("write product vectors", int(rows[-1]) + 1, len(table))
    vectors.flush()


class ProductEncoder:
    """A saved product tower, which also encodes products that are newer than the training."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        spec = read_spec(folder)
        self._signals = SavedSignals(folder)
        self._device = device
        self.recipe = recipe_of(spec["recipe"])
        weights = load_weights(folder)
        self._network = UnifiedNetwork(
            self.recipe, len(spec["locales"]), spec["graph_dim"], locale_words=has_locale_words(weights)
        )
        self._network.load_state_dict(weights)
        self._network.to(device).eval()
        self._bands = PriceBands.load(folder)
        self._vocabulary = load_vocabulary(folder)
        self._reader = load_reader(folder, self.recipe, device)

    def encode(self, products: list[Product]) -> Floats:
        """Returns unit vectors (products, dim)."""
        book = WordBook(self.recipe.hashing)
        features = product_features(products, self._bands, book, WordHashing(bits=self.recipe.sizes.id_bits))
        text: npt.NDArray[np.generic] = np.zeros((len(products), 0), np.float32)
        if self.recipe.products.text != "none":
            length = self.recipe.query_generation.max_product_words
            text = text_tokens(features.words, book, self._vocabulary, length)
            if self._reader is not None:
                text = read_products(self._reader, text.astype(np.int32), self._device)
        inputs = CatalogueInputs(features, self._signals.for_ids([product.id for product in products]), text)
        return product_vectors(self._network, inputs, book.buckets(), np.arange(len(products)))


def export_product_vectors(
    folder: Path, table: ProductTable, out: Path, progress: Progress, device: str = "cpu"
) -> Float16s:
    """Writes the vectors (products, dim) of a whole table to the file `out` block by block, and returns them as float16."""
    encoder = ProductEncoder(folder, device)
    shape = (len(table), encoder.recipe.sizes.dim)
    vectors = np.lib.format.open_memmap(out, mode="w+", dtype=np.float16, shape=shape)
    for start in range(0, len(table), _BLOCK):
        stop = min(start + _BLOCK, len(table))
        vectors[start:stop] = encoder.encode(list(table.products(start, stop)))
        progress("write product vectors", stop, len(table))
    vectors.flush()
    return vectors


def recipe_of(values: dict[str, Any]) -> UnifiedRecipe:
    """Restores a recipe from its `asdict`."""
    sizes = {**values["sizes"], "prefixes": tuple(values["sizes"]["prefixes"])}
    return UnifiedRecipe(
        **{
            **values,
            "hashing": WordHashing(**values["hashing"]),
            "sizes": TowerSizes(**sizes),
            "products": ProductBlocks(**values["products"]),
            "history": HistoryBlocks(**values["history"]),
            "losses": LossWeights(**values["losses"]),
            "hinge": HingeTargets(**values["hinge"]),
            "negatives": NegativeMix(**values["negatives"]),
            "query_generation": QueryGeneration(**values["query_generation"]),
            "kind_weights": tuple(values["kind_weights"]),
        }
    )
