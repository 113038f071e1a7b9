"""The texts of the catalogue as a bundle's build encodes them, and groups of near-duplicate products."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np

from models.arrays import Codes, Progress
from models.bundles.source import Source
from models.products.product import Product, product_text
from models.text_tuning.query_keys import loose_key


@dataclass(frozen=True, slots=True)
class TextFields:
    """The fields in a product's text, in addition to the title.

    The default is what `aisle build` encodes; with less, the encoder is trained on other texts than it serves.
    """

    brand: bool = True
    category: bool = True
    attributes: tuple[str, ...] | None = None  # None: the text attributes of the source

    def text(self, product: Product, text_attributes: tuple[str, ...]) -> str:
        """`text_attributes` are the source's."""
        kept = dataclasses.replace(
            product,
            brand=product.brand if self.brand else "",
            category=product.category if self.category else "",
        )
        return product_text(kept, text_attributes if self.attributes is None else self.attributes)


@dataclass(frozen=True, slots=True)
class ProductTexts:
    """Texts of the catalogue, by row."""

    ids: list[str]
    texts: list[str]
    group: Codes  # (products,) near-duplicates, with the same words in title and brand, share a number

    def __len__(self) -> int:
        return len(self.ids)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for product_id, text in zip(self.ids, self.texts, strict=True):
            digest.update(f"{product_id}\0{text}\0".encode())
        return digest.hexdigest()


def product_texts(source: Source, fields: TextFields, progress: Progress = lambda *_: None) -> ProductTexts:
    """Reads the source. Raises ValueError if `fields` names an attribute that the source does not keep."""
    unknown = [name for name in fields.attributes or () if name not in source.attributes]
    if unknown:
        raise ValueError(f"text field {unknown[0]!r} is no attribute of {source.name}: {', '.join(source.attributes)}")
    ids: list[str] = []
    texts: list[str] = []
    group: list[int] = []
    numbers: dict[str, int] = {}
    for product in source.products():
        if len(ids) % 1000 == 0:
            progress("read products", len(ids), source.num_products)
        ids.append(product.id)
        texts.append(fields.text(product, source.text_attributes))
        group.append(numbers.setdefault(loose_key(f"{product.title} {product.brand}"), len(numbers)))
    progress("read products", len(ids), len(ids))
    return ProductTexts(ids, texts, np.array(group, np.int32))
