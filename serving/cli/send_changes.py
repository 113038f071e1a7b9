"""Sends changes of a catalogue to a running service, as a shop's own systems would: in batches, again where a call may be sent again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from rich.markup import escape

from aisle.client import CallError
from aisle.v1 import catalogue_pb2, catalogue_pb2_grpc, info_pb2, info_pb2_grpc, product_pb2
from models.products.product import Product
from serving.cli.client import Connection
from serving.cli.terminal import err

MAX_BATCH = 100
MAX_BATCH_BYTES = 1 << 20
MAX_REASONS = 10  # that are kept
TIMEOUT_S = 30
PATIENCE_S = 60.0  # that a service may be away or busy: a restart takes 10 to 15 s
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 3.0
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
BUSY = ("OVERLOADED", "QUOTA_EXCEEDED")  # reasons of RESOURCE_EXHAUSTED that pass

Request = TypeVar("Request")
Response = TypeVar("Response")
Item = TypeVar("Item")


@dataclass(slots=True)
class Sent:
    """What became of the items: how many are in the log, how many were refused, and why, for some."""

    accepted: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)
    sequence: int = 0
    is_visible: bool = True


class ChangeSender:
    """Sends to one service, and counts in `sent`. A call waits for a service that is away or busy, up to PATIENCE_S, and then raises
    grpc.RpcError, as it does for everything else."""

    def __init__(self, connection: Connection) -> None:
        """Asks the service for its currency, limits and attributes. Raises grpc.RpcError."""
        self._connection = connection
        self._stub = catalogue_pb2_grpc.CatalogueServiceStub(connection.channel)
        info = connection.call(info_pb2_grpc.InfoServiceStub(connection.channel).GetInfo, info_pb2.GetInfoRequest())
        self.currency = info.catalogue.currency
        self.attributes = {attribute.name: attribute.type for attribute in info.catalogue.attributes}
        self.batch = min(MAX_BATCH, info.limits.max_changes or MAX_BATCH)
        self._max_bytes = min(MAX_BATCH_BYTES, info.limits.max_message_bytes // 2)
        self.sent = Sent()

    def upsert(self, products: Sequence[Product]) -> set[str]:
        """Adds or replaces products, of which `batch` are one call. Returns the ids of those that were refused."""
        too_large: set[str] = set()
        refused: set[str] = set()
        for messages in self._batches(map(self._message, products), too_large):
            request = catalogue_pb2.UpsertProductsRequest(products=messages)
            refused |= self._count([message.id for message in messages], self._call(self._stub.UpsertProducts, request))
        self.sent.refused += len(too_large)
        return refused | too_large

    def offer(self, products: Sequence[Product]) -> set[str]:
        """Sends price and stock of products that are otherwise as the service has them. Returns the ids of those that it does not have."""
        refused: set[str] = set()
        for some in _parts(products, self.batch):
            offers = [
                catalogue_pb2.Offer(
                    product_id=product.id,
                    price_minor=product.price_minor,
                    removes_price=product.price_minor is None,
                    in_stock=product.in_stock,
                )
                for product in some
            ]
            answer = self._call(self._stub.UpdateOffers, catalogue_pb2.UpdateOffersRequest(offers=offers))
            self._see(answer)
            refused |= _refused([product.id for product in some], answer)
        return refused

    def delete(self, product_ids: Sequence[str]) -> set[str]:
        """Takes products out of the catalogue. Returns the ids that were refused."""
        refused: set[str] = set()
        for ids in _parts(product_ids, self.batch):
            answer = self._call(self._stub.DeleteProducts, catalogue_pb2.DeleteProductsRequest(product_ids=ids))
            refused |= self._count(ids, answer)
        return refused

    def held(self, products: Sequence[Product]) -> set[str]:
        """Returns the ids of those products that the service has exactly so, as a build or as an upsert states them."""
        held: set[str] = set()
        plain = {product.id: _plain(product) for product in products}
        for messages in self._batches(map(self._message, products), set()):
            request = catalogue_pb2.GetProductsRequest(product_ids=[message.id for message in messages])
            try:
                answer = self._call(self._stub.GetProducts, request)
            except grpc.RpcError as error:
                if CallError.from_rpc_error(error).reason != "ANSWER_TOO_LARGE":
                    raise
                continue
            there = {product.id: product for product in answer.products}
            held |= {one.id for one in messages if there.get(one.id) in (one, plain[one.id])}
        return held

    def logged_sequence(self) -> int:
        """Returns the sequence of the latest change that the service knows."""
        request = catalogue_pb2.GetCatalogueStatusRequest()
        return self._call(self._stub.GetCatalogueStatus, request).logged_sequence

    def _batches(
        self, messages: Iterable[product_pb2.Product], refused: set[str]
    ) -> Iterator[list[product_pb2.Product]]:
        """Yields what one call may hold. A product that is too large for any is left out, and put into `refused`."""
        batch: list[product_pb2.Product] = []
        size = 0
        for message in messages:
            item_bytes = message.ByteSize()
            if item_bytes > self._max_bytes:
                refused.add(message.id)
                self._tell(message.id, f"has {item_bytes:,} bytes; at most {self._max_bytes:,}")
                continue
            if batch and (len(batch) == self.batch or size + item_bytes > self._max_bytes):
                yield batch
                batch, size = [], 0
            batch.append(message)
            size += item_bytes
        if batch:
            yield batch

    def _count(self, ids: Sequence[str], answer: catalogue_pb2.ChangeResponse) -> set[str]:
        self._see(answer)
        self.sent.refused += answer.refused
        for refusal in answer.refusals:
            self._tell(ids[refusal.index], f"{refusal.field} {refusal.reason}".strip())
        return _refused(ids, answer)

    def _see(self, answer: catalogue_pb2.ChangeResponse) -> None:
        sent = self.sent
        sent.accepted += answer.accepted
        sent.sequence = max(sent.sequence, answer.sequence)
        sent.is_visible = sent.is_visible and answer.is_visible

    def _tell(self, product_id: str, reason: str) -> None:
        if len(self.sent.reasons) < MAX_REASONS:
            self.sent.reasons.append(f"{product_id[:80]}: {reason}")

    def _call(self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request) -> Response:
        give_up, pause_s, is_told = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S, False
        while True:
            try:
                return method(request, timeout=TIMEOUT_S, metadata=self._connection.metadata)
            except grpc.RpcError as error:
                failed = CallError.from_rpc_error(error)
                passes = failed.code in AWAY or failed.reason in BUSY
                if not passes or time.monotonic() > give_up:
                    raise
            if not is_told and failed.code in AWAY:
                said = f"{failed.code.name}: {failed.message}; sending again for up to {PATIENCE_S:.0f} s"
                err.print(f"[yellow]waiting:[/yellow] {escape(said)}", highlight=False, soft_wrap=True)
                is_told = True
            time.sleep(max(pause_s, failed.retry_after_s or 0))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _message(self, product: Product) -> product_pb2.Product:
        """Returns the product as the service takes it: the items of an attribute of several values are separated by "|"."""
        message = _plain(product)
        for name, items in product.lists.items():
            of_type = self.attributes.get(name, info_pb2.ATTRIBUTE_TYPE_KEYWORDS)
            if of_type == info_pb2.ATTRIBUTE_TYPE_KEYWORDS:
                message.attributes[name] = "|".join(items)
        return message


def _refused(ids: Sequence[str], answer: catalogue_pb2.ChangeResponse) -> set[str]:
    """Returns the ids that were refused; all of the call, if the answer does not name each."""
    refused = {ids[refusal.index] for refusal in answer.refusals}
    return refused if len(refused) == answer.refused else set(ids)


def _plain(product: Product) -> product_pb2.Product:
    return product_pb2.Product(
        id=product.id,
        title=product.title,
        brand=product.brand,
        category=product.category,
        price_minor=product.price_minor,
        in_stock=product.in_stock,
        attributes=product.attributes,
        other_categories=product.other_categories,
    )


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
