"""The look-up tables from random bits to a product's attributes, built once from the vocabulary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from models.arrays import Bools, Ints
from models.sample_store.brands import load_brands
from models.sample_store.product_types import ProductType, load_product_types
from models.sample_store.words import ABSENT, PRICE_STEPS, Word, load_words

_TYPE_SLOTS = 4096
_SLOTS = 1024
_BRAND_STYLE_SLOTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentTables:
    """Rows of slots, one of which is drawn; a row holds each choice in proportion to its probability."""

    type: Ints  # (_TYPE_SLOTS,)
    brand: Ints  # (num_types, _SLOTS), like the seven that follow
    colour: Ints
    material: Ints
    style: Ints
    audience: Ints
    size: Ints
    feature: Ints
    noun: Ints
    brand_style: Ints  # (num_families, num_brands, _BRAND_STYLE_SLOTS)
    style_family: Ints  # (num_types,), like the seven that follow
    size_step: Ints
    num_sizes: Ints
    is_device: Bools
    min_price: Ints  # cents
    max_price: Ints
    median_price: Ints  # in PRICE_STEPS
    price_span: Ints  # from the lowest to the highest price, in PRICE_STEPS
    tier: Ints  # (num_brands,)
    premium: Ints  # (num_materials + 1,); the last, which ABSENT indexes, is 0


@cache
def latent_tables() -> LatentTables:
    """Builds the tables, once in a process."""
    types, words = load_product_types(), load_words()
    low = np.array([_log_price(kind.min_price_minor) for kind in types])
    high = np.array([_log_price(kind.max_price_minor) for kind in types])
    families = list(words.style_families)
    premiums = [words.material_premiums.get(material.seller, 0) for material in words.materials]
    return LatentTables(
        type=_slots(range(len(types)), [kind.share for kind in types], _TYPE_SLOTS),
        brand=np.stack([_falling(_brands_of_type(at, kind), _SLOTS) for at, kind in enumerate(types)]),
        colour=np.stack([_falling(_colours_of_type(kind), _SLOTS) for kind in types]),
        material=np.stack([_falling(_indexes(words.materials, kind.materials), _SLOTS) for kind in types]),
        style=np.stack([_falling(_styles_of_family(kind.style_family), _SLOTS) for kind in types]),
        audience=np.stack([_falling(_indexes(words.audiences, kind.audiences), _SLOTS) for kind in types]),
        size=np.stack([_even(range(len(kind.sizes)), _SLOTS) for kind in types]),
        feature=np.stack([_even(range(len(kind.features)), _SLOTS) for kind in types]),
        noun=np.stack([_falling(range(len(kind.nouns)), _SLOTS) for kind in types]),
        brand_style=np.stack([_brand_styles(family) for family in families]),
        style_family=np.array([families.index(kind.style_family) for kind in types]),
        size_step=np.array([kind.size_step for kind in types]),
        num_sizes=np.array([len(kind.sizes) for kind in types]),
        is_device=np.array([kind.kind == "device" for kind in types]),
        min_price=np.array([kind.min_price_minor for kind in types]),
        max_price=np.array([kind.max_price_minor for kind in types]),
        median_price=(low + high) // 2,
        price_span=high - low,
        tier=np.array([brand.tier for brand in load_brands()]),
        premium=np.array([*premiums, 0]),
    )


def _log_price(price_minor: int) -> int:
    return round(PRICE_STEPS * math.log2(price_minor))


def _brands_of_type(at: int, kind: ProductType) -> list[int]:
    """Returns the brands of the type's department, rotated by the type's number so that types differ in their leading brands."""
    brands = [index for index, brand in enumerate(load_brands()) if kind.department in brand.departments]
    first = 7 * at % len(brands)
    return brands[first:] + brands[:first]


def _colours_of_type(kind: ProductType) -> list[int]:
    words = load_words()
    return _indexes(words.colours, words.palettes[kind.palette]) if kind.palette else []


def _styles_of_family(family: str) -> list[int]:
    words = load_words()
    return _indexes(words.styles, words.style_families[family])


def _brand_styles(family: str) -> Ints:
    """Returns (num_brands, _BRAND_STYLE_SLOTS): the brand's own styles if the family has them, else the family's."""
    names, styles = load_words().styles, _styles_of_family(family)
    own = [[style for style in styles if names[style].seller in brand.styles] for brand in load_brands()]
    rows = [_even(mine, _BRAND_STYLE_SLOTS) if mine else _falling(styles, _BRAND_STYLE_SLOTS) for mine in own]
    return np.stack(rows)


def _indexes(words: Sequence[Word], sellers: Sequence[str]) -> list[int]:
    index = {word.seller: at for at, word in enumerate(words)}
    return [index[seller] for seller in sellers]


def _falling(choices: Sequence[int], num_slots: int) -> Ints:
    """Fills slots with falling probabilities, in proportion to 1/2, 1/3, 1/4 and so on."""
    return _slots(choices, [27_720 // (rank + 2) for rank in range(len(choices))], num_slots)


def _even(choices: Sequence[int], num_slots: int) -> Ints:
    """Fills slots with equal probabilities."""
    return _slots(choices, [1] * len(choices), num_slots)


def _slots(choices: Sequence[int], weights: Sequence[int], num_slots: int) -> Ints:
    """Fills slots in proportion to integer weights (largest remainder); with ABSENT if there is no choice."""
    if not choices:
        return np.full(num_slots, ABSENT)
    total = sum(weights)
    counts = [weight * num_slots // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda at: -(weights[at] * num_slots % total))
    for at in by_remainder[: num_slots - sum(counts)]:
        counts[at] += 1
    return np.repeat(np.array(choices, np.int64), counts)
