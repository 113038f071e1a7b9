"""The messages of CatalogueService. One bad item of a call is refused alone; the others are accepted."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import numpy as np

from aisle.v1 import catalogue_pb2, product_pb2
from models.arrays import Ints
from models.products.attributes.columns import AttributeColumns
from models.products.attributes.parse import MAX_VALUE_CHARS, SEPARATOR, read_value, write_value
from models.products.attributes.spec import AttributeType
from models.products.decimals import is_ambiguous
from models.products.product import MAX_ID_CHARS, MAX_PRICE_MINOR, Product
from models.products.product_table import ProductTable
from serving.catalogue.change import Change, Delete, Offer, Upsert
from serving.catalogue.log import Appended
from serving.config import CatalogueConfig
from serving.errors import InvalidRequest, Violation
from serving.gateway.messages.checks import check_id, refuse_unknown
from serving.gateway.messages.products import ProductMessages, read_product

MAX_CHANGE_ID_CHARS = 128
MAX_ATTRIBUTES = 1_000  # of one product
MAX_CATEGORIES = 64  # of one product
MAX_VIOLATIONS = 4  # named of one item
_REFUSAL_BYTES = 12  # of one refusal, besides its texts

Item = TypeVar("Item")
ChangeRequest = (
    catalogue_pb2.UpsertProductsRequest | catalogue_pb2.DeleteProductsRequest | catalogue_pb2.UpdateOffersRequest
)


@dataclass(frozen=True, slots=True)
class Refused:
    """One item of a call that breaks rules."""

    index: int
    violations: tuple[Violation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeCall:
    """The changes of a call that can be made, and the items that cannot."""

    changes: tuple[Change, ...]
    refused: tuple[Refused, ...]
    change_id: str
    content: bytes  # a hash of the request, if it has a change id
    waits: bool  # until every replica has applied the changes

    @property
    def products(self) -> list[Product]:
        return [change.product for change in self.changes if isinstance(change, Upsert)]


class CatalogueMessages:
    """Translates for one catalogue, which changes."""

    def __init__(
        self,
        table: ProductTable,
        attributes: AttributeColumns,
        config: CatalogueConfig,
        max_answer_bytes: int,
    ) -> None:
        self._table, self._attributes, self._products = table, attributes, ProductMessages(table)
        self._max_changes = config.max_changes
        self._max_refusal_bytes = max_answer_bytes // 2

    def read_upserts(self, request: catalogue_pb2.UpsertProductsRequest, path: str = "") -> ChangeCall:
        """Raises InvalidRequest if the call as a whole breaks a rule. `path` goes before the names of its fields."""
        return self._read(request, "products", request.products, self._read_upsert, path)

    def read_deletes(self, request: catalogue_pb2.DeleteProductsRequest) -> ChangeCall:
        """Raises InvalidRequest if the call as a whole breaks a rule."""
        return self._read(request, "product_ids", request.product_ids, _read_delete)

    def read_offers(self, request: catalogue_pb2.UpdateOffersRequest) -> ChangeCall:
        """Raises InvalidRequest if the call as a whole breaks a rule."""
        return self._read(request, "offers", request.offers, self._read_offer)

    def read_ids(self, request: catalogue_pb2.GetProductsRequest) -> tuple[str, ...]:
        """Raises InvalidRequest."""
        violations: list[Violation] = []
        refuse_unknown(request, "", violations)
        self._check_number("product_ids", len(request.product_ids), violations)
        if request.min_sequence < 0:
            violations.append(Violation("min_sequence", f"is {request.min_sequence}; it must be 0 or more"))
        if violations:
            raise InvalidRequest(*violations)
        return tuple(request.product_ids)

    def write_products(self, ids: Iterable[str]) -> catalogue_pb2.GetProductsResponse:
        """Returns the products that the catalogue has now, without what only the gateway knows. An upsert of one changes nothing."""
        response = catalogue_pb2.GetProductsResponse()
        rows: list[int] = []
        for product_id in ids:
            row = self._table.row_of(product_id)
            if row is None:
                response.unknown_product_ids.append(product_id)
            else:
                response.products.append(self._products.write(row, self._products.fields))
                rows.append(row)
        self._say_what_is_meant(response.products, np.array(rows, np.int64))
        return response

    def _say_what_is_meant(self, products: Sequence[product_pb2.Product], rows: Ints) -> None:
        """Replaces the texts of attributes that mean something else by themselves than they did in the catalogue's file: lists that were
        separated by another character, and numbers and dates that the other cells of their column explained."""
        for name, column in self._attributes.items():
            if column.type in (AttributeType.TEXT, AttributeType.KEYWORD):
                continue
            meant: dict[int, list[Any]] = {}
            for at, number in column.values_of(rows):
                meant.setdefault(at, []).append(column.value(number))
            for at, values in meant.items():
                text = products[at].attributes.get(name, "")
                if column.type is not AttributeType.KEYWORDS and len(values) > 1:
                    continue  # no text means several numbers
                if _folded(read_value(text, column.type, column.unit)) != _folded(values):
                    if column.type is AttributeType.KEYWORDS:
                        values.sort(key=partial(_place_of, text))
                    products[at].attributes[name] = _text_of(values, column.type, column.unit)

    def write(
        self, call: ChangeCall, appended: Appended, *, is_visible: bool, spent_bytes: int = 0
    ) -> tuple[catalogue_pb2.ChangeResponse, int]:
        """Returns what became of a call, and the bytes of refusals in the whole answer, which held `spent_bytes` before.

        A call that is repeated may find other products unknown than the first did: its answer tells what the first logged."""
        accepted = appended.last - appended.first + 1
        response = catalogue_pb2.ChangeResponse(
            accepted=accepted,
            refused=len(call.changes) + len(call.refused) - accepted,
            sequence=appended.last,
            is_visible=is_visible,
            was_repeated=appended.was_repeated,
        )
        for refused in call.refused if accepted == len(call.changes) else ():
            size = sum(_REFUSAL_BYTES + len(v.field) + len(v.description.encode()) for v in refused.violations)
            if spent_bytes + size > self._max_refusal_bytes:
                break
            spent_bytes += size
            for violation in refused.violations:
                response.refusals.add(index=refused.index, field=violation.field, reason=violation.description)
        return response, spent_bytes

    def _read(
        self,
        request: ChangeRequest,
        field: str,
        items: Sequence[Item],
        read_item: Callable[[Item, list[Violation]], Change],
        path: str = "",
    ) -> ChangeCall:
        violations: list[Violation] = []
        refuse_unknown(request, path, violations)
        self._check_number(f"{path}{field}", len(items), violations)
        if request.change_id:
            check_id(request.change_id, f"{path}change_id", 1, MAX_CHANGE_ID_CHARS, violations)
        if request.acknowledgement not in catalogue_pb2.Acknowledgement.values():
            said = f"is {request.acknowledgement}, which this server does not know"
            violations.append(Violation(f"{path}acknowledgement", said))
        if violations:
            raise InvalidRequest(*violations)
        changes: list[Change] = []
        refused: list[Refused] = []
        seen: dict[str, int] = {}
        for index, item in enumerate(items):
            found: list[Violation] = []
            change = read_item(item, found)
            if not found and change.product_id in seen:
                found.append(Violation("", f"has the id of {field}[{seen[change.product_id]}]; name each product once"))
            if found:
                refused.append(Refused(index, tuple(found[:MAX_VIOLATIONS])))
            else:
                seen[change.product_id] = index
                changes.append(change)
        return ChangeCall(
            changes=tuple(changes),
            refused=tuple(refused),
            change_id=request.change_id,
            content=_content(request) if request.change_id else b"",
            waits=request.acknowledgement != catalogue_pb2.ACKNOWLEDGEMENT_LOGGED,
        )

    def _read_upsert(self, message: product_pb2.Product, found: list[Violation]) -> Change:
        _check_product_id(message.id, "id", found)
        if len(message.attributes) > MAX_ATTRIBUTES:
            found.append(
                Violation("attributes", f"has {len(message.attributes):,} entries; at most {MAX_ATTRIBUTES:,}")
            )
        if len(message.other_categories) > MAX_CATEGORIES:
            found.append(
                Violation("other_categories", f"has {len(message.other_categories)} items; at most {MAX_CATEGORIES}")
            )
        _check_price(message, found)
        if found:
            return Delete("")
        product = read_product(message, "", found)
        found[:] = [Violation(violation.field.removeprefix("."), violation.description) for violation in found]
        return Upsert(product)

    def _read_offer(self, message: catalogue_pb2.Offer, found: list[Violation]) -> Change:
        refuse_unknown(message, "", found)
        _check_product_id(message.product_id, "product_id", found)
        _check_price(message, found)
        if message.removes_price and message.HasField("price_minor"):
            found.append(Violation("removes_price", "is true, and price_minor is set too"))
        if not (
            message.HasField("price_minor") or message.removes_price or message.HasField("in_stock") or message.numbers
        ):
            found.append(Violation("", "changes nothing: set price_minor, removes_price, in_stock or numbers"))
        numbers = {name: self._number_text(name, value, found) for name, value in message.numbers.items()}
        if not found and self._table.row_of(message.product_id) is None:
            found.append(Violation("product_id", f"is {message.product_id[:80]!r}, which the catalogue does not have"))
        return Offer(
            product_id=message.product_id,
            price_minor=message.price_minor if message.HasField("price_minor") else None,
            removes_price=message.removes_price,
            in_stock=message.in_stock if message.HasField("in_stock") else None,
            numbers=numbers,
        )

    def _number_text(self, name: str, value: float, found: list[Violation]) -> str:
        """Returns the number as a catalogue would state it: in the attribute's unit."""
        column = self._attributes.get(name)
        if column is None or column.type is not AttributeType.NUMBER:
            found.append(Violation(f"numbers[{name[:80]!r}]", "is no number attribute of this catalogue"))
            return ""
        text = number_text(value, column.unit)
        if text is None:
            found.append(Violation(f"numbers[{name[:80]!r}]", f"is {value:g}; it must be finite, and not so extreme"))
        return text or ""

    def _check_number(self, field: str, count: int, violations: list[Violation]) -> None:
        if not 1 <= count <= self._max_changes:
            violations.append(Violation(field, f"has {count:,} items; it must have 1 to {self._max_changes:,}"))


def _folded(values: Iterable[Any]) -> set[Any]:
    return {value.casefold() if isinstance(value, str) else value for value in values}


def _place_of(text: str, value: str) -> int:
    return text.casefold().find(value.casefold())


def _text_of(values: Sequence[Any], kind: AttributeType, unit: str) -> str:
    """Returns a text that means these values by itself."""
    if kind is AttributeType.NUMBER:
        return number_text(values[0], unit) or write_value(values[0], kind)
    return SEPARATOR.join(write_value(value, kind) for value in values)


def _content(request: ChangeRequest) -> bytes:
    """Returns a hash of what a request asks for."""
    asked = type(request)()
    asked.CopyFrom(request)  # type: ignore[arg-type]  # of its own type
    asked.ClearField("change_id")
    asked.ClearField("acknowledgement")
    named = request.DESCRIPTOR.full_name.encode() + asked.SerializeToString(deterministic=True)
    return hashlib.blake2b(named, digest_size=16).digest()


def number_text(value: float, unit: str) -> str | None:
    """Returns a number as a text that means it alone, in its unit; None if there is none."""
    if not math.isfinite(value):
        return None
    text = format(Decimal(repr(value)), "f").removesuffix(".0")  # digits: an exponent has no unit
    if is_ambiguous(text.removeprefix("-")):  # 1.234 may also be 1,234
        text += "0"
    text = f"{text} {unit}" if unit else text
    return text if len(text) <= MAX_VALUE_CHARS and read_value(text, AttributeType.NUMBER, unit) == (value,) else None


def _read_delete(product_id: str, found: list[Violation]) -> Change:
    _check_product_id(product_id, "", found)
    return Delete(product_id)


def _check_product_id(product_id: str, field: str, found: list[Violation]) -> None:
    if not product_id.strip():
        found.append(Violation(field, "must not be empty"))
    elif len(product_id) > MAX_ID_CHARS:
        found.append(Violation(field, f"has {len(product_id):,} characters; at most {MAX_ID_CHARS}"))
    elif product_id != product_id.strip() or not product_id.isprintable():
        found.append(Violation(field, "must be printable, without blanks around it"))


def _check_price(message: product_pb2.Product | catalogue_pb2.Offer, found: list[Violation]) -> None:
    if not 0 <= message.price_minor <= MAX_PRICE_MINOR:
        found.append(Violation("price_minor", f"is {message.price_minor}; it must be 0 to {MAX_PRICE_MINOR:,}"))
