"""Both shopper stores keep the same promises: on a real file, and against a real Redis where one is installed."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from loadtest.benchmarks.redis_server import RedisServer, redis_is_installed, redis_server
from models.events.event import Event, EventKind
from serving.shoppers.redis_store import RedisStore
from serving.shoppers.sqlite_store import SqliteStore
from serving.shoppers.store import (
    DAY_MS,
    NO_HISTORY,
    History,
    Recorded,
    Retention,
    ShopperStore,
    now_ms,
    restore_event,
    stored_values,
)

NOW = now_ms()  # a real Redis expires its keys by its own clock
KEEP = 50
LONG = Retention(KEEP, 3650)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


class Open(Protocol):
    """Opens one more store over the same data, as another gateway does."""

    def __call__(self, retention: Retention = ..., clock: Callable[[], int] = ...) -> Awaitable[ShopperStore]: ...


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer | None]:
    if not redis_is_installed():
        yield None
        return
    with redis_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path, redis: RedisServer | None) -> AsyncIterator[Open]:
    async with AsyncExitStack() as opened:

        async def open_(retention: Retention = LONG, clock: Callable[[], int] = now_ms) -> ShopperStore:
            store: ShopperStore
            if request.param == "sqlite":
                store = SqliteStore(tmp_path / "shoppers.db", retention, "normal", clock)
            else:
                assert redis is not None
                store = RedisStore(redis.url, retention, clock)
            opened.push_async_callback(store.close)
            return store

        if request.param == "redis":
            if redis is None:
                pytest.skip("redis-server is not installed")
            from redis.asyncio import Redis

            client = Redis.from_url(redis.url)
            await client.flushall()
            await client.aclose()
        yield open_


@pytest.fixture
async def store(open_store: Open) -> ShopperStore:
    return await open_store()


def event(number: int, shopper: str = "ann", *, time_ms: int | None = None) -> Event:
    return Event(
        id=f"e{number:05}", time_ms=NOW + number if time_ms is None else time_ms, shopper_id=shopper, session_id="s1",
        locale="en-US", kind=EventKind.CLICK, product_id=f"p{number}", query="red sofa", position=1, price_minor=1999,
    )  # fmt: skip


def numbers(history: History) -> list[int]:
    return [int(event.id[1:]) for event in history.events]


async def test_what_was_recorded_is_read_as_it_was(store: ShopperStore) -> None:
    full = Event(
        "ünïque 1",
        NOW,
        'O"Brien{}\\ 日本',
        "séance",
        "fr-CA",
        EventKind.PURCHASE,
        "AS-1'); --",
        "canapé 🛋",
        3,
        2**62,
        "r-1",
    )
    bare = Event("2", NOW + 1, full.shopper_id, "", "en-US", EventKind.IMPRESSION, "p")
    assert await store.record([full, bare]) == Recorded(2, 0)
    assert (await store.history(full.shopper_id, 10)).events == (bare, full)


def test_an_event_without_a_request_id_is_stored_as_earlier_versions_read_it() -> None:
    assert len(stored_values(event(1))) == 8
    assert stored_values(dataclasses.replace(event(1), request_id="r"))[8:] == ("r",)


def test_an_event_of_an_earlier_version_is_read() -> None:
    assert restore_event("ann", "e00001", *stored_values(event(1))) == event(1)


async def test_nothing_is_known_of_a_stranger(store: ShopperStore) -> None:
    await store.record([event(1)])
    assert await store.history("nobody", 10) == NO_HISTORY
    assert await store.record([]) == Recorded(0, 0)


async def test_shoppers_are_apart(store: ShopperStore) -> None:
    shoppers = ["a", "a ", "A", "a}", "{a}", "a%7D", "a:events", "*"]
    await store.record([event(n, shopper) for n, shopper in enumerate(shoppers)])
    for n, shopper in enumerate(shoppers):
        assert numbers(await store.history(shopper, 10)) == [n]


class TestIdempotence:
    async def test_a_repeated_batch_changes_nothing(self, store: ShopperStore) -> None:
        batch = [event(n) for n in range(10)]
        assert await store.record(batch) == Recorded(10, 0)
        before = await store.history("ann", 100)
        assert await store.record(batch) == Recorded(0, 10)
        assert await store.history("ann", 100) == before

    async def test_an_event_twice_in_a_batch_counts_once(self, store: ShopperStore) -> None:
        assert await store.record([event(1), event(2), event(1)]) == Recorded(2, 1)
        assert numbers(await store.history("ann", 10)) == [2, 1]

    async def test_the_first_of_an_id_stays(self, store: ShopperStore) -> None:
        await store.record([event(1)])
        assert await store.record([event(1, time_ms=NOW + 99)]) == Recorded(0, 1)
        assert (await store.history("ann", 10)).events == (event(1),)

    async def test_the_same_id_of_another_shopper_is_another_event(self, store: ShopperStore) -> None:
        assert await store.record([event(1, "ann"), event(1, "bob")]) == Recorded(2, 0)

    async def test_calls_at_once_record_each_event_once(self, store: ShopperStore) -> None:
        batch = [event(n, f"s{n % 3}") for n in range(30)]
        answers = await asyncio.gather(*(store.record(batch) for _ in range(20)))
        assert sum(answer.recorded for answer in answers) == 30
        assert sum(answer.duplicates for answer in answers) == 19 * 30
        assert numbers(await store.history("s0", 100)) == list(range(27, -1, -3))


class TestHistory:
    async def test_time_orders_it_whatever_the_order_of_arrival(self, store: ShopperStore) -> None:
        for n in (3, 1, 4, 0, 2):
            await store.record([event(n)])
        assert numbers(await store.history("ann", 10)) == [4, 3, 2, 1, 0]

    async def test_equal_times_are_ordered_by_id(self, store: ShopperStore) -> None:
        await store.record([event(n, time_ms=NOW) for n in (2, 0, 3, 1)])
        assert numbers(await store.history("ann", 10)) == [3, 2, 1, 0]

    async def test_it_can_be_cut(self, store: ShopperStore) -> None:
        await store.record([event(n) for n in range(10)])
        assert numbers(await store.history("ann", 3)) == [9, 8, 7]

    async def test_ten_thousand_events_leave_the_newest(self, store: ShopperStore) -> None:
        order = [(n * 7919) % 10_000 for n in range(10_000)]
        for at in range(0, 10_000, 1000):
            await store.record([event(n) for n in order[at : at + 1000]])
        assert numbers(await store.history("ann", 10_000)) == list(range(9999, 9999 - KEEP, -1))

    async def test_an_event_older_than_a_full_history_does_not_enter_nor_return(self, store: ShopperStore) -> None:
        await store.record([event(n) for n in range(100, 100 + KEEP)])
        for _ in range(2):
            await store.record([event(1)])
            assert numbers(await store.history("ann", 100)) == list(range(99 + KEEP, 99, -1))

    async def test_a_lower_limit_holds_at_once(self, open_store: Open) -> None:
        await (await open_store()).record([event(n) for n in range(20)])
        stricter = await open_store(Retention(5, 3650))
        assert numbers(await stricter.history("ann", 100)) == [19, 18, 17, 16, 15]


class TestVersion:
    async def test_it_changes_with_every_recorded_event_and_only_then(self, store: ShopperStore) -> None:
        versions = []
        for n in range(5):
            await store.record([event(n), event(n, "bob")])
            versions.append((await store.history("ann", 1)).version)
            await store.record([event(n), event(100 + n, "bob")])
            assert (await store.history("ann", 1)).version == versions[-1]
        assert versions[0] > 0
        assert versions == sorted(set(versions))

    async def test_it_is_not_used_again_after_a_shopper_was_forgotten(self, store: ShopperStore) -> None:
        await store.record([event(1)])
        first = (await store.history("ann", 1)).version
        await store.forget("ann")
        assert (await store.history("ann", 1)).version == 0
        await store.record([event(1)])
        assert (await store.history("ann", 1)).version > first


class TestStamp:
    async def test_it_changes_with_what_any_process_writes(self, open_store: Open) -> None:
        store, other = await open_store(), await open_store()
        await store.record([event(1)])
        if store.stamp() is None:
            pytest.skip("this store tells no stamp")
        seen = [store.stamp()]
        for writer in (store, other):
            for write in (writer.record([event(2)]), writer.record([event(3)]), writer.forget("ann")):
                await write
                seen.append(store.stamp())
        assert len(set(seen)) == len(seen)

    async def test_reading_does_not_change_it(self, open_store: Open) -> None:
        store, other = await open_store(), await open_store()
        await store.record([event(1)])
        first = store.stamp()
        await other.history("ann", 5)
        await store.version("ann")
        assert store.stamp() == first


class TestForget:
    async def test_nothing_of_the_shopper_is_left_and_all_of_the_others(self, store: ShopperStore) -> None:
        await store.record([event(n, shopper) for n in range(20) for shopper in ("ann", "bob")])
        assert await store.forget("ann") == 20
        assert await store.history("ann", 100) == NO_HISTORY
        assert len((await store.history("bob", 100)).events) == 20
        assert await store.forget("ann") == 0

    async def test_its_ids_are_forgotten_too(self, store: ShopperStore) -> None:
        await store.record([event(1)])
        await store.forget("ann")
        assert await store.record([event(1)]) == Recorded(1, 0)


class TestRetention:
    async def test_what_is_too_old_is_not_read(self, open_store: Open) -> None:
        clock = Clock()
        store = await open_store(Retention(KEEP, days=2), clock)
        clock.now = NOW - DAY_MS
        await store.record([event(n, time_ms=NOW - (6 - n) * DAY_MS // 2) for n in range(4)])
        assert numbers(await store.history("ann", 10)) == [3, 2, 1, 0]
        clock.now += 1
        assert numbers(await store.history("ann", 10)) == [3, 2, 1]
        clock.now = NOW
        assert numbers(await store.history("ann", 10)) == [3, 2]


class TestManyGateways:
    async def test_one_sees_at_once_what_another_recorded_or_forgot(self, open_store: Open) -> None:
        one, other = await open_store(), await open_store()
        for n in range(20):
            await one.record([event(n)])
            assert numbers(await other.history("ann", 1)) == [n]
        await other.forget("ann")
        assert await one.history("ann", 1) == NO_HISTORY

    async def test_the_same_events_to_both_are_kept_once(self, open_store: Open) -> None:
        stores = [await open_store(), await open_store()]
        batches = [[event(n, f"s{n % 5}") for n in range(at, at + 20)] for at in range(0, 200, 20)]
        answers = await asyncio.gather(*(store.record(batch) for batch in batches for store in stores))
        assert sum(answer.recorded for answer in answers) == 200
        found = [number for s in range(5) for number in numbers(await stores[0].history(f"s{s}", 100))]
        assert sorted(found) == list(range(200))


async def test_calls_that_are_cancelled_leave_the_store_well(store: ShopperStore) -> None:
    await store.record([event(n, f"s{n}") for n in range(50)])
    for delay_ms in range(10):
        calls = [asyncio.ensure_future(store.history(f"s{n}", 10)) for n in range(50)]
        calls += [asyncio.ensure_future(store.record([event(900, "late")])) for _ in range(5)]
        await asyncio.sleep(delay_ms / 1000)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for n in range(0, 50, 10):
            assert numbers(await store.history(f"s{n}", 10)) == [n]
    await store.record([event(900, "late")])
    assert numbers(await store.history("late", 10)) == [900]
