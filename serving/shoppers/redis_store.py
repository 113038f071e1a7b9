"""The shopper store for many machines: a Redis (6 or newer) that all gateways reach.

Each shopper has two keys: a hash of the events by id, whose field "" holds the version, and a sorted set of the ids by time. One
script changes both, so a gateway that dies leaves no event half written. The keys expire when their newest event does.

An acknowledged event is as durable as Redis is configured to be. With `appendonly yes` and `appendfsync always` it survives a power
cut. With `appendfsync everysec`, Redis's default for the append-only file, up to two seconds may be lost; without an append-only file
everything since the last snapshot. Readers see a deletion at once; Redis's own files hold the deleted data until Redis rewrites them.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from models.events.event import Event
from serving.errors import AisleError
from serving.shoppers.store import (
    DAY_MS,
    NO_HISTORY,
    History,
    Recorded,
    Retention,
    now_ms,
    restore_event,
    stored_values,
)
from serving.storage.outage import Outage
from serving.storage.redis import CONNECT_S, CONNECTION_WAIT_S, MAX_CONNECTIONS, to_caller, warn_of_losses

Result = TypeVar("Result")

PREFIX = "aisle:shopper:"
ANSWER_S = 1.0

# KEYS: events, times. ARGV: the oldest time to keep, how many events, for how long (ms), then id, time and text of each event.
# The oldest time is by the clock that is behind, of Redis's and the gateway's: one that jumps ahead alone makes this script delete nothing.
# The version is Redis's clock in microseconds: it must not start again at 1 when a forgotten shopper comes back.
_RECORD = """
local events, times = KEYS[1], KEYS[2]
local added = 0
for i = 4, #ARGV, 3 do
    if redis.call('HSETNX', events, ARGV[i], ARGV[i + 2]) == 1 then
        redis.call('ZADD', times, ARGV[i + 1], ARGV[i])
        added = added + 1
    end
end
if added == 0 then return 0 end
local clock = redis.call('TIME')
local oldest = math.min(ARGV[1], clock[1] * 1000 - ARGV[3])
local version = clock[1] * 1000000 + clock[2]
version = math.max(version, (tonumber(redis.call('HGET', events, '')) or 0) + 1)
redis.call('HSET', events, '', string.format('%.0f', version))
local surplus = redis.call('ZCARD', times) - tonumber(ARGV[2])
local expired = redis.call('ZCOUNT', times, '-inf', '(' .. string.format('%.0f', oldest))
local gone = math.max(surplus, expired)
if gone > 0 then
    for _, id in ipairs(redis.call('ZRANGE', times, 0, gone - 1)) do redis.call('HDEL', events, id) end
    redis.call('ZREMRANGEBYRANK', times, 0, gone - 1)
end
local newest = redis.call('ZRANGE', times, -1, -1, 'WITHSCORES')[2]
if newest then
    local expiry = string.format('%.0f', newest + ARGV[3])
    redis.call('PEXPIREAT', events, expiry)
    redis.call('PEXPIREAT', times, expiry)
else
    redis.call('DEL', events)
end
return added
"""
# KEYS: events, times. ARGV: the oldest time to read, how many events, for how long (ms).
_HISTORY = """
local oldest = math.min(ARGV[1], redis.call('TIME')[1] * 1000 - ARGV[3])
local ids = redis.call('ZREVRANGEBYSCORE', KEYS[2], '+inf', string.format('%.0f', oldest), 'LIMIT', 0, ARGV[2])
if #ids == 0 then return false end
return {redis.call('HGET', KEYS[1], ''), ids, redis.call('HMGET', KEYS[1], unpack(ids))}
"""


class RedisStore:
    """A `ShopperStore`. While Redis is away, calls raise Unavailable within seconds; they work again when it is back."""

    def __init__(self, url: str, retention: Retention, clock: Callable[[], int] = now_ms) -> None:
        """Connects on first use. Raises ValueError if `url` is not a URL of Redis."""
        self._retention = retention
        self._clock = clock
        self._outage = Outage("redis")
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=CONNECTION_WAIT_S,
            socket_connect_timeout=CONNECT_S,
            socket_timeout=ANSWER_S,
            # One retry without delay: after a restart of Redis every connection of the pool is dead.
            retry=Retry(NoBackoff(), 1),
        )
        self._redis = Redis(connection_pool=pool)

    @classmethod
    async def open(cls, url: str, retention: Retention) -> RedisStore:
        """Returns the store. Logs a warning if Redis cannot be reached or could lose acknowledged events."""
        store = cls(url, retention)
        try:
            about = await store._call(store._redis.info)
        except AisleError:
            return store
        warn_of_losses(about, "shopper events")
        return store

    async def record(self, events: Sequence[Event]) -> Recorded:
        if not events:
            return Recorded(0, 0)
        oldest = self._retention.oldest_ms(self._clock())
        fixed = (oldest, self._retention.max_events_per_shopper, int(self._retention.days * DAY_MS))
        by_shopper: dict[str, list[str | int]] = defaultdict(list)
        for event in events:
            by_shopper[event.shopper_id] += (event.id, event.time_ms, _text(event))
        calls = [(*_keys(shopper_id), *fixed, *values) for shopper_id, values in by_shopper.items()]
        added = sum(await self._call(lambda: self._run(_RECORD, calls)))
        return Recorded(added, len(events) - added)

    async def history(self, shopper_id: str, max_events: int) -> History:
        limit = min(max_events, self._retention.max_events_per_shopper)
        call = (*_keys(shopper_id), self._retention.oldest_ms(self._clock()), limit, int(self._retention.days * DAY_MS))
        (answer,) = await self._call(lambda: self._run(_HISTORY, [call]))
        if not answer:
            return NO_HISTORY
        version, ids, texts = answer
        events = (
            restore_event(shopper_id, event_id.decode(), *json.loads(text))
            for event_id, text in zip(ids, texts, strict=True)
        )
        return History(tuple(events), int(version))

    async def version(self, shopper_id: str) -> int:
        return int(await self._call(lambda: self._redis.hget(_keys(shopper_id)[0], "")) or 0)

    def stamp(self) -> None:
        """Returns None: Redis cannot be read without a round trip."""

    def believed_ms(self) -> int:
        return self._clock()

    def page_tag(self, shopper_id: str, time_ms: int) -> bytes:  # noqa: ARG002
        """Returns nothing: shoppers have no keys of their own in Redis, so that a tag would outlive `forget`."""
        return b""

    async def forget(self, shopper_id: str) -> int:
        async def delete() -> int:
            async with self._redis.pipeline(transaction=True) as pipe:
                events, times = _keys(shopper_id)
                pipe.zcard(times)
                pipe.delete(events, times)
                return int((await pipe.execute())[0])

        return await self._call(delete)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.aclose()

    async def _run(self, script: str, calls: Sequence[Sequence[str | int]]) -> list[Any]:
        """Runs a script of two keys for each of `calls` in one round trip."""
        digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        for attempt in (0, 1):
            async with self._redis.pipeline(transaction=False) as pipe:
                if attempt:  # a Redis that was restarted has lost its scripts
                    pipe.script_load(script)
                for call in calls:
                    pipe.evalsha(digest, 2, *call)
                results = (await pipe.execute(raise_on_error=False))[attempt:]
            errors = [result for result in results if isinstance(result, Exception)]
            if not errors:
                return results
            if attempt or not isinstance(errors[0], NoScriptError):
                raise errors[0]
        raise AssertionError("unreachable")

    async def _call(self, call: Callable[[], Awaitable[Result]]) -> Result:
        try:
            result = await call()
        except (TimeoutError, RedisError, OSError) as error:
            self._outage.failed(f"{type(error).__name__}: {error}")
            raise to_caller(error, self._outage.what) from error
        self._outage.works()
        return result


def _keys(shopper_id: str) -> tuple[str, str]:
    """Returns the keys of the events and of the times. The braces make a Redis cluster store both on one node."""
    shopper = f"{PREFIX}{{{quote(shopper_id, safe='')}}}"
    return f"{shopper}:events", f"{shopper}:times"


def _text(event: Event) -> str:
    return json.dumps(stored_values(event), ensure_ascii=False, separators=(",", ":"))
