"""The Product message: read as the catalogue would hold it, and written with the requested fields."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from aisle.v1 import product_pb2
from models.products.product import MAX_ID_CHARS, Product
from models.products.product_table import ATTRIBUTE, CORE_FIELDS, ProductTable
from models.products.text import clean_text
from serving.errors import Violation
from serving.gateway.messages.checks import MAX_NAMED, refuse_unknown

MAX_TITLE_CHARS = 2000
MAX_TEXT_CHARS = 20_000
MAX_LISTED = 100  # fields that the refusal of an unknown one names
_Key = tuple[int, tuple[str, ...] | None, int | None, bool]  # row, fields, price and stock of a finished message
MAX_CACHED_BYTES = 32 * 1024**2  # of finished messages


class ProductMessages:
    """Writes the products of one catalogue."""

    def __init__(self, products: ProductTable) -> None:
        self._products = products
        self._fields = products.fields  # those that `_known` holds
        self._known = frozenset(self._fields)
        self._cached: dict[_Key, product_pb2.Product] = {}
        self._cached_bytes = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """The names that a request may ask for. Products with new attributes add to them."""
        return self._products.fields

    def read_fields(self, names: Sequence[str], violations: list[Violation]) -> tuple[str, ...]:
        """Returns the requested fields in the order of the catalogue; all of them if `names` is empty."""
        fields = self.fields
        if not names:
            return fields
        if fields is not self._fields:
            self._fields, self._known = fields, frozenset(fields)
        requested = set(names)
        if not requested <= self._known:
            unknown = ((n, name) for n, name in enumerate(names) if name not in self._known)
            known = f"known are {', '.join(fields[:MAX_LISTED])}{', ...' if len(fields) > MAX_LISTED else ''}"
            for n, name in itertools.islice(unknown, MAX_NAMED):
                violations.append(Violation(f"product_fields[{n}]", f"{name[:80]!r} is unknown; {known}"))
                known = "see the first"
        return tuple(name for name in fields if name in requested)

    def write(self, row: int, fields: tuple[str, ...]) -> product_pb2.Product:
        """Returns the product of a row with these fields. Do not change it: it is cached for the next answer that holds it.

        Making a message takes 31 us, copying one 4 us, and some products are in many answers.
        """
        # Of thousands of fields, hashing all of them would take longest. Price and stock change while a row stays.
        table = self._products
        key = (row, None if fields is self.fields else fields, table.price_minor(row), bool(table.in_stock[row]))
        product = self._cached.get(key)
        if product is None:
            product = self._cached[key] = self._make(row, fields, *key[2:])
            self._cached_bytes += product.ByteSize()
            if self._cached_bytes > MAX_CACHED_BYTES:
                self._cached, self._cached_bytes = {}, 0
        return product

    def _make(self, row: int, fields: Sequence[str], price: int | None, in_stock: bool) -> product_pb2.Product:
        """Price and stock are given: what the table says of them may change meanwhile, and a cached message must be what its key says."""
        table = self._products
        product = product_pb2.Product(id=table.id(row))
        for field in CORE_FIELDS:
            if field not in fields:
                continue
            if field == "price_minor":
                if price is not None:
                    product.price_minor = price
            elif field == "in_stock":
                product.in_stock = in_stock
            elif text := table.string(field, row):
                setattr(product, field, text)
        if "category" in fields:
            product.other_categories.extend(table.other_categories(row))
        if fields is self.fields:
            product.attributes.update(table.attributes_of(row))
            return product
        for field in fields:
            if field not in CORE_FIELDS and (text := table.string(field, row)):
                product.attributes[field.removeprefix(ATTRIBUTE)] = text
        return product


def read_product(
    message: product_pb2.Product, path: str, violations: list[Violation], *, needs_title: bool = True
) -> Product:
    """Returns the product with its texts cleaned as the catalogue cleans them: otherwise the same text would get another vector."""
    refuse_unknown(message, f"{path}.", violations)
    limits = {"id": MAX_ID_CHARS, "title": MAX_TITLE_CHARS, "brand": MAX_TITLE_CHARS, "category": MAX_TITLE_CHARS}
    texts = {name: getattr(message, name) for name in limits}
    texts |= {f"attributes[{name[:80]!r}]": value for name, value in message.attributes.items()}
    for name, value in texts.items():
        if len(value) > limits.get(name, MAX_TEXT_CHARS):
            at_most = limits.get(name, MAX_TEXT_CHARS)
            violations.append(Violation(f"{path}.{name}", f"has {len(value)} characters; at most {at_most}"))
            return Product(id="", title="")
    product = Product(
        id=message.id,
        title=clean_text(message.title),
        brand=clean_text(message.brand),
        category=clean_text(message.category),
        price_minor=message.price_minor if message.HasField("price_minor") else None,
        in_stock=message.in_stock if message.HasField("in_stock") else True,
        attributes={name: clean_text(value) for name, value in message.attributes.items()},
        other_categories=tuple(filter(None, map(clean_text, message.other_categories))),
    )
    if needs_title and not product.title:
        violations.append(Violation(f"{path}.title", "must not be empty"))
    return product
