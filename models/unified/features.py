"""The inputs of the product tower, as arrays over the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Codes, Floats
from models.products.product import Product
from models.unified.history import (
    HistoryKind,
    brand_and_price_tokens,
    brand_words,
    click_words,
    product_item,
    purchase_words,
)
from models.unified.price_bands import PriceBands
from models.unified.words import Ragged, WordBook, WordHashing, category_tokens, field_token, words_of

MAX_PRODUCT_WORDS = 32
ID_SLOTS = 6  # the product itself, its brand, and up to four steps of its category
CATALOGUE_SCALARS = ("price", "price_in_category", "has_price", "in_stock", "title_length")


@dataclass(frozen=True, slots=True)
class ProductFeatures:
    """Inputs of every product, by row of the catalogue."""

    words: Ragged  # title, brand, category, attributes from the shortest to the longest, then field tokens
    ids: Codes  # (products, ID_SLOTS) buckets from 1; 0 is none
    scalars: Floats  # (products, CATALOGUE_SCALARS), each 0 to 1
    terms: Ragged  # words of a click in a history
    tags: Ragged  # words of a purchase in a history
    category: Codes  # (products,) number of the whole path
    brand: Codes  # (products,) into `brands`
    brands: Ragged  # words of each brand

    def __len__(self) -> int:
        return len(self.words)


def product_features(
    products: Iterable[Product], bands: PriceBands, book: WordBook, ids_hashing: WordHashing
) -> ProductFeatures:
    """Computes the inputs, and adds the words of the products to `book`."""
    words, terms, tags, scalars = [], [], [], []
    ids: list[list[int]] = []
    brand_numbers: dict[str, int] = {}
    brand_rows: list[list[int]] = []
    brand: list[int] = []
    category_numbers: dict[str, int] = {}
    category: list[int] = []
    overall = bands.edges.get("", [])
    for product in products:
        ids.append(id_buckets(product, ids_hashing))
        item = product_item(HistoryKind.CLICK, 0, product, bands.band(product))
        words.append(book.numbers(tower_words(product, item.price_band)))
        terms.append(book.numbers(click_words(item)))
        tags.append(book.numbers(purchase_words(item)))
        if product.brand not in brand_numbers:
            brand_numbers[product.brand] = len(brand_rows)
            brand_rows.append(book.numbers(brand_words(item)))
        brand.append(brand_numbers[product.brand])
        category.append(category_numbers.setdefault(product.category, len(category_numbers)))
        scalars.append(catalogue_scalars(product, item.price_band, overall))
    return ProductFeatures(
        words=Ragged.from_rows(words),
        ids=np.array(ids, np.int32).reshape(-1, ID_SLOTS),
        scalars=np.array(scalars, np.float32).reshape(-1, len(CATALOGUE_SCALARS)),
        terms=Ragged.from_rows(terms),
        tags=Ragged.from_rows(tags),
        category=np.array(category, np.int32),
        brand=np.array(brand, np.int32),
        brands=Ragged.from_rows(brand_rows),
    )


def product_words(product: Product) -> str:
    """Returns all texts of a product, the most informative first, so that a cut loses descriptions before names. The order of the
    attributes in the product does not matter: a catalogue and a call may have different ones."""
    category = " ".join(step for step in product.category.split(">")[-2:])
    attributes = sorted(product.attributes.values(), key=lambda text: (len(text), text))
    return " ".join((product.title, product.brand, category, *attributes))


def tower_words(product: Product, band: int | None) -> list[str]:
    """Returns the words of a product in the product tower, and its field tokens, of which any may be empty."""
    return [*words_of(product_words(product), MAX_PRODUCT_WORDS), *brand_and_price_tokens(product.brand, band)]


def id_buckets(product: Product, hashing: WordHashing) -> list[int]:
    """Returns (ID_SLOTS,) buckets from 1; 0 is none."""
    steps = category_tokens(product.category)[: ID_SLOTS - 2]
    tokens = [field_token("product", product.id), field_token("brand", product.brand), *steps]
    return [hashing.bucket(text) + 1 if text else 0 for text in tokens + [""] * (ID_SLOTS - len(tokens))]


def catalogue_scalars(product: Product, band: int | None, edges: Sequence[float]) -> tuple[float, ...]:
    """Returns (CATALOGUE_SCALARS,). `edges` are those of the price bands of the whole catalogue."""
    price = product.price_minor
    return (
        0.5 if price is None or not edges else sum(price > edge for edge in edges) / len(edges),
        0.5 if band is None else band / 4,
        float(price is not None),
        float(product.in_stock),
        min(len(product.title) / 100, 1.0),
    )
