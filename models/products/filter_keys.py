"""What the products of a whole catalogue have for a brand, for categories and for a price: shards of it number these as the whole does."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from models.arrays import Codes
from models.products.product_table import ProductTable

FILTER_KEYS = "filter_keys.json"
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class FilterKeys:
    """The distinct keys in the order in which a catalogue has them first; prices ascend, and None is that of products without one."""

    brands: list[str]
    categories: list[tuple[str, ...]]  # the paths of a product, its own category first
    prices: list[int | None]

    @classmethod
    def of(cls, table: ProductTable) -> FilterKeys:
        return cls(table.distinct("brand")[1], category_sets(table)[1], price_codes(table)[1])

    def save(self, folder: Path) -> None:
        (folder / FILTER_KEYS).write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> FilterKeys:
        values = json.loads((folder / FILTER_KEYS).read_text(encoding="utf-8"))
        return cls(values["brands"], list(map(tuple, values["categories"])), values["prices"])


def category_sets(table: ProductTable) -> tuple[Codes, list[tuple[str, ...]]]:
    """Returns codes (rows,) and the distinct paths of products that they index."""
    codes, paths = table.distinct("category")
    sets: dict[tuple[str, ...], int] = {(path,): code for code, path in enumerate(paths)}
    for row in table.rows_in_several_categories().tolist():
        own = (paths[codes[row]], *table.other_categories(row))
        codes[row] = sets.setdefault(own, len(sets))
    return codes, list(sets)


def price_codes(table: ProductTable) -> tuple[Codes, list[int | None]]:
    """Returns codes (rows,) and the distinct prices in minor units that they index, None for no price."""
    prices, codes = np.unique(np.where(table.has_price, table.prices, -1), return_inverse=True)
    return codes.astype(np.int32), [None if price < 0 else price for price in prices.tolist()]


def renumbered(codes: Codes, own: Sequence[Key], keys: list[Key]) -> tuple[Codes, list[Key]]:
    """Returns the codes (rows,) of `own` keys as places in `keys`, which hold all of them, and `keys`."""
    place = {key: number for number, key in enumerate(keys)}
    places = np.fromiter((place[key] for key in own), np.int32, len(own))
    return places[codes], keys
