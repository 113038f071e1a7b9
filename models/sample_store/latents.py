"""The latent attributes of products, from which their texts are written, drawn for a range of products at once.

Only integer arithmetic on hashed product numbers: the same on every platform, for any range. Prices are log-normal in
64ths of a doubling, which a table of 64 powers turns into cents.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from models.arrays import Bools, Ints, UInt64s
from models.sample_store.latent_tables import LatentTables, latent_tables
from models.sample_store.words import ABSENT, PRICE_STEPS

NUM_LATENT_WORDS = 4  # random words that a product's latents are drawn from
OUT_OF_STOCK_SHARE = 0.08

_TIER_STEPS = 24  # a brand of the next tier costs 1.3 times as much
_BAND_ENDS = np.array([-16, -3, 8, 21])  # hundredths of the type's span: a fifth of all products in each band
_POWERS = np.array([round(65_536 * 2 ** (step / PRICE_STEPS)) for step in range(PRICE_STEPS)], np.int64)


@dataclass(frozen=True, slots=True)
class ProductLatent:
    """The latent attributes of a product. Indexes are into the vocabulary, or ABSENT."""

    type: int  # load_product_types()
    brand: int  # load_brands()
    colour: int  # Words.colours
    material: int  # Words.materials
    style: int  # Words.styles
    audience: int  # Words.audiences
    size: int  # the type's own sizes
    feature: int  # the type's own features
    noun: int  # the type's own nouns: the seller's choice
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

    def row(self, product: int) -> ProductLatent:
        return ProductLatent(*(getattr(self, field.name)[product].item() for field in fields(self)))

    def take(self, products: Ints) -> LatentColumns:
        return LatentColumns(*(getattr(self, field.name)[products] for field in fields(self)))


def latent_columns(words: UInt64s) -> LatentColumns:
    """Draws the latents of products from their random words (num_products, at least NUM_LATENT_WORDS)."""
    tables = latent_tables()
    kind_bits, style_bits, price_bits, demand_bits = (words[:, at] for at in range(NUM_LATENT_WORDS))
    types = tables.type[_bits(kind_bits, 0, 12)]
    brand = tables.brand[types, _bits(kind_bits, 12, 10)]
    material = tables.material[types, _bits(kind_bits, 32, 10)]
    size = tables.size[types, _bits(style_bits, 0, 10)]
    brand_style = tables.brand_style[tables.style_family[types], brand, _bits(style_bits, 20, 4)]
    noise = _bell(price_bits)  # 0 to 1,020, mean 510, deviation 148
    span = tables.price_span[types]
    above_median = (
        tables.tier[brand] * _TIER_STEPS
        + tables.premium[material]
        + tables.size_step[types] * (2 * size - tables.num_sizes[types] + 1) // 2
        + (noise - 510) * span // 887  # a deviation of a sixth of the type's span
    )
    band = np.searchsorted(_BAND_ENDS, above_median * 100 // span).astype(np.int64)
    is_device = tables.is_device[types]
    return LatentColumns(
        type=types,
        brand=brand,
        colour=tables.colour[types, _bits(kind_bits, 22, 10)],
        material=material,
        style=np.where(_bits(style_bits, 24, 1) == 1, brand_style, tables.style[types, _bits(style_bits, 10, 10)]),
        audience=tables.audience[types, _bits(style_bits, 26, 10)],
        size=size,
        feature=tables.feature[types, _bits(style_bits, 36, 10)],
        noun=tables.noun[types, _bits(kind_bits, 42, 10)],
        model_number=np.where(is_device, 100 + _bits(style_bits, 46, 16) % 9_900, ABSENT),
        price_minor=_price(tables, types, tables.median_price[types] + above_median, _bits(price_bits, 32, 8)),
        price_band=band,
        in_stock=_bits(price_bits, 40, 16) >= round(65_536 * OUT_OF_STOCK_SHARE),
        quality=np.clip((_bell(demand_bits) + 2) // 4 + 8 * (band - 2), 0, 255),
        popularity=65_536 // (1 + _bits(demand_bits, 32, 16)),
    )


def _bits(word: UInt64s, shift: int, width: int) -> Ints:
    return ((word >> np.uint64(shift)) & np.uint64(2**width - 1)).astype(np.int64)


def _bell(word: UInt64s) -> Ints:
    """Sums the four low bytes: near enough to a normal with mean 510 and deviation 148."""
    return _bits(word, 0, 8) + _bits(word, 8, 8) + _bits(word, 16, 8) + _bits(word, 24, 8)


def _price(tables: LatentTables, types: Ints, steps: Ints, ending: Ints) -> Ints:
    """Returns cents within the range of the type, with the endings that shops use: 12.49, 49.95, 129.99, 1,299.00."""
    low, high = tables.min_price[types], tables.max_price[types]
    cents = np.clip((_POWERS[steps % PRICE_STEPS] << (steps // PRICE_STEPS)) >> 16, low, high)
    below_20 = cents // 50 * 50 + 49
    below_100 = cents // 100 * 100 + np.array([99, 99, 95, 0])[ending % 4]
    below_1000 = cents // 500 * 500 + np.array([499, 499, 400, 495])[ending % 4]
    above_1000 = cents // 1_000 * 1_000 - np.array([100, 1])[ending % 2]
    ended = np.select([cents < 2_000, cents < 10_000, cents < 100_000], [below_20, below_100, below_1000], above_1000)
    return np.clip(ended, low, high)
