"""What the Redis log promises beyond the other: Redis may be away, slow, full, or have lost what it acknowledged."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis

from loadtest.benchmarks.redis_server import RedisServer, redis_is_installed, redis_server
from serving.catalogue.log import Appended, LogEnded
from serving.catalogue.redis_log import RedisLog
from serving.config import ConfigError
from serving.errors import Code, Unavailable
from serving.storage.outage import StoreFull
from tests.change_writers import upserts

pytestmark = pytest.mark.skipif(not redis_is_installed(), reason="redis-server is not installed")

PATIENCE_S = 60.0  # of a machine that is busy with something else; alone it is a tenth


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as running:
        yield running


@pytest.fixture
async def log(server: RedisServer) -> AsyncIterator[RedisLog]:
    opened = RedisLog.open(server.url, "shop", "line")
    yield opened
    await opened.close()


@pytest.fixture
def client(server: RedisServer) -> Iterator[Redis]:
    opened = Redis.from_url(server.url)
    yield opened
    opened.close()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("aisle")
    propagate, logger.propagate = logger.propagate, True
    yield caplog
    logger.propagate = propagate


async def fails(log: RedisLog) -> None:
    """Every call says so, and soon."""
    start = time.monotonic()
    with pytest.raises(Unavailable, match="the catalogue log cannot be reached"):
        await log.append(upserts("lost", change_id="lost"))
    for call in (log.head, lambda: log.read(0, 10), lambda: log.wait(10**6, 60), lambda: log.drop(0)):
        with pytest.raises(Unavailable, match="the catalogue log cannot be reached"):
            await asyncio.to_thread(call)
    await asyncio.to_thread(log.report, 1)  # the next one tells it
    log.replicas()
    assert time.monotonic() - start < PATIENCE_S


class TestAway:
    async def test_it_is_unavailable_while_redis_is_gone_and_works_when_it_is_back(
        self, server: RedisServer, log: RedisLog
    ) -> None:
        await asyncio.gather(*(log.append(upserts(str(n))) for n in range(20)))  # many connections
        assert len(log.read(0, 100)) == 20
        log.report(20)
        server.stop()
        await fails(log)
        server.start()
        assert log.read(20, 10) == []
        answers = await asyncio.gather(*(log.append(upserts(f"x{n}")) for n in range(20)))
        assert sorted(answer.first for answer in answers) == list(range(21, 41))
        assert len(log.read(20, 100)) == 20
        log.report(40)
        assert [replica.applied for replica in log.replicas()] == [40]

    async def test_a_redis_that_hangs_is_given_up_and_works_when_it_goes_on(
        self, server: RedisServer, log: RedisLog
    ) -> None:
        await log.append(upserts("a"))
        assert len(log.read(0, 10)) == 1
        os.kill(server.pid, signal.SIGSTOP)
        await asyncio.to_thread(os.waitpid, server.pid, os.WUNTRACED)  # until it has stopped
        try:
            await fails(log)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(log.append(upserts("c", change_id="c")), 0.1)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        for name in ("lost", "c"):  # Redis may have got them after all: then they are in the log, but once
            await log.append(upserts(name, change_id=name))
        found = [change.product_id for logged in log.read(1, 100) for change in logged.batch.changes]
        assert sorted(found) == ["c", "lost"]
        assert log.head() == 3

    async def test_what_was_acknowledged_outlives_a_kill_of_redis(self, server: RedisServer, log: RedisLog) -> None:
        for n in range(10):
            await log.append(upserts(str(n)))
        log.read(0, 100)
        os.kill(server.pid, signal.SIGKILL)
        server.stop()
        server.start()
        assert log.read(10, 10) == []
        assert len(log.read(0, 100)) == 10
        assert (await log.append(upserts("a"))).first == 11

    async def test_it_opens_without_redis_and_serves_once_it_is_there(self, server: RedisServer) -> None:
        server.stop()
        log = RedisLog.open(server.url, "shop", "line")
        with pytest.raises(Unavailable):
            await log.append(upserts("a"))
        server.start()
        assert await log.append(upserts("a")) == Appended(1, 1)
        await log.close()

    async def test_a_redis_that_lost_its_scripts_gets_them_again(self, client: Redis, log: RedisLog) -> None:
        for n in range(3):
            client.script_flush()
            await log.append(upserts(str(n)))
            client.script_flush()
            log.report(n)
        client.script_flush()
        log.drop(1)
        assert len(log.read(1, 10)) == 2

    async def test_replicas_that_could_not_report_are_not_taken_for_dead(
        self, server: RedisServer, client: Redis, log: RedisLog
    ) -> None:
        other = RedisLog.open(server.url, "shop", "line")
        other.report(1)
        log.report(2)
        client.delete("aisle:catalogue:{shop}:replicas")  # as after a while without Redis
        assert sorted(replica.applied for replica in await asyncio.to_thread(log.replicas)) == [1, 2]
        other.report(3)
        log.report(3)
        assert [replica.applied for replica in await asyncio.to_thread(log.replicas)] == [3, 3]
        await other.close()


class TestLosses:
    """Sequences must not mean other changes without a word."""

    async def test_a_redis_without_its_data_is_not_followed_and_gets_nothing(
        self, client: Redis, log: RedisLog
    ) -> None:
        for name in "abc":
            await log.append(upserts(name))
        log.read(0, 10)
        client.flushall()
        with pytest.raises(LogEnded, match="ends with change 0, but 3 were applied"):
            log.read(3, 10)
        with pytest.raises(Unavailable, match="has lost changes; nothing was logged"):
            await log.append(upserts("d"))
        assert client.keys("*") == []

    async def test_one_that_others_filled_again_is_not_followed(self, server: RedisServer, client: Redis) -> None:
        for more in range(3):  # fewer changes than there were, as many, more
            log = RedisLog.open(server.url, "shop", "line")
            for name in "abc":
                await log.append(upserts(name))
            log.read(0, 10)
            client.flushall()
            other = RedisLog.open(server.url, "shop", "line")
            for n in range(2 + more):
                await other.append(upserts(str(n)))
            with pytest.raises(LogEnded, match=r"but 3 were applied|change 3 is not the one that was applied"):
                log.read(3, 10)
            await log.close()
            await other.close()
            client.flushall()

    async def test_one_that_lost_its_last_changes_only_is_not_followed(
        self, server: RedisServer, client: Redis
    ) -> None:
        """As a replica that takes over before it has all."""
        logs = [RedisLog.open(server.url, "shop", "line") for _ in range(2)]
        behind, ahead = logs
        await ahead.append(upserts("a"))
        behind.read(0, 10)
        saved = {key: client.dump(key) for key in client.keys("*")}
        await ahead.append(upserts("b"))
        ahead.read(0, 10)
        client.flushall()
        for key, value in saved.items():
            client.restore(key, 0, value)
        with pytest.raises(Unavailable, match="has lost changes"):
            await ahead.append(upserts("c"))
        assert await behind.append(upserts("d")) == Appended(2, 2)
        assert len(behind.read(1, 10)) == 1
        with pytest.raises(LogEnded, match="change 2 is not the one that was applied"):
            ahead.read(2, 10)
        await behind.append(upserts("e"))
        with pytest.raises(LogEnded, match="change 2 is not the one that was applied"):
            ahead.read(2, 10)
        for log in logs:
            await log.close()

    async def test_a_stream_that_was_evicted_is_not_taken_for_empty(self, client: Redis, log: RedisLog) -> None:
        await log.append(upserts("a"))
        client.delete("aisle:catalogue:{shop}:changes")
        with pytest.raises(LogEnded, match="change 1 is not in the log, which ends with change 1"):
            log.read(0, 10)

    async def test_damaged_changes_are_not_applied(self, client: Redis, log: RedisLog) -> None:
        await log.append(upserts("a"))
        (entry,) = client.xrange("aisle:catalogue:{shop}:changes")
        client.delete("aisle:catalogue:{shop}:changes")
        fields = entry[1] | {b"body": entry[1][b"body"].replace(b"Sofa", b"sofa")}
        client.xadd("aisle:catalogue:{shop}:changes", fields, id=entry[0])
        with pytest.raises(LogEnded, match="damaged"):
            log.read(0, 10)

    async def test_a_redis_that_may_lose_changes_is_named_in_the_log(self, said: pytest.LogCaptureFixture) -> None:
        with redis_server("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as server:
            await RedisLog.open(server.url, "shop", "line").close()
        assert "redis has no append-only file: a crash of it loses changes of the catalogue" in said.text
        assert "redis may evict changes of the catalogue" in said.text


async def test_a_full_redis_says_so_and_keeps_what_it_acknowledged(client: Redis, log: RedisLog) -> None:
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 2_000_000)
    done: list[str] = []
    with pytest.raises(StoreFull) as caught:  # noqa: PT012 - it is some call of many
        for n in range(10_000):
            await log.append(upserts(str(n), title="x" * 1000))
            done.append(str(n))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert "the catalogue log has no memory left" in caught.value.message
    assert [change.product_id for logged in log.read(0, 10**6) for change in logged.batch.changes] == done
    log.report(1)
    assert [replica.applied for replica in await asyncio.to_thread(log.replicas)] == [1]
    log.drop(len(done) * 3 // 4)  # makes space
    assert (await log.append(upserts("late"))).first == len(done) + 1


async def test_a_log_of_another_catalogue_is_refused(server: RedisServer, log: RedisLog) -> None:
    await log.append(upserts("a", "b"))
    with pytest.raises(ConfigError, match="holds 2 changes of another catalogue than this bundle's: choose another"):
        RedisLog.open(server.url, "shop", "other line")
    other = RedisLog.open(server.url, "shop 2", "other line")
    assert await other.append(upserts("c")) == Appended(1, 1)
    await other.close()


async def test_its_keys_share_a_slot_and_those_of_change_ids_expire(client: Redis, log: RedisLog) -> None:
    await log.append(upserts("a", change_id="1"))
    await log.append(upserts("b"))
    log.report(2)
    keys = sorted(key.decode() for key in client.keys("*"))
    assert all(key.startswith("aisle:catalogue:{shop}:") for key in keys)
    lives_s = {key.split(":")[4]: client.ttl(key) for key in keys if ":ids:" in key}
    assert 86_300 < lives_s["of"] <= 86_400
    assert 0 < lives_s["once"] <= 60
    assert client.xrange("aisle:catalogue:{shop}:changes")[1][0] == b"2-0"


async def test_what_the_client_sends_again_is_logged_once(client: Redis, log: RedisLog) -> None:
    """It does so when a connection breaks before the answer."""
    await log.append(upserts("a"))
    sent = []
    run = log._append

    async def run_twice(keys: object, arguments: object) -> object:
        sent.append(await run(keys, arguments))  # type: ignore[arg-type]
        return await run(keys, arguments)  # type: ignore[arg-type]

    log._append = run_twice  # type: ignore[assignment]
    assert await log.append(upserts("b")) == Appended(2, 2)
    assert await log.append(upserts("c", change_id="1")) == Appended(3, 3)
    assert len(sent) == 2
    assert client.xlen("aisle:catalogue:{shop}:changes") == 3


async def test_errors_tell_a_caller_nothing_of_the_machine() -> None:
    log = RedisLog.open("redis://user:secret@127.0.0.1:1/0", "shop", "line")
    with pytest.raises(Unavailable) as caught:
        await log.append(upserts("a"))
    assert "secret" not in caught.value.message
    assert "127.0.0.1" not in caught.value.message
    await log.close()
