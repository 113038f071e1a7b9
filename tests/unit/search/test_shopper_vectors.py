"""Who is searching is known from the store or the request; when it is not, the answer says why, in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np
import pytest

from models.events.event import Event, EventKind
from serving.compute.shopper_encoder import ShopperVector
from serving.errors import Overloaded, Unavailable
from serving.search import shopper_vectors
from serving.search.shopper_vectors import MAX_EVENTS, ShopperVectors, Source
from serving.shoppers.store import NO_HISTORY, History, Recorded
from serving.stages.batcher import Batcher, Outcome
from tests.fake_clock import FakeClock


def event(number: int, kind: EventKind = EventKind.CLICK, query: str = "") -> Event:
    return Event(f"e{number}", number, "ann", "s", "en-US", kind, f"P{number}", query)


class Store:
    """A store in memory that can fail, and that answers nothing while its gate is closed."""

    def __init__(self) -> None:
        self.kept = NO_HISTORY
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.written: int | None = None  # what `stamp` tells
        self.versions_read = 0

    async def version(self, _: str) -> int:
        self.versions_read += 1
        await self._trouble()
        return self.kept.version

    def stamp(self) -> int | None:
        return self.written

    async def _trouble(self) -> None:
        await self.gate.wait()
        if self.error:
            raise self.error

    async def history(self, _: str, max_events: int) -> History:
        await self._trouble()
        self.reads += 1
        return History(self.kept.events[:max_events], self.kept.version)

    async def record(self, events: Sequence[Event]) -> Recorded:
        self.kept = History((*events, *self.kept.events), self.kept.version + 1)
        return Recorded(len(events), 0)

    def believed_ms(self) -> int:
        return 0

    async def forget(self, _: str) -> int:
        self.kept = NO_HISTORY
        return 0

    async def close(self) -> None: ...


class Stage:
    """Knows how many events it was given, and all products but "gone"."""

    def __init__(self) -> None:
        self.asked: list[tuple[Event, ...]] = []
        self.error: Exception | None = None

    async def __call__(self, events: tuple[Event, ...], **_: float) -> Outcome[ShopperVector]:
        self.asked.append(events)
        if self.error:
            raise self.error
        used = [one for one in events if one.product_id != "gone"]
        return Outcome(ShopperVector(np.full(4, len(used), np.float32), len(used)), 0.0, 1.0, 1)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def stage() -> Stage:
    return Stage()


def vectors(stage: Stage, store: Store | None, wait_ms: float = 300_000) -> ShopperVectors:
    return ShopperVectors(stage, store, wait_ms)  # type: ignore[arg-type]


def soon() -> float:
    return time.monotonic() + 300


async def test_while_nobody_writes_nothing_is_read(stage: Stage, store: Store) -> None:
    known = vectors(stage, store)
    await store.record([event(1)])
    store.written = 1
    for _ in range(3):
        assert (await known.stored("ann", soon())).num_events == 1
    assert (store.reads, store.versions_read) == (1, 0)


async def test_what_others_wrote_costs_one_look_at_the_version(stage: Stage, store: Store) -> None:
    known = vectors(stage, store)
    await store.record([event(1)])
    store.written = 1
    await known.stored("ann", soon())
    store.written = 2  # of another shopper
    for _ in range(3):
        assert (await known.stored("ann", soon())).num_events == 1
    assert (store.reads, store.versions_read) == (1, 1)
    await store.record([event(2)])
    store.written = 3
    assert (await known.stored("ann", soon())).num_events == 2


async def test_what_was_forgotten_during_a_look_stays_forgotten(stage: Stage, store: Store) -> None:
    known = vectors(stage, store)
    await store.record([event(1)])
    store.written = 1
    await known.stored("ann", soon())
    store.written = 2
    store.gate.clear()
    looking = asyncio.ensure_future(known.stored("ann", soon()))
    while not store.versions_read:  # noqa: ASYNC110 - the store fires no event
        await asyncio.sleep(0)
    known.forget("ann")
    store.gate.set()
    await looking
    assert not known._cache


async def test_a_history_is_encoded_once_until_something_is_added(stage: Stage, store: Store) -> None:
    known = vectors(stage, store)
    await store.record([event(1)])
    first, second = await known.stored("ann", soon()), await known.stored("ann", soon())
    assert (first.source, first.num_events) == (second.source, second.num_events) == (Source.STORED, 1)
    assert (first.outcome is None, second.outcome is None) == (False, True)
    assert (len(stage.asked), store.reads) == (1, 1)
    await store.record([event(2)])
    assert (await known.stored("ann", soon())).num_events == 2
    assert len(stage.asked) == 2


async def test_only_the_newest_events_are_read_and_mere_impressions_left_out(stage: Stage, store: Store) -> None:
    shown = [event(n, EventKind.IMPRESSION) for n in range(5)]
    searched = event(900, EventKind.IMPRESSION, query="sofa")
    await store.record([searched, *shown, *(event(n) for n in range(2 * MAX_EVENTS))])
    await vectors(stage, store).stored("ann", soon())
    assert stage.asked == [(searched, *(event(n) for n in range(MAX_EVENTS - 6)))]


async def test_a_forgotten_shopper_is_not_remembered(stage: Stage, store: Store) -> None:
    known = vectors(stage, store)
    await store.record([event(1)])
    await known.stored("ann", soon())
    await store.forget("ann")
    known.forget("ann")
    assert not known._cache
    assert (await known.stored("ann", soon())).reason == "nothing is known of the shopper"


async def test_what_another_gateway_forgot_leaves_the_cache_by_its_age(
    stage: Stage, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = vectors(stage, store)
    await store.record([event(1)])
    await known.stored("ann", soon())
    monkeypatch.setattr(shopper_vectors, "MAX_CACHED_S", 0.0)
    await known.stored("bob", soon())
    assert list(known._cache) == ["bob"]


async def test_a_slow_store_is_not_waited_for(stage: Stage, store: Store) -> None:
    await store.record([event(1)])
    store.gate.clear()  # who waits for it runs into the test's own time limit
    shopper = await vectors(stage, store, wait_ms=20).stored("ann", soon())
    assert shopper.failed
    assert shopper.vector is None
    assert shopper.reason == "the shopper store did not answer within 20 ms"
    late = await vectors(stage, store).stored("ann", time.monotonic() + 0.1)
    assert late.failed


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("it is away"), "failed: it is away"),
        (Overloaded(0.1, "it is busy"), "failed: it is busy"),
        (RuntimeError("a bug"), "failed; the server's log says why"),
    ],
)
@pytest.mark.parametrize("part", ["store", "stage"])
async def test_a_failure_leaves_a_plain_answer_and_is_not_kept(
    stage: Stage, store: Store, part: str, error: Exception, reason: str
) -> None:
    await store.record([event(1)])
    known = vectors(stage, store)
    broken = store if part == "store" else stage
    broken.error = error
    shopper = await known.stored("ann", soon())
    assert (shopper.source, shopper.vector, shopper.failed) == (Source.NONE, None, True)
    assert shopper.reason == f"the shopper {part} {reason}"
    broken.error = None
    assert (await known.stored("ann", soon())).source is Source.STORED


async def test_without_a_store_or_with_products_that_are_gone_nothing_is_known(stage: Stage, store: Store) -> None:
    nobody = await vectors(stage, None).stored("ann", soon())
    assert (nobody.reason, nobody.failed) == ("this service keeps no events of shoppers", False)
    gone = Event("e", 1, "", "", "", EventKind.CLICK, "gone")
    shopper = await vectors(stage, store).from_events((gone,), soon())
    assert (shopper.source, shopper.reason) == (Source.NONE, "the shopper's events name no product of this catalogue")


async def test_events_of_a_request_are_not_kept(stage: Stage, store: Store) -> None:
    known = vectors(stage, store)
    assert (await known.from_events((event(1), event(2)), soon())).source is Source.REQUEST
    assert not known._cache


async def test_each_event_is_left_out_once(stage: Stage, store: Store) -> None:
    events = (event(1), event(2), event(3))
    await vectors(stage, store).without_each(events, soon())
    assert stage.asked == [(event(2), event(3)), (event(1), event(3)), (event(1), event(2))]


async def test_an_explanation_is_not_refused_for_the_queue_that_it_fills_itself() -> None:
    """After one slow history a queue of sixty would be seconds long, by the speed measured so far."""
    clock = FakeClock(time.monotonic())

    async def compute(histories: list[tuple[Event, ...]]) -> list[ShopperVector | Exception]:
        clock.now += 0.1
        return [ShopperVector(np.full(4, len(events), np.float32), len(events)) for events in histories]

    batcher: Batcher[tuple[Event, ...], ShopperVector] = Batcher(
        compute, max_batch_cost=4, max_wait_s=0.05, clock=clock
    )
    known = ShopperVectors(batcher.submit, None, 300_000)  # type: ignore[arg-type]
    events = tuple(event(number) for number in range(60))
    await asyncio.gather(*(known.from_events(events, soon()) for _ in range(2)))
    assert [int(vector[0]) for vector in await known.without_each(events, soon())] == [59] * 60
