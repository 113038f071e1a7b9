"""Price bands within a category: the same amount is expensive for a mug and cheap for a sofa."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.products.changes import Offered
from models.products.product import Product

NUM_BANDS = 5
_MIN_PRICES = 20  # a category with fewer takes the quantiles of the whole catalogue
_FILE = "price_bands.json"


@dataclass(frozen=True, slots=True)
class PriceBands:
    """The inner edges of the bands, by category; "" is the whole catalogue."""

    edges: dict[str, list[float]]

    @classmethod
    def from_products(cls, products: Iterable[Product]) -> PriceBands:
        prices: defaultdict[str, list[int]] = defaultdict(list)
        for product in products:
            if product.price_minor is not None:
                prices[""].append(product.price_minor)
                prices[product.category].append(product.price_minor)
        shares = np.arange(1, NUM_BANDS) / NUM_BANDS
        enough = {name: values for name, values in prices.items() if len(values) >= _MIN_PRICES or not name}
        return cls({name: np.quantile(values, shares).tolist() for name, values in enough.items()})

    def band(self, product: Offered) -> int | None:
        """Returns 0 (cheap) to 4 (expensive); None without a price."""
        edges = self.edges.get(product.category) or self.edges.get("")
        if product.price_minor is None or edges is None:
            return None
        return sum(product.price_minor > edge for edge in edges)

    def save(self, folder: Path) -> None:
        (folder / _FILE).write_text(json.dumps(self.edges), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> PriceBands:
        return cls(json.loads((folder / _FILE).read_text(encoding="utf-8")))
