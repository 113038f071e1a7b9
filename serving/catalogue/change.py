"""Changes of a catalogue as they are logged: the changes of one call are one batch, written and applied together."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.arrays import Float16s
from models.products.product import Product

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Upsert:
    """A product as it is from now on, whether the catalogue had it or not."""

    product: Product

    @property
    def product_id(self) -> str:
        return self.product.id


@dataclass(frozen=True, slots=True)
class Delete:
    product_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What changes of a product that the catalogue has; for another it does nothing."""

    product_id: str
    price_minor: int | None = None  # None: the price stays
    removes_price: bool = False
    in_stock: bool | None = None  # None: the stock stays
    numbers: Mapping[str, str] = field(default_factory=dict)  # attributes, as the catalogue would state them

    def price(self, former: int | None) -> int | None:
        return None if self.removes_price else former if self.price_minor is None else self.price_minor

    def stock(self, former: bool) -> bool:
        return former if self.in_stock is None else self.in_stock

    def of(self, product: Product) -> Product:
        """Returns the product with the offer."""
        return Product(
            id=product.id,
            title=product.title,
            brand=product.brand,
            category=product.category,
            price_minor=self.price(product.price_minor),
            in_stock=self.stock(product.in_stock),
            attributes={**product.attributes, **self.numbers} if self.numbers else product.attributes,
            other_categories=product.other_categories,
            lists={name: items for name, items in product.lists.items() if name not in self.numbers},
        )


Change = Upsert | Delete | Offer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChangeBatch:
    """The changes of one call, at least one. `vectors` (upserts, dim) are the unit vectors of the upserted products, in their order: a
    replay needs no encoder. `encoder` names what made them."""

    changes: tuple[Change, ...]
    vectors: Float16s
    encoder: str
    change_id: str = ""
    content: bytes = b""  # a hash of the call, which one that is sent again shares; empty: of the changes

    def __post_init__(self) -> None:
        """Raises ValueError for what no replica could apply: a log must not hold it."""
        if not self.changes:
            raise ValueError("a batch has at least one change")
        num_upserts = sum(isinstance(change, Upsert) for change in self.changes)
        if self.vectors.dtype != np.float16 or self.vectors.ndim != 2 or len(self.vectors) != num_upserts:
            raise ValueError(f"{self.vectors.shape} {self.vectors.dtype} are no vectors of {num_upserts} products")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoggedBatch:
    """A batch in the log. Its changes have the sequences `first`, `first + 1`, ..., `last`."""

    first: int
    batch: ChangeBatch

    @property
    def last(self) -> int:
        return self.first + len(self.batch.changes) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """A batch as bytes, without its change id."""

    encoder: str
    body: bytes  # the changes without the vectors
    vectors: bytes
    checksum: int
    content: bytes = b""  # as in `ChangeBatch`; not logged as part of the batch

    @classmethod
    def of(cls, batch: ChangeBatch) -> PackedBatch:
        # Attributes are sorted: a call that is sent again may bring them in another order, and has the same digest.
        values = [FORMAT, *map(_to_json, batch.changes)]
        body = json.dumps(values, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
        vectors = batch.vectors.tobytes()
        return cls(
            encoder=batch.encoder,
            body=body,
            vectors=vectors,
            checksum=_checksum(body, vectors),
            content=batch.content,
        )

    def digest(self) -> bytes:
        """Returns a hash of what is asked for, which a call that is sent again shares."""
        return self.content or hashlib.blake2b(self.body, digest_size=16).digest()

    def unpack(self) -> ChangeBatch:
        """Restores the batch. Raises ValueError if the bytes are damaged, or of another format."""
        if _checksum(self.body, self.vectors) != self.checksum:
            raise ValueError("the changes are damaged")
        made_by, *values = json.loads(self.body)
        if made_by != FORMAT:
            raise ValueError(f"the changes have format {made_by!r}, this Aisle reads format {FORMAT}")
        changes = tuple(map(_from_json, values))
        num_upserts = sum(isinstance(change, Upsert) for change in changes)
        numbers = np.frombuffer(self.vectors, np.float16)
        shape = (num_upserts, numbers.size // max(num_upserts, 1))
        return ChangeBatch(changes=changes, vectors=numbers.reshape(shape), encoder=self.encoder)


def _checksum(body: bytes, vectors: bytes) -> int:
    return zlib.crc32(vectors, zlib.crc32(body))


def _to_json(change: Change) -> Sequence[Any]:
    match change:
        case Upsert(product):
            return (
                "u", product.id, product.title, product.brand, product.category, product.price_minor, product.in_stock,
                dict(product.attributes), product.other_categories,
            )  # fmt: skip
        case Delete(product_id):
            return "d", product_id
    return "o", change.product_id, change.price_minor, change.removes_price, change.in_stock, dict(change.numbers)


def _from_json(values: Sequence[Any]) -> Change:
    match values:
        case ["u", product_id, title, brand, category, price_minor, in_stock, attributes, other_categories]:
            return Upsert(
                Product(
                    id=product_id,
                    title=title,
                    brand=brand,
                    category=category,
                    price_minor=price_minor,
                    in_stock=in_stock,
                    attributes=attributes,
                    other_categories=tuple(other_categories),
                )
            )
        case ["d", product_id]:
            return Delete(product_id)
        case ["o", product_id, price_minor, removes_price, in_stock, numbers]:
            return Offer(
                product_id=product_id,
                price_minor=price_minor,
                removes_price=removes_price,
                in_stock=in_stock,
                numbers=numbers,
            )
    raise ValueError(f"{str(values)[:100]} is no change")
