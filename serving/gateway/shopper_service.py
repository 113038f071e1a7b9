"""ShopperService: records the events of shoppers, returns them, forgets them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from google.protobuf.message import DecodeError

from aisle.v1 import shopper_pb2
from serving.errors import AisleError, Code, InvalidRequest, Violation
from serving.gateway.messages.events import Batch, EventMessages
from serving.gateway.rpc import Call, Guard, Servicer, guarded
from serving.metrics import table
from serving.shoppers.store import ShopperStore

MAX_STREAM_BATCHES = 1000


class ShoppersOff(AisleError):
    code = Code.UNIMPLEMENTED
    reason = "SHOPPERS_OFF"


class ShopperService(Servicer):
    """`store` is None if no events are stored: then every call is refused. `forget` drops what the gateway derived from a shopper's
    events."""

    descriptor = shopper_pb2.DESCRIPTOR.services_by_name["ShopperService"]

    def __init__(
        self,
        store: ShopperStore | None,
        messages: EventMessages,
        guard: Guard,
        forget: Callable[[str], None] | None = None,
    ) -> None:
        self.guard = guard
        self._forget = forget
        self._configured_store = store
        self._messages = messages
        self._recorded, self._duplicates, self._refused = (
            table.EVENTS.labels(result) for result in ("recorded", "duplicate", "refused")
        )

    @guarded("events")
    async def RecordEvents(
        self, request: shopper_pb2.RecordEventsRequest, call: Call
    ) -> shopper_pb2.RecordEventsResponse:
        store = self._store()
        batch = self._messages.read_batch(request)
        totals, _ = await self._record(store, batch)
        return shopper_pb2.RecordEventsResponse(
            recorded=totals.recorded,
            duplicates=totals.duplicates,
            refused=totals.refused,
            rejected=totals.rejected,
            request_id=call.request_id,
        )

    @guarded("events")
    async def StreamEvents(
        self, requests: AsyncIterator[shopper_pb2.StreamEventsRequest | DecodeError], call: Call
    ) -> shopper_pb2.StreamEventsResponse:
        store = self._store()
        response = shopper_pb2.StreamEventsResponse(request_id=call.request_id)
        spent_bytes = 0
        async for request in requests:
            path = f"batches[{len(response.batches)}]"
            if isinstance(request, DecodeError):
                raise InvalidRequest(Violation(path, "is not a valid message (strings must be UTF-8)"))
            if len(response.batches) == MAX_STREAM_BATCHES:
                raise InvalidRequest(Violation(path, f"is one too many; a stream has at most {MAX_STREAM_BATCHES}"))
            batch = self._messages.read_batch(request, f"{path}.")
            totals, spent_bytes = await self._record(store, batch, spent_bytes)
            response.batches.append(totals)
        return response

    @guarded("history")
    async def GetHistory(self, request: shopper_pb2.GetHistoryRequest, call: Call) -> shopper_pb2.GetHistoryResponse:
        store = self._store()
        shopper_id = self._messages.read_shopper(request)
        history = await store.history(shopper_id, self._messages.read_max_events(request))
        response = self._messages.write_history(history)
        response.request_id = call.request_id
        return response

    @guarded("history")
    async def ForgetShopper(
        self, request: shopper_pb2.ForgetShopperRequest, call: Call
    ) -> shopper_pb2.ForgetShopperResponse:
        shopper_id = self._messages.read_shopper(request)
        forgotten = await self._store().forget(shopper_id)
        if self._forget:
            self._forget(shopper_id)
        return shopper_pb2.ForgetShopperResponse(forgotten=forgotten, request_id=call.request_id)

    async def _record(
        self, store: ShopperStore, batch: Batch, spent_bytes: int = 0
    ) -> tuple[shopper_pb2.BatchTotals, int]:
        """Records a batch. Returns what became of it, and the bytes of rejections in the whole answer."""
        recorded = await store.record(batch.events)
        self._recorded.inc(recorded.recorded)
        self._duplicates.inc(recorded.duplicates)
        self._refused.inc(len(batch.rejected))
        return self._messages.write_totals(batch, recorded, spent_bytes)

    def _store(self) -> ShopperStore:
        if self._configured_store is None:
            raise ShoppersOff("this service keeps no events of shoppers (shoppers.store is off)")
        return self._configured_store
