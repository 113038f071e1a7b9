"""What a history says of brands, categories, prices and traits: all that the ranker's features need of a shopper's past.

Each is a *mark*: its kind above 32 bits of hash. So a taste is made without a catalogue, in whatever process, and fits every bundle.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.arrays import Floats
from models.unified.history import HistoryItem, HistoryKind

Marks = npt.NDArray[np.uint64]

MAX_ITEMS = 64  # clicks, and as many purchases, that make a taste, the latest
NOTHING = 0  # no mark and no word's hash
BRAND = 1 << 32
CATEGORY = 2 << 32
TYPE = 3 << 32  # the category of a product, as a query asks for it
PRICE = 4 << 32  # the band of the price among its category
TRAIT = 5 << 32
_PURCHASE_WEIGHT = 2.0  # of a purchase beside a click


def name_hash(name: str) -> int:
    """CRC-32: among the 100,000 words of a large catalogue two are expected to share one. Never NOTHING."""
    return zlib.crc32(name.encode()) or 1


def brand_mark(brand: str) -> int:
    """Of a name without case and the spaces around it, as the model's words have it; NOTHING for none."""
    folded = brand.strip().casefold()
    return BRAND | name_hash(folded) if folded else NOTHING


def category_mark(category: str) -> int:
    """What has no category has this in common."""
    return CATEGORY | name_hash(category)


def type_mark(category: str) -> int:
    return TYPE | name_hash(category) if category else NOTHING


def price_mark(band: int | None) -> int:
    return NOTHING if band is None or band < 0 else PRICE | (band + 1)


def trait_mark(trait: str) -> int:
    """Of a trait as `models.unified.history.product_traits` writes it."""
    return TRAIT | name_hash(trait)


@dataclass(frozen=True, slots=True, eq=False)
class Taste:
    """Of the latest MAX_ITEMS clicks and as many purchases, each of which counts twice."""

    marks: Marks  # (n,) distinct, ascending: brands, categories, prices and traits
    weights: Floats  # (n,) of what was engaged and has the mark
    price_band: float | None  # the usual one, 0 to 4; None where no price is known
    engaged: int

    @classmethod
    def from_history(cls, history: Sequence[HistoryItem]) -> Taste | None:
        """`history` in any order. None where the shopper clicked and bought nothing."""
        engaged = [*_latest(history, HistoryKind.CLICK), *_latest(history, HistoryKind.PURCHASE)]
        if not engaged:
            return None
        weights = np.array([_PURCHASE_WEIGHT if i.kind == HistoryKind.PURCHASE else 1.0 for i in engaged], np.float32)
        of_items = [_item_marks(item.brand, item.category, item.price_band, item.traits) for item in engaged]
        marks, place = np.unique(np.concatenate(of_items), return_inverse=True)
        sums = np.bincount(place, np.repeat(weights, [len(some) for some in of_items]), len(marks))
        bands = [(i.price_band, w) for i, w in zip(engaged, weights.tolist(), strict=True) if i.price_band is not None]
        usual = sum(b * w for b, w in bands) / sum(w for _, w in bands) if bands else None
        return cls(marks, sums.astype(np.float32), usual, len(engaged))


def _latest(history: Sequence[HistoryItem], kind: HistoryKind) -> list[HistoryItem]:
    of_kind = [item for item in history if item.kind == kind]
    return of_kind if len(of_kind) <= MAX_ITEMS else sorted(of_kind, key=lambda item: item.time_ms)[-MAX_ITEMS:]


def marks_of(marks: Iterable[int]) -> Marks:
    return np.fromiter((mark for mark in marks if mark != NOTHING), np.uint64)


@lru_cache(maxsize=65_536)
def _item_marks(brand: str, category: str, band: int | None, traits: tuple[str, ...]) -> Marks:
    return marks_of([brand_mark(brand), category_mark(category), price_mark(band), *map(trait_mark, traits)])
