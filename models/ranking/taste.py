"""What a history says of brands, categories and words: all that the ranker's features need of a shopper's past.

Each is a *mark*: its kind above 32 bits of hash. So a taste is made without a catalogue, in whatever process, and fits every bundle.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.unified.history import MAX_TERMS, HistoryItem, HistoryKind
from models.unified.words import words_of

Floats = npt.NDArray[np.float32]
Marks = npt.NDArray[np.uint64]

MAX_ENGAGED = 32  # clicks and purchases that make a taste, the latest
NOTHING = 0  # no mark and no word's hash
BRAND = 1 << 32
CATEGORY = 2 << 32
TYPE = 3 << 32  # the category of a product, as a query asks for it
_PURCHASE_WEIGHT = 2.0  # of a purchase beside a click


def name_hash(name: str) -> int:
    """CRC-32: among the 100,000 words of a large catalogue two are expected to share one. Never NOTHING."""
    return zlib.crc32(name.encode()) or 1


def brand_mark(brand: str) -> int:
    """Of a name without case and the spaces around it, as the model's words have it; NOTHING for none."""
    folded = brand.strip().casefold()
    return BRAND | name_hash(folded) if folded else NOTHING


def category_mark(category: str, kind: int = CATEGORY) -> int:
    return kind | name_hash(category) if category else NOTHING


@dataclass(frozen=True, slots=True, eq=False)
class Taste:
    """Of the latest MAX_ENGAGED clicks and purchases, where a purchase counts twice."""

    marks: Marks  # (n,) distinct, ascending: brands, categories, and words of titles, brands and short attributes
    shares: Floats  # (n,) of what was engaged that has the mark
    price_band: float | None  # the usual one, 0 to 4; None where no price is known
    engaged: int

    @classmethod
    def of(cls, history: Sequence[HistoryItem]) -> Taste | None:
        """`history` in any order. None where the shopper clicked and bought nothing."""
        engaged = [item for item in history if item.kind != HistoryKind.SEARCH]
        if not engaged:
            return None
        if len(engaged) > MAX_ENGAGED:
            engaged = sorted(engaged, key=lambda item: item.time_ms)[-MAX_ENGAGED:]
        weights = np.array([_PURCHASE_WEIGHT if i.kind == HistoryKind.PURCHASE else 1.0 for i in engaged], np.float32)
        weights /= weights.sum()
        marks = [_item_marks(item.terms, item.brand, item.category) for item in engaged]
        distinct, place = np.unique(np.concatenate(marks), return_inverse=True)
        shares = np.bincount(place, np.repeat(weights, [len(some) for some in marks]), len(distinct))
        bands = [(i.price_band, w) for i, w in zip(engaged, weights.tolist(), strict=True) if i.price_band is not None]
        usual = sum(b * w for b, w in bands) / sum(w for _, w in bands) if bands else None
        return cls(distinct, shares.astype(np.float32), usual, len(engaged))


def marks_of(marks: Iterable[int]) -> Marks:
    return np.fromiter((mark for mark in marks if mark != NOTHING), np.uint64)


@lru_cache(maxsize=65_536)
def _item_marks(terms: str, brand: str, category: str) -> Marks:
    return marks_of([brand_mark(brand), category_mark(category), *map(name_hash, words_of(terms, MAX_TERMS))])
