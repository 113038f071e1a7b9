"""What the product tower reads of each product, as arrays over the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from models.arrays import Codes, Doubles, Floats
from models.products.product import Product
from models.unified.history import HistoryKind, brand_words, click_words, item_marks, product_item, purchase_words
from models.unified.price_bands import PriceBands
from models.unified.words import Ragged, WordBook, WordHashing, category_marks, mark, words_of

MAX_PRODUCT_WORDS = 32
ID_SLOTS = 6  # the product itself, its brand, and up to four steps of its category
CATALOGUE_SCALARS = ("price", "price_in_category", "has_price", "in_stock", "title_length")


@dataclass(frozen=True, slots=True)
class ProductFeatures:
    """Of every product, in order of the catalogue's rows."""

    words: Ragged  # title, brand, category, attributes from the shortest to the longest; last the marks of a history
    ids: Codes  # (products, ID_SLOTS) buckets from 1, 0 where none
    scalars: Floats  # (products, CATALOGUE_SCALARS), each 0 to 1
    terms: Ragged  # as a history remembers a click
    tags: Ragged  # as a history remembers a purchase
    category: Codes  # (products,) number of the whole path
    brand: Codes  # (products,) into `brands`
    brands: Ragged  # as a history remembers a brand

    def __len__(self) -> int:
        return len(self.words)


def product_features(
    products: Iterable[Product], bands: PriceBands, book: WordBook, ids_hashing: WordHashing
) -> ProductFeatures:
    """Adds the words of the products to the book."""
    words, terms, tags, scalars = [], [], [], []
    ids: list[list[int]] = []
    brand_numbers: dict[str, int] = {}
    brand_rows: list[list[int]] = []
    brand: list[int] = []
    category_numbers: dict[str, int] = {}
    category: list[int] = []
    overall = np.array(bands.edges.get("", []))
    for product in products:
        ids.append(_id_buckets(product, ids_hashing))
        item = product_item(HistoryKind.CLICK, 0, product, bands.band(product))
        words.append(book.numbers([*words_of(product_words(product), MAX_PRODUCT_WORDS), *item_marks(item)]))
        terms.append(book.numbers(click_words(item)))
        tags.append(book.numbers(purchase_words(item)))
        if product.brand not in brand_numbers:
            brand_numbers[product.brand] = len(brand_rows)
            brand_rows.append(book.numbers(brand_words(item)))
        brand.append(brand_numbers[product.brand])
        category.append(category_numbers.setdefault(product.category, len(category_numbers)))
        scalars.append(_scalars(product, item.price_band, overall))
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
    """All that is said of a product, the most telling first, so that a cut loses descriptions before names."""
    category = " ".join(step for step in product.category.split(">")[-2:])
    return " ".join((product.title, product.brand, category, *sorted(product.attributes.values(), key=len)))


def _id_buckets(product: Product, hashing: WordHashing) -> list[int]:
    steps = category_marks(product.category)[: ID_SLOTS - 2]
    marks = [mark("product", product.id), mark("brand", product.brand), *steps]
    return [hashing.bucket(text) + 1 if text else 0 for text in marks + [""] * (ID_SLOTS - len(marks))]


def _scalars(product: Product, band: int | None, overall: Doubles) -> tuple[float, ...]:
    price = product.price_minor
    return (
        0.5 if price is None or not len(overall) else float((price > overall).sum() / len(overall)),
        0.5 if band is None else band / 4,
        float(price is not None),
        float(product.in_stock),
        min(len(product.title) / 100, 1.0),
    )
