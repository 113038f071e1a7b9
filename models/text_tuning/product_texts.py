"""The catalogue as the encoder reads it: the texts that a bundle's build encodes, and which products are nearly the same."""

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
    """Which fields of a product are in its text, beside the title. The default is what `aisle build` encodes; with less, the encoder is
    trained on other texts than it will serve."""

    brand: bool = True
    category: bool = True
    attributes: tuple[str, ...] | None = None  # None: those that the source names as text

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
    """The catalogue by row."""

    ids: list[str]
    texts: list[str]
    kin: Codes  # (products,) products that share a number have the same words in title and brand

    def __len__(self) -> int:
        return len(self.ids)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for product_id, text in zip(self.ids, self.texts, strict=True):
            digest.update(f"{product_id}\0{text}\0".encode())
        return digest.hexdigest()


def product_texts(source: Source, fields: TextFields, progress: Progress = lambda *_: None) -> ProductTexts:
    """Reads the source. Raises ValueError where `fields` names an attribute that the source does not keep."""
    unknown = [name for name in fields.attributes or () if name not in source.attributes]
    if unknown:
        raise ValueError(f"text field {unknown[0]!r} is no attribute of {source.name}: {', '.join(source.attributes)}")
    ids: list[str] = []
    texts: list[str] = []
    kin: list[int] = []
    numbers: dict[str, int] = {}
    for product in source.products():
        if len(ids) % 1000 == 0:
            progress("read products", len(ids), source.num_products)
        ids.append(product.id)
        texts.append(fields.text(product, source.text_attributes))
        kin.append(numbers.setdefault(loose_key(f"{product.title} {product.brand}"), len(numbers)))
    progress("read products", len(ids), len(ids))
    return ProductTexts(ids, texts, np.array(kin, np.int32))
