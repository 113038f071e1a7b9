"""A CatalogueService of this process, which keeps products in a dictionary and fails as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from aisle.v1 import catalogue_pb2, catalogue_pb2_grpc, info_pb2, info_pb2_grpc, product_pb2

KEYWORD, KEYWORDS = info_pb2.ATTRIBUTE_TYPE_KEYWORD, info_pb2.ATTRIBUTE_TYPE_KEYWORDS


@dataclass(frozen=True)
class Failure:
    """What a call ends with instead of an answer."""

    code: grpc.StatusCode
    reason: str = ""
    retry_after_s: float = 0.0


@dataclass
class Shop:
    """`failures` are what the next calls end with; None is an answer."""

    products: dict[str, product_pb2.Product] = field(default_factory=dict)
    sequence: int = 0
    refused: set[str] = field(default_factory=set)  # ids whose upserts are refused
    failures: list[Failure | None] = field(default_factory=list)
    calls: list[tuple[str, list[str]]] = field(default_factory=list)  # method and ids of those that were answered
    currency: str = "EUR"
    names_refusals: bool = True

    def called(self, method: str) -> list[str]:
        """Returns the ids of all calls of a method."""
        return [product_id for name, ids in self.calls if name == method for product_id in ids]


class ShopService(catalogue_pb2_grpc.CatalogueServiceServicer, info_pb2_grpc.InfoServiceServicer):
    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def GetInfo(self, _: info_pb2.GetInfoRequest, _context: grpc.ServicerContext) -> info_pb2.GetInfoResponse:  # noqa: N802
        attributes = [
            info_pb2.AttributeInfo(name="colour", type=KEYWORD),
            info_pb2.AttributeInfo(name="materials", type=KEYWORDS),
        ]
        return info_pb2.GetInfoResponse(
            catalogue=info_pb2.CatalogueInfo(currency=self._shop.currency, attributes=attributes),
            limits=info_pb2.Limits(max_changes=5, max_message_bytes=20_000),
        )

    def UpsertProducts(  # noqa: N802
        self, request: catalogue_pb2.UpsertProductsRequest, context: grpc.ServicerContext
    ) -> catalogue_pb2.ChangeResponse:
        self._answer("UpsertProducts", [product.id for product in request.products], context)
        refused = [n for n, product in enumerate(request.products) if product.id in self._shop.refused]
        for n, product in enumerate(request.products):
            if n not in refused:
                self._shop.products[product.id] = product
        return self._changed(len(request.products), refused)

    def UpdateOffers(  # noqa: N802
        self, request: catalogue_pb2.UpdateOffersRequest, context: grpc.ServicerContext
    ) -> catalogue_pb2.ChangeResponse:
        self._answer("UpdateOffers", [offer.product_id for offer in request.offers], context)
        refused = [n for n, offer in enumerate(request.offers) if offer.product_id not in self._shop.products]
        for n, offer in enumerate(request.offers):
            if n not in refused:
                product = self._shop.products[offer.product_id]
                product.ClearField("price_minor")
                if not offer.removes_price:
                    product.price_minor = offer.price_minor
                product.in_stock = offer.in_stock
        return self._changed(len(request.offers), refused)

    def DeleteProducts(  # noqa: N802
        self, request: catalogue_pb2.DeleteProductsRequest, context: grpc.ServicerContext
    ) -> catalogue_pb2.ChangeResponse:
        self._answer("DeleteProducts", list(request.product_ids), context)
        for product_id in request.product_ids:
            self._shop.products.pop(product_id, None)
        return self._changed(len(request.product_ids), [])

    def GetProducts(  # noqa: N802
        self, request: catalogue_pb2.GetProductsRequest, context: grpc.ServicerContext
    ) -> catalogue_pb2.GetProductsResponse:
        self._answer("GetProducts", list(request.product_ids), context)
        there = [self._shop.products[one] for one in request.product_ids if one in self._shop.products]
        return catalogue_pb2.GetProductsResponse(products=there)

    def GetCatalogueStatus(  # noqa: N802
        self, _: catalogue_pb2.GetCatalogueStatusRequest, context: grpc.ServicerContext
    ) -> catalogue_pb2.GetCatalogueStatusResponse:
        self._answer("GetCatalogueStatus", [], context)
        return catalogue_pb2.GetCatalogueStatusResponse(logged_sequence=self._shop.sequence)

    def _answer(self, method: str, ids: list[str], context: grpc.ServicerContext) -> None:
        failure = self._shop.failures.pop(0) if self._shop.failures else None
        if failure:
            context.abort_with_status(_Status(failure))
        self._shop.calls.append((method, ids))

    def _changed(self, num_items: int, refused: list[int]) -> catalogue_pb2.ChangeResponse:
        self._shop.sequence += num_items - len(refused)
        named = refused if self._shop.names_refusals else refused[:1]
        return catalogue_pb2.ChangeResponse(
            accepted=num_items - len(refused),
            refused=len(refused),
            refusals=[catalogue_pb2.RefusedChange(index=n, field="title", reason="is refused") for n in named],
            sequence=self._shop.sequence,
            is_visible=True,
        )


class _Status(grpc.Status):  # type: ignore[misc]
    """A status with the details that Aisle sends."""

    def __init__(self, failure: Failure) -> None:
        details: list[Any] = [error_details_pb2.ErrorInfo(reason=failure.reason, domain="aisle")]
        if failure.retry_after_s:
            delay = duration_pb2.Duration(nanos=int(failure.retry_after_s * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        packed = [any_pb2.Any() for _ in details]
        for one, detail in zip(packed, details, strict=True):
            one.Pack(detail)
        status = status_pb2.Status(code=failure.code.value[0], message="as told", details=packed)
        self.code, self.details = failure.code, status.message
        self.trailing_metadata = (("grpc-status-details-bin", status.SerializeToString()),)


@contextmanager
def serving(shop: Shop, port: int = 0) -> Iterator[int]:
    """Serves until the block ends. Yields the port."""
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    service = ShopService(shop)
    catalogue_pb2_grpc.add_CatalogueServiceServicer_to_server(service, server)
    info_pb2_grpc.add_InfoServiceServicer_to_server(service, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    yield bound
    server.stop(None).wait()
