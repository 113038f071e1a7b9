"""CatalogueService: logs changes of the catalogue, and says when every replica has them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import numpy as np
from google.protobuf.message import DecodeError

from aisle.v1 import catalogue_pb2
from models.arrays import Float16s
from models.products.product import Product
from serving.catalogue.change import ChangeBatch
from serving.catalogue.follower import Follower
from serving.catalogue.log import Appended
from serving.errors import AisleError, Code, InvalidRequest, Violation
from serving.gateway.messages.catalogue import CatalogueMessages, ChangeCall
from serving.gateway.rpc import Call, Guard, Servicer, guarded
from serving.metrics import table
from serving.search.pipeline import SearchPipeline
from serving.search.product_vectors import PRODUCT_COST

MAX_STREAM_BATCHES = 1_000
LONG_CHANGES = 64  # of a call that is read on a thread
ANSWER_S = 0.005  # of a call's time that is left for writing its answer


class CatalogueFixed(AisleError):
    code = Code.UNIMPLEMENTED
    reason = "CATALOGUE_FIXED"


class CatalogueService(Servicer):
    """`follower` is None if the catalogue takes no changes: then every call is refused. `encoder` names what the pipeline encodes products
    with."""

    descriptor = catalogue_pb2.DESCRIPTOR.services_by_name["CatalogueService"]

    def __init__(
        self,
        follower: Follower | None,
        messages: CatalogueMessages,
        pipeline: SearchPipeline,
        guard: Guard,
        *,
        encoder: str,
        bundle_version: str,
        max_wait_ms: float,
    ) -> None:
        self.guard = guard
        self._configured_follower = follower
        self._messages = messages
        self._pipeline, self._encoder = pipeline, encoder
        self._bundle_version = bundle_version
        self._max_wait_s = max_wait_ms / 1000
        self._commit_seconds = table.COMMIT_SECONDS.labels()

    def stages_of(self, method: str) -> tuple[int, ...]:
        return self._pipeline.product_stages if method in ("UpsertProducts", "StreamProducts") else ()

    @guarded("catalogue:write")
    async def UpsertProducts(
        self, request: catalogue_pb2.UpsertProductsRequest, call: Call
    ) -> catalogue_pb2.ChangeResponse:
        self._follower()
        call.set_cost(PRODUCT_COST * len(request.products))
        return (await self._change(await self._read_upserts(request, call), call))[0]

    @guarded("catalogue:write")
    async def DeleteProducts(
        self, request: catalogue_pb2.DeleteProductsRequest, call: Call
    ) -> catalogue_pb2.ChangeResponse:
        self._follower()
        return (await self._change(self._messages.read_deletes(request), call))[0]

    @guarded("catalogue:write")
    async def UpdateOffers(
        self, request: catalogue_pb2.UpdateOffersRequest, call: Call
    ) -> catalogue_pb2.ChangeResponse:
        follower = self._follower()
        change = self._messages.read_offers(request)
        if change.refused:  # a product may be so new that this process has yet to learn of it
            await asyncio.to_thread(follower.catalogue.catch_up, await asyncio.to_thread(follower.log.head))
            change = self._messages.read_offers(request)
        return (await self._change(change, call))[0]

    @guarded("catalogue:write")
    async def StreamProducts(
        self, requests: AsyncIterator[catalogue_pb2.UpsertProductsRequest | DecodeError], call: Call
    ) -> catalogue_pb2.StreamProductsResponse:
        self._follower()
        response = catalogue_pb2.StreamProductsResponse(request_id=call.request_id)
        spent_bytes = num_products = 0
        async for request in requests:
            path = f"batches[{len(response.batches)}]"
            if isinstance(request, DecodeError):
                raise InvalidRequest(Violation(path, "is not a valid message (strings must be UTF-8)"))
            if len(response.batches) == MAX_STREAM_BATCHES:
                raise InvalidRequest(Violation(path, f"is one too many; a stream has at most {MAX_STREAM_BATCHES}"))
            num_products += len(request.products)
            call.set_cost(PRODUCT_COST * num_products)
            change = await self._read_upserts(request, call, f"{path}.")
            answer, spent_bytes = await self._change(change, call, spent_bytes)
            response.batches.append(answer)
        return response

    @guarded("catalogue:read")
    async def GetProducts(
        self, request: catalogue_pb2.GetProductsRequest, call: Call
    ) -> catalogue_pb2.GetProductsResponse:
        follower = self._follower()
        ids = self._messages.read_ids(request)
        if request.min_sequence > follower.sequence:
            await asyncio.to_thread(follower.catch_up, request.min_sequence)
        response = self._messages.write_products(ids)
        response.sequence = follower.sequence
        response.request_id = call.request_id
        return response

    @guarded("catalogue:read")
    async def GetCatalogueStatus(
        self,
        request: catalogue_pb2.GetCatalogueStatusRequest,  # noqa: ARG002
        call: Call,
    ) -> catalogue_pb2.GetCatalogueStatusResponse:
        follower = self._follower()
        catalogue, head = follower.catalogue, await asyncio.to_thread(follower.log.head)
        added = len(catalogue.table) - catalogue.num_base_rows
        return catalogue_pb2.GetCatalogueStatusResponse(
            bundle_version=self._bundle_version,
            bundle_sequence=catalogue.base_sequence,
            logged_sequence=head,
            applied_sequence=catalogue.sequence,
            products=catalogue.table.num_alive,
            added_rows=added,
            removed_rows=len(catalogue.table) - catalogue.table.num_alive,
            changed_offers=catalogue.num_changed_offers,
            replicas=[
                catalogue_pb2.CatalogueReplica(
                    name=replica.name, applied_sequence=replica.applied, lag=max(0, head - replica.applied)
                )
                for replica in follower.log.replicas()
            ],
            request_id=call.request_id,
        )

    async def _read_upserts(
        self, request: catalogue_pb2.UpsertProductsRequest, call: Call, path: str = ""
    ) -> ChangeCall:
        read = self._messages.read_upserts
        if len(request.products) > LONG_CHANGES:
            return await self.guard.long_work(call.caller, read, request, path)
        return read(request, path)

    async def _change(
        self, change: ChangeCall, call: Call, spent_bytes: int = 0
    ) -> tuple[catalogue_pb2.ChangeResponse, int]:
        """Encodes, logs, and waits as the call says. Returns the answer, and the bytes of refusals in the whole answer."""
        follower = self._follower()
        appended = Appended(follower.sequence + 1, follower.sequence)  # nothing
        if change.changes:
            batch = ChangeBatch(
                changes=change.changes,
                vectors=await self._vectors(change.products, call.deadline),
                encoder=self._encoder,
                change_id=change.change_id,
                content=change.content,
            )
            started = time.monotonic()
            appended = await follower.log.append(batch)
            self._commit_seconds.observe(time.monotonic() - started)
        is_visible = False
        if change.waits:
            left_s = call.deadline - time.monotonic() - ANSWER_S
            is_visible = await follower.reached_everywhere(appended.last, min(self._max_wait_s, left_s))
        response, spent_bytes = self._messages.write(change, appended, is_visible=is_visible, spent_bytes=spent_bytes)
        response.request_id = call.request_id
        return response, spent_bytes

    async def _vectors(self, products: Sequence[Product], deadline: float) -> Float16s:
        if not products:
            return np.zeros((0, 0), np.float16)
        return (await self._pipeline.embed_products(products, deadline)).astype(np.float16)

    def _follower(self) -> Follower:
        if self._configured_follower is None:
            raise CatalogueFixed("this service takes no changes of its catalogue (catalogue.log is off)")
        return self._configured_follower
