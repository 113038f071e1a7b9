"""The compute of the products stage where the unified model serves: products to unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.arrays import Floats
from models.bundles.bundle import Bundle
from models.products.product import Product
from models.unified.bundle_part import UNIFIED_PART
from models.unified.product_tower import LightProductTower, text_multiplications
from serving.compute.query_encoder import light_tower

# A cost of 1 takes about 0.1 ms of a core: a batch stays below 50 ms, so that one product waits no longer behind a thousand.
MAX_BATCH_COST = 400
MULTIPLICATIONS_PER_COST = 2_000_000  # of the text block, beside what every product takes


class ProductEncoder:
    max_batch_cost = MAX_BATCH_COST
    backend = "numpy cpu fp32"

    def __init__(self, bundle_folder: Path) -> None:
        # The table of words is that of the search tower, which other stages of the process have loaded.
        self._tower = LightProductTower(UNIFIED_PART.open(Bundle(bundle_folder)), light_tower(bundle_folder))

    def warm_up(self) -> None:
        self.compute([Product("", "a"), Product("", "b")])

    def compute(self, items: Sequence[Product]) -> Sequence[Floats | Exception]:
        return list(self._tower.encode(items))


def product_cost(bundle_folder: Path) -> int:
    """Returns the cost of a product of this bundle: 1 for small models, 114 for the largest recipe."""
    return 1 + text_multiplications(UNIFIED_PART.open(Bundle(bundle_folder))) // MULTIPLICATIONS_PER_COST
