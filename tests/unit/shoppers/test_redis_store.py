"""What the Redis store promises beyond the others: Redis may be away, slow, new or full."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from loadtest.benchmarks.redis_server import RedisServer, redis_is_installed, redis_server
from models.events.event import Event, EventKind
from serving.errors import Code, Unavailable
from serving.shoppers.redis_store import RedisStore
from serving.shoppers.store import DAY_MS, Recorded, Retention, now_ms
from serving.storage.outage import StoreFull

pytestmark = pytest.mark.skipif(not redis_is_installed(), reason="redis-server is not installed")

NOW = now_ms()
DAYS = 30


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as running:
        yield running


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    opened = RedisStore(server.url, Retention(100, DAYS))
    yield opened
    await opened.close()


def event(number: int, shopper: str = "ann", product: str = "p") -> Event:
    return Event(f"e{number}", NOW + number, shopper, "s", "en-US", EventKind.CLICK, product)


async def test_it_is_unavailable_while_redis_is_gone_and_works_when_it_is_back(
    server: RedisServer, store: RedisStore
) -> None:
    await asyncio.gather(*(store.record([event(n, f"s{n}")]) for n in range(20)))  # many connections
    server.stop()
    for _ in range(3):
        with pytest.raises(Unavailable, match="cannot be reached"):
            await store.record([event(30)])
        with pytest.raises(Unavailable, match="cannot be reached"):
            await store.history("s1", 10)
        with pytest.raises(Unavailable, match="cannot be reached"):
            await store.forget("s1")
    server.start()
    answers = await asyncio.gather(*(store.history(f"s{n}", 10) for n in range(20)))
    assert [len(answer.events) for answer in answers] == [1] * 20
    assert await store.record([event(n, f"s{n}") for n in range(21)]) == Recorded(1, 20)


async def test_what_was_acknowledged_outlives_a_kill_of_redis(server: RedisServer, store: RedisStore) -> None:
    await store.record([event(n) for n in range(10)])
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    server.start()
    assert len((await store.history("ann", 100)).events) == 10


async def test_a_redis_that_hangs_is_given_up(server: RedisServer, store: RedisStore) -> None:
    """The store gives up by itself, before its caller does; a caller with less patience ends the call."""
    await store.record([event(1)])
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(store.history("ann", 10), 240)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.record([event(2)]), 0.1)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await store.record([event(2)])
    assert [e.id for e in (await store.history("ann", 10)).events] == ["e2", "e1"]


async def test_it_opens_without_redis_and_serves_once_it_is_there(server: RedisServer) -> None:
    server.stop()
    store = await RedisStore.open(server.url, Retention())
    with pytest.raises(Unavailable):
        await store.history("ann", 10)
    server.start()
    assert await store.record([event(1)]) == Recorded(1, 0)
    await store.close()


async def test_a_redis_that_lost_its_scripts_gets_them_again(server: RedisServer, store: RedisStore) -> None:
    client = Redis.from_url(server.url)
    for n in range(3):
        await client.script_flush()
        assert await store.record([event(n), event(n, "bob")]) == Recorded(2, 0)
        await client.script_flush()
        assert len((await store.history("ann", 10)).events) == n + 1
    await client.aclose()


async def test_a_full_redis_says_so_and_keeps_what_it_acknowledged(server: RedisServer, store: RedisStore) -> None:
    client = Redis.from_url(server.url)
    used = (await client.info("memory"))["used_memory"]
    await client.config_set("maxmemory", used + 500_000)
    acknowledged = 0
    with pytest.raises(StoreFull) as caught:  # noqa: PT012 - it is some call of many
        for n in range(10_000):
            await store.record([event(n, f"s{n}", "p" * 200)])
            acknowledged += 1
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    for n in range(acknowledged):
        assert len((await store.history(f"s{n}", 10)).events) == 1
    await client.config_set("maxmemory", 0)
    assert await store.record([event(acknowledged, f"s{acknowledged}")]) == Recorded(1, 0)
    await client.aclose()


async def test_keys_expire_with_their_newest_event_and_old_events_leave_when_new_ones_come(
    server: RedisServer,
) -> None:
    client = Redis.from_url(server.url)
    now = NOW - 10 * DAY_MS
    store = RedisStore(server.url, Retention(100, DAYS), lambda: now)
    old = NOW - 35 * DAY_MS
    times = [old, old + 1, old + 2, old + 3, NOW - DAY_MS]
    await store.record(
        [Event(f"e{n}", time_ms, "ann", "s", "en-US", EventKind.CLICK, "p") for n, time_ms in enumerate(times)]
    )
    keys = await client.keys("*")
    assert len(keys) == 2
    for key in keys:
        assert await client.pexpiretime(key) == NOW - DAY_MS + DAYS * DAY_MS
    now = old + DAYS * DAY_MS + 3
    await store.record([Event("new", NOW, "ann", "s", "en-US", EventKind.CLICK, "p")])
    assert [e.id for e in (await store.history("ann", 10)).events] == ["new", "e4", "e3"]
    assert sorted(await client.hkeys(b"aisle:shopper:{ann}:events")) == [b"", b"e3", b"e4", b"new"]
    assert await client.zcard("aisle:shopper:{ann}:times") == 3
    await store.close()
    await client.aclose()


async def test_a_clock_that_is_a_year_ahead_of_redis_deletes_and_hides_nothing(server: RedisServer) -> None:
    now = NOW
    store = RedisStore(server.url, Retention(100, DAYS), lambda: now)
    await store.record([event(n) for n in range(5)])
    now += 365 * DAY_MS
    await store.record([event(5)])
    assert [e.id for e in (await store.history("ann", 10)).events] == [f"e{n}" for n in range(5, -1, -1)]
    await store.close()


async def test_forgetting_leaves_no_key(server: RedisServer, store: RedisStore) -> None:
    client = Redis.from_url(server.url)
    await store.record([event(n, shopper) for n in range(5) for shopper in ("ann", "bob")])
    await store.forget("ann")
    assert sorted(await client.keys("*")) == [b"aisle:shopper:{bob}:events", b"aisle:shopper:{bob}:times"]
    await client.aclose()


async def test_a_redis_that_may_lose_events_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as server:
        logger = logging.getLogger("aisle")
        propagate, logger.propagate = logger.propagate, True
        try:
            store = await RedisStore.open(server.url, Retention())
        finally:
            logger.propagate = propagate
        assert "no append-only file" in caplog.text
        assert "may evict" in caplog.text
        await store.close()


async def test_errors_tell_a_caller_nothing_of_the_machine() -> None:
    store = RedisStore("redis://user:secret@127.0.0.1:1/0", Retention())
    with pytest.raises(Unavailable) as caught:
        await store.record([event(1)])
    assert "secret" not in caught.value.message
    assert "127.0.0.1" not in caught.value.message
    await store.close()
