"""What each product of the sample store truly is, drawn for a whole range of products at once.

Only integer arithmetic on hashed product numbers: the same on every platform, for any slice. Prices are log-normal in
64ths of a doubling, which a table of 64 powers turns into cents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np

from models.arrays import Bools, Ints, UInt64s
from models.sample_store.product_types import PRODUCT_TYPES, ProductType
from models.sample_store.vocabulary import (
    AUDIENCES,
    BRANDS,
    COLOURS,
    MATERIAL_PREMIUMS,
    MATERIALS,
    PALETTES,
    STYLE_FAMILIES,
    STYLES,
    Word,
    names,
)

ABSENT = -1  # the type does not have this property
NUM_LATENT_WORDS = 4  # random words that a product's latents are drawn from
NUM_PRICE_BANDS = 5
OUT_OF_STOCK_SHARE = 0.08

_TYPE_SLOTS = 4096
_SLOTS = 1024
_LEAN_SLOTS = 16
_STEPS = 64  # to a doubling of the price
_TIER_STEPS = 24  # a brand one tier up costs 1.3 times as much
_BAND_ENDS = np.array([-16, -3, 8, 21])  # hundredths of the type's span: a fifth of all products in each band
_POWERS = np.array([round(65_536 * 2 ** (step / _STEPS)) for step in range(_STEPS)], np.int64)


@dataclass(frozen=True, slots=True)
class ProductLatent:
    """The truth about one product. Indexes are into the vocabulary, or ABSENT."""

    type: int  # PRODUCT_TYPES
    brand: int  # BRANDS
    colour: int  # COLOURS
    material: int  # MATERIALS
    style: int  # STYLES
    audience: int  # AUDIENCES
    size: int  # the type's own sizes
    feature: int  # the type's own features
    noun: int  # the type's own nouns, the one that the seller uses
    model_number: int  # as in HX-4210, for devices
    price_minor: int
    price_band: int  # 0 (cheap) to 4 (dear) among its type
    in_stock: bool
    quality: int  # 0 to 255, about normal around 128; rises a little with the price band
    popularity: int  # relative demand, 1 to 65,536: half of the products have 1, a hundredth 100 and more


@dataclass(frozen=True, slots=True)
class LatentColumns:
    """ProductLatent for consecutive products, each field an array (num_products,)."""

    type: Ints
    brand: Ints
    colour: Ints
    material: Ints
    style: Ints
    audience: Ints
    size: Ints
    feature: Ints
    noun: Ints
    model_number: Ints
    price_minor: Ints
    price_band: Ints
    in_stock: Bools
    quality: Ints
    popularity: Ints

    def rows(self) -> list[ProductLatent]:
        columns = (getattr(self, field.name).tolist() for field in fields(self))
        return [ProductLatent(*values) for values in zip(*columns, strict=True)]


def latent_columns(words: UInt64s) -> LatentColumns:
    """Latents of products from their random words (num_products, at least NUM_LATENT_WORDS)."""
    tables = _tables()
    kind, look, price, demand = (words[:, at] for at in range(NUM_LATENT_WORDS))
    types = tables.type[_bits(kind, 0, 12)]
    brand = tables.brand[types, _bits(kind, 12, 10)]
    material = tables.material[types, _bits(kind, 32, 10)]
    size = tables.size[types, _bits(look, 0, 10)]
    liked = tables.liked_style[tables.style_family[types], brand, _bits(look, 20, 4)]
    noise = _bell(price)  # 0 to 1,020, mean 510, deviation 148
    span = tables.price_span[types]
    above = (
        tables.tier[brand] * _TIER_STEPS
        + tables.premium[material]
        + tables.size_step[types] * (2 * size - tables.num_sizes[types] + 1) // 2
        + (noise - 510) * span // 887  # a deviation of a sixth of the type's span
    )
    band = np.searchsorted(_BAND_ENDS, above * 100 // span).astype(np.int64)
    is_device = tables.is_device[types]
    return LatentColumns(
        type=types,
        brand=brand,
        colour=tables.colour[types, _bits(kind, 22, 10)],
        material=material,
        style=np.where(_bits(look, 24, 1) == 1, liked, tables.style[types, _bits(look, 10, 10)]),
        audience=tables.audience[types, _bits(look, 26, 10)],
        size=size,
        feature=tables.feature[types, _bits(look, 36, 10)],
        noun=tables.noun[types, _bits(kind, 42, 10)],
        model_number=np.where(is_device, 100 + _bits(look, 46, 16) % 9_900, ABSENT),
        price_minor=_price(tables, types, tables.median_price[types] + above, _bits(price, 32, 8)),
        price_band=band,
        in_stock=_bits(price, 40, 16) >= round(65_536 * OUT_OF_STOCK_SHARE),
        quality=np.clip((_bell(demand) + 2) // 4 + 8 * (band - 2), 0, 255),
        popularity=65_536 // (1 + _bits(demand, 32, 16)),
    )


def _bits(word: UInt64s, shift: int, width: int) -> Ints:
    return ((word >> np.uint64(shift)) & np.uint64(2**width - 1)).astype(np.int64)


def _bell(word: UInt64s) -> Ints:
    """Sum of the four low bytes: near enough to a normal with mean 510 and deviation 148."""
    return _bits(word, 0, 8) + _bits(word, 8, 8) + _bits(word, 16, 8) + _bits(word, 24, 8)


def _price(tables: _Tables, types: Ints, steps: Ints, ending: Ints) -> Ints:
    """Cents within the range of the type, ending as shops end them: 12.49, 49.95, 129.99, 1,299.00."""
    low, high = tables.min_price[types], tables.max_price[types]
    cents = np.clip((_POWERS[steps % _STEPS] << (steps // _STEPS)) >> 16, low, high)
    below_20 = cents // 50 * 50 + 49
    below_100 = cents // 100 * 100 + np.array([99, 99, 95, 0])[ending % 4]
    below_1000 = cents // 500 * 500 + np.array([499, 499, 400, 495])[ending % 4]
    above_1000 = cents // 1_000 * 1_000 - np.array([100, 1])[ending % 2]
    ended = np.select([cents < 2_000, cents < 10_000, cents < 100_000], [below_20, below_100, below_1000], above_1000)
    return np.clip(ended, low, high)


# ---- look-up tables


@dataclass(frozen=True, slots=True)
class _Tables:
    """Draws as look-ups: a row of slots holds each choice as often as it is likely."""

    type: Ints  # (_TYPE_SLOTS,)
    brand: Ints  # (num_types, _SLOTS), as the seven below
    colour: Ints
    material: Ints
    style: Ints
    audience: Ints
    size: Ints
    feature: Ints
    noun: Ints
    liked_style: Ints  # (num_families, num_brands, _LEAN_SLOTS)
    style_family: Ints  # (num_types,), as the seven below
    size_step: Ints
    num_sizes: Ints
    is_device: Bools
    min_price: Ints
    max_price: Ints
    median_price: Ints  # in 64ths of a doubling, as the span from the lowest to the highest
    price_span: Ints
    tier: Ints  # (num_brands,)
    premium: Ints  # (num_materials + 1,): ABSENT, as the last, costs nothing more


@cache
def _tables() -> _Tables:
    low = np.array([_log_price(kind.min_price_minor) for kind in PRODUCT_TYPES])
    high = np.array([_log_price(kind.max_price_minor) for kind in PRODUCT_TYPES])
    families = list(STYLE_FAMILIES)
    return _Tables(
        type=_slots(range(len(PRODUCT_TYPES)), [kind.share for kind in PRODUCT_TYPES], _TYPE_SLOTS),
        brand=np.stack([_falling(_brands_of(at, kind), _SLOTS) for at, kind in enumerate(PRODUCT_TYPES)]),
        colour=np.stack([_falling(_colours_of(kind), _SLOTS) for kind in PRODUCT_TYPES]),
        material=np.stack([_falling(_indexes(MATERIALS, kind.materials), _SLOTS) for kind in PRODUCT_TYPES]),
        style=np.stack([_falling(_styles_of(kind.style_family), _SLOTS) for kind in PRODUCT_TYPES]),
        audience=np.stack([_falling(_indexes(AUDIENCES, kind.audiences), _SLOTS) for kind in PRODUCT_TYPES]),
        size=np.stack([_even(range(len(kind.sizes)), _SLOTS) for kind in PRODUCT_TYPES]),
        feature=np.stack([_even(range(len(kind.features)), _SLOTS) for kind in PRODUCT_TYPES]),
        noun=np.stack([_falling(range(len(kind.nouns)), _SLOTS) for kind in PRODUCT_TYPES]),
        liked_style=np.stack([_liked_styles(family) for family in families]),
        style_family=np.array([families.index(kind.style_family) for kind in PRODUCT_TYPES]),
        size_step=np.array([kind.size_step for kind in PRODUCT_TYPES]),
        num_sizes=np.array([len(kind.sizes) for kind in PRODUCT_TYPES]),
        is_device=np.array([kind.kind == "device" for kind in PRODUCT_TYPES]),
        min_price=np.array([kind.min_price_minor for kind in PRODUCT_TYPES]),
        max_price=np.array([kind.max_price_minor for kind in PRODUCT_TYPES]),
        median_price=(low + high) // 2,
        price_span=high - low,
        tier=np.array([brand.tier for brand in BRANDS]),
        premium=np.array([*(MATERIAL_PREMIUMS.get(material.seller, 0) for material in MATERIALS), 0]),
    )


def _log_price(price_minor: int) -> int:
    return round(_STEPS * math.log2(price_minor))


def _brands_of(at: int, kind: ProductType) -> list[int]:
    """Brands of the type's department, in an order of its own so that each type has other leaders."""
    sellers = [index for index, brand in enumerate(BRANDS) if kind.department in brand.departments]
    first = 7 * at % len(sellers)
    return sellers[first:] + sellers[:first]


def _colours_of(kind: ProductType) -> list[int]:
    return _indexes(COLOURS, names(PALETTES[kind.palette])) if kind.palette else []


def _styles_of(family: str) -> list[int]:
    return _indexes(STYLES, names(STYLE_FAMILIES[family]))


def _liked_styles(family: str) -> Ints:
    """(num_brands, _LEAN_SLOTS): the brand's own styles if the family has them, else the family's."""
    styles = _styles_of(family)
    liked = [[style for style in styles if STYLES[style].seller in brand.styles] for brand in BRANDS]
    return np.stack([_even(own, _LEAN_SLOTS) if own else _falling(styles, _LEAN_SLOTS) for own in liked])


def _indexes(listed: Sequence[Word], sellers: Sequence[str]) -> list[int]:
    index = {word.seller: at for at, word in enumerate(listed)}
    return [index[seller] for seller in sellers]


def _falling(choices: Sequence[int], num_slots: int) -> Ints:
    """Each choice less likely than the one before: 1/2, 1/3, 1/4 and so on, scaled."""
    return _slots(choices, [27_720 // (rank + 2) for rank in range(len(choices))], num_slots)


def _even(choices: Sequence[int], num_slots: int) -> Ints:
    return _slots(choices, [1] * len(choices), num_slots)


def _slots(choices: Sequence[int], weights: Sequence[int], num_slots: int) -> Ints:
    """Choices in proportion to their integer weights (largest remainder); ABSENT where there is none."""
    if not choices:
        return np.full(num_slots, ABSENT)
    total = sum(weights)
    counts = [weight * num_slots // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda at: -(weights[at] * num_slots % total))
    for at in by_remainder[: num_slots - sum(counts)]:
        counts[at] += 1
    return np.repeat(np.array(choices, np.int64), counts)
