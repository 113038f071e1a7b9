"""A shopper's taste: how much they engaged with each brand, category, price band and other attribute, and with which products.

An attribute is identified by a 64-bit key: its kind in the upper 32 bits, the CRC-32 of its value in the lower ones. Keys need
no catalogue, so that any process can compute a taste, and it fits every bundle.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from models.arrays import Floats, UInt32s, UInt64s
from models.unified.history import HistoryItem, HistoryKind

MAX_ITEMS = 64  # the latest clicks, and as many of the latest purchases, that make a taste
NO_KEY = 0  # neither an attribute's key nor a word's hash
BRAND = 1 << 32
CATEGORY = 2 << 32
TYPE = 3 << 32  # the category of a product, as a query asks for it
PRICE = 4 << 32  # the price band within the category
OTHER = 5 << 32  # any other attribute, such as "colour=red"
_PURCHASE_WEIGHT = 2.0  # of a purchase, where a click weighs 1


def name_hash(name: str) -> int:
    """Returns the CRC-32 of a name, never NO_KEY. Among the 100,000 words of a large catalogue two are expected to collide."""
    return zlib.crc32(name.encode()) or 1


def brand_key(brand: str) -> int:
    """Ignores case and surrounding spaces, as the unified model does; NO_KEY for a product without a brand."""
    folded = brand.strip().casefold()
    return BRAND | name_hash(folded) if folded else NO_KEY


def category_key(category: str) -> int:
    """Products without a category share a key."""
    return CATEGORY | name_hash(category)


def type_key(category: str) -> int:
    return TYPE | name_hash(category) if category else NO_KEY


def price_key(band: int | None) -> int:
    return NO_KEY if band is None or band < 0 else PRICE | (band + 1)


def attribute_key(attribute: str) -> int:
    """Takes an attribute as `models.unified.history.short_attributes` writes it: "colour=red"."""
    return OTHER | name_hash(attribute)


@dataclass(frozen=True, slots=True, eq=False)
class Taste:
    """Attributes of the latest MAX_ITEMS clicks and MAX_ITEMS purchases; a purchase weighs as much as two clicks."""

    keys: UInt64s  # (n,) distinct, ascending: brands, categories, price bands and other attributes
    weights: Floats  # (n,) total weight of the items that have the attribute
    price_band: float | None  # weighted mean, 0 to 4; None where no item has a price
    engaged: int  # number of items
    products: UInt32s  # (m,) `name_hash` of the ids of the items' products, distinct, ascending
    times: Floats  # (m, 2) log(1 + n) of the n times that each was clicked and bought

    @classmethod
    def from_history(cls, history: Sequence[HistoryItem]) -> Taste | None:
        """Takes a history in any order; returns None where the shopper clicked and bought nothing."""
        engaged = [*_latest(history, HistoryKind.CLICK), *_latest(history, HistoryKind.PURCHASE)]
        if not engaged:
            return None
        weights = np.array([_PURCHASE_WEIGHT if i.kind == HistoryKind.PURCHASE else 1.0 for i in engaged], np.float32)
        keys_by_item = [_item_keys(item.brand, item.category, item.price_band, item.attributes) for item in engaged]
        keys, place = np.unique(np.concatenate(keys_by_item), return_inverse=True)
        sums = np.bincount(place, np.repeat(weights, [len(item_keys) for item_keys in keys_by_item]), len(keys))
        bands = [(i.price_band, w) for i, w in zip(engaged, weights.tolist(), strict=True) if i.price_band is not None]
        mean_band = sum(b * w for b, w in bands) / sum(w for _, w in bands) if bands else None
        return cls(keys, sums.astype(np.float32), mean_band, len(engaged), *_own_products(engaged))


def _latest(history: Sequence[HistoryItem], kind: HistoryKind) -> list[HistoryItem]:
    of_kind = [item for item in history if item.kind == kind]
    return of_kind if len(of_kind) <= MAX_ITEMS else sorted(of_kind, key=lambda item: item.time_ms)[-MAX_ITEMS:]


def _own_products(engaged: Sequence[HistoryItem]) -> tuple[UInt32s, Floats]:
    """Returns `products` and `times` of the clicks and purchases."""
    hashes = np.fromiter((name_hash(item.product_id) for item in engaged), np.uint32)
    products, place = np.unique(hashes, return_inverse=True)
    is_bought = np.fromiter((item.kind == HistoryKind.PURCHASE for item in engaged), np.int64)
    counts = np.bincount(2 * place + is_bought, minlength=2 * len(products)).reshape(-1, 2)
    return products, np.log1p(counts).astype(np.float32)


def present_keys(keys: Iterable[int]) -> UInt64s:
    """Leaves NO_KEY out."""
    return np.fromiter((key for key in keys if key != NO_KEY), np.uint64)


@lru_cache(maxsize=65_536)
def _item_keys(brand: str, category: str, band: int | None, attributes: tuple[str, ...]) -> UInt64s:
    return present_keys([brand_key(brand), category_key(category), price_key(band), *map(attribute_key, attributes)])
