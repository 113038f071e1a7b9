"""The log of many machines: a stream in a Redis (6.2 or newer) that all gateways reach.

A batch is one entry, whose id is the sequence of its last change. One script gives it its sequences and adds it, so the batches of all
gateways have one order, and a gateway that dies leaves no part of one. Redis holds the log in memory until it is dropped.

An acknowledged batch is as durable as Redis is configured to be. With `appendonly yes` and `appendfsync always` it survives a power cut.
With `appendfsync everysec`, Redis's default for the append-only file, up to two seconds may be lost; without an append-only file
everything since the last snapshot; and a replica that takes over lacks what had not reached it. After such a loss sequences would be used
again for other changes. So each batch names the token of the one before, and a process compares it with what it read last: one that has
applied lost changes gets LogEnded, and logs nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import quote

import redis.asyncio
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from serving.catalogue.change import ChangeBatch, LoggedBatch, PackedBatch
from serving.catalogue.log import CHANGE_ID_KEPT_S, Appended, ChangeIdReused, LogEnded, LogState, Replica, restore
from serving.errors import AisleError
from serving.storage.outage import Outage
from serving.storage.redis import CONNECT_S, CONNECTION_WAIT_S, MAX_CONNECTIONS, to_caller, warn_of_losses

PREFIX = "aisle:catalogue:"
ANSWER_S = 2.0
SLICE_S = 0.5  # that a read waits for a change before it waits again
LIVES_S = 5.0  # a replica that has not reported for so long is not waited for
RESENT_S = 60  # within which a batch without change id is not logged twice

# KEYS: state, changes, change id. ARGV: catalogue, latest sequence that the process knows, number of changes, token, digest, for how long
# the change id is kept (ms), encoder, checksum, body, vectors. Returns digest, token, first and last sequence of the batch with this change
# id; of a log that is another's or has lost changes, its catalogue and head.
_APPEND = """
local catalogue, head, previous = unpack(redis.call('HMGET', KEYS[1], 'catalogue', 'head', 'token'))
head = tonumber(head or 0)
if head < tonumber(ARGV[2]) or (head > 0 and catalogue ~= ARGV[1]) then return {catalogue or '', head} end
local logged = redis.call('GET', KEYS[3])
if logged then return logged end
local first, last = string.format('%.0f', head + 1), string.format('%.0f', head + ARGV[3])
redis.call('XADD', KEYS[2], last .. '-0', 'first', first, 'previous', previous or '', 'token', ARGV[4],
    'encoder', ARGV[7], 'checksum', ARGV[8], 'body', ARGV[9], 'vectors', ARGV[10])
redis.call('HSET', KEYS[1], 'catalogue', ARGV[1], 'head', last, 'token', ARGV[4])
logged = table.concat({ARGV[5], ARGV[4], first, last}, ' ')
redis.call('SET', KEYS[3], logged, 'PX', ARGV[6])
return logged
"""
# A full Redis refuses a script whose first write needs memory. The next two must run there: their first write needs none.
# KEYS: replicas. ARGV: for how long a replica lives (ms), then id, applied sequence and name of the one that reports, if one does. Returns
# id, applied sequence and name of each that lives.
_REPORT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if ARGV[2] then
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
    redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f %s %s', now, ARGV[3], ARGV[4]))
end
local living = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    local time, applied, name = string.match(all[i + 1], '^(%d+) (%d+) (.*)$')
    if now - time > tonumber(ARGV[1]) then
        redis.call('HDEL', KEYS[1], all[i])
    else
        table.insert(living, {all[i], applied, name})
    end
end
return living
"""
# KEYS: state. ARGV: catalogue, sequence that a new log begins after.
_BEGIN = """
if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('HSET', KEYS[1], 'catalogue', ARGV[1], 'head', ARGV[2], 'dropped', ARGV[2], 'token', '')
end
"""
# KEYS: state, changes. ARGV: the latest sequence to forget.
_DROP = """
local found = redis.call('XREVRANGE', KEYS[2], ARGV[1] .. '-0', '-', 'COUNT', 1)
if #found == 0 then return end
local last = string.match(found[1][1], '^%d+')
redis.call('XTRIM', KEYS[2], 'MINID', string.format('%.0f-0', last + 1))
redis.call('HSET', KEYS[1], 'dropped', last)
"""


class RedisLog:
    """A `ChangeLog`. While Redis is away, calls raise Unavailable within seconds; they work again when it is back."""

    def __init__(self, url: str, name: str, catalogue: str) -> None:
        """Connects on first use. Raises ValueError if `url` is not a URL of Redis."""
        self._catalogue = catalogue
        self._outage = Outage("redis", "catalogue log")
        keys = f"{PREFIX}{{{quote(name, safe='')}}}:"  # the braces make a Redis cluster store all on one node
        self._state, self._changes, self._reports = f"{keys}state", f"{keys}changes", f"{keys}replicas"
        self._ids = f"{keys}ids:"
        # One retry without delay: after a restart of Redis every connection of a pool is dead.
        waits: dict[str, Any] = {"socket_connect_timeout": CONNECT_S, "retry": Retry(NoBackoff(), 1)}
        self._redis = Redis.from_url(url, socket_timeout=ANSWER_S, **waits)
        self._waiting = Redis.from_url(url, socket_timeout=SLICE_S + ANSWER_S, **waits)
        waits["retry"] = redis.asyncio.retry.Retry(NoBackoff(), 1)
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url, max_connections=MAX_CONNECTIONS, timeout=CONNECTION_WAIT_S, socket_timeout=ANSWER_S, **waits
        )
        self._loop_redis = redis.asyncio.Redis(connection_pool=pool)
        self._append = self._loop_redis.register_script(_APPEND)
        self._refresh = self._loop_redis.register_script(_REPORT)
        self._report = self._redis.register_script(_REPORT)
        self._drop = self._redis.register_script(_DROP)
        self._known = 0  # sequence
        self._read_last = (0, b"")  # sequence and token of the batch that was read last
        self._id, self._name = secrets.token_hex(8), f"{socket.gethostname()}:{os.getpid()}"
        self._applied: int | None = None  # None: it has not reported
        self._replicas: tuple[Replica, ...] = ()
        self._refreshing: asyncio.Task[None] | None = None
        self._closing = False

    @classmethod
    def open(cls, url: str, name: str, catalogue: str, begins_after: int = 0) -> RedisLog:
        """Returns the log of a catalogue, whose bundle was built with change `begins_after`: a new log begins after it. Logs a warning if
        Redis cannot be reached or could lose acknowledged changes. Raises ConfigError if it holds the changes of another catalogue, or ends
        before that change."""
        log = cls(url, name, catalogue)
        with contextlib.suppress(AisleError):
            with log._reaching():
                if begins_after and not log._redis.exists(log._state):
                    log._redis.eval(_BEGIN, 1, log._state, catalogue, begins_after)
                about, state = log._redis.info(), log._redis.hmget(log._state, "catalogue", "head", "dropped")
            _state(*state).check_opened(catalogue, begins_after, "catalogue.url", "this Redis")
            warn_of_losses(about, "changes of the catalogue")
        return log

    async def append(self, batch: ChangeBatch) -> Appended:
        packed, token, known = PackedBatch.of(batch), secrets.token_hex(8), self._known
        digest = packed.digest().hex()
        # A client that lost the answer sends the script again: each batch needs an id.
        key, kept_s = (f"of:{batch.change_id}", CHANGE_ID_KEPT_S) if batch.change_id else (f"once:{token}", RESENT_S)
        values = (packed.encoder, packed.checksum, packed.body, packed.vectors)
        arguments = (self._catalogue, known, len(batch.changes), token, digest, kept_s * 1000, *values)
        with self._reaching():
            answer = await self._append((self._state, self._changes, self._ids + key), arguments)
        if isinstance(answer, list):
            _state(*answer).check_append(self._catalogue, known)
        known_digest, known_token, first, last = answer.decode().split()
        if known_digest != digest:
            raise ChangeIdReused(f"change_id: {batch.change_id!r} was used before, with another content")
        self._known = max(self._known, int(last))
        return Appended(int(first), int(last), was_repeated=known_token != token)

    def head(self) -> int:
        with self._reaching():
            return int(cast(bytes | None, self._redis.hget(self._state, "head")) or 0)

    def read(self, after: int, max_changes: int) -> Sequence[LoggedBatch]:
        with self._reaching():
            with self._redis.pipeline(transaction=False) as pipe:  # a full Redis refuses MULTI
                pipe.hmget(self._state, "catalogue", "head", "dropped", "token")
                pipe.xrange(self._changes, f"{after + 1}-0", f"{after + max_changes}-0")
                (*values, token), entries = pipe.execute()
            state = _state(*values)
            if not entries and state.head > after:
                entries = self._redis.xrange(self._changes, f"{after + 1}-0", count=1)
        state.check_read(self._catalogue, after)
        batches = restore(((int(fields[b"first"]), _packed(fields)) for _, fields in entries), after)
        if not batches and state.head > after:
            raise LogEnded(f"change {after + 1} is not in the log, which ends with change {state.head}")
        sequence, read_last = self._read_last
        if sequence == after and read_last != (entries[0][1][b"previous"] if entries else token or b""):
            raise LogEnded(f"change {after} is not the one that was applied: the log lost changes, or is another one")
        self._known = max(self._known, state.head)
        self._read_last = (batches[-1].last, entries[-1][1][b"token"]) if batches else (after, token or b"")
        return batches

    def wait(self, after: int, timeout_s: float) -> None:
        give_up = time.monotonic() + timeout_s
        while (left_s := give_up - time.monotonic()) > 0 and not self._closing:
            with self._reaching():
                block_ms = max(1, int(min(left_s, SLICE_S) * 1000))
                if self._waiting.xread({self._changes: f"{after}-0"}, count=1, block=block_ms):
                    return

    def report(self, applied: int) -> None:
        self._applied = max(self._applied or 0, applied)
        with contextlib.suppress(AisleError), self._reaching():
            reporter = (self._id, self._applied, self._name)
            self._take_replicas(self._report((self._reports,), (int(LIVES_S * 1000), *reporter)))

    def replicas(self) -> Sequence[Replica]:
        """Returns who lived when this process reported last, and how far they were then or later. On an event loop a call also makes that
        newer for the next call, and does not wait. A process reports after it has applied a change: then it knows all whom the change
        must reach, for who begins later begins with the change."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with contextlib.suppress(AisleError), self._reaching():
                self._take_replicas(self._report((self._reports,), (int(LIVES_S * 1000),)))
        else:
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = asyncio.create_task(self._refresh_replicas())
        return self._replicas

    def drop(self, until: int) -> None:
        with self._reaching():
            self._drop((self._state, self._changes), (until,))

    async def close(self) -> None:
        self._closing = True
        if self._refreshing:
            await self._refreshing
        with contextlib.suppress(AisleError), self._reaching():
            await cast(Any, self._loop_redis.hdel(self._reports, self._id))
        await self._loop_redis.aclose()
        await self._loop_redis.connection_pool.aclose()
        self._redis.close()
        self._waiting.close()

    async def _refresh_replicas(self) -> None:
        with contextlib.suppress(AisleError), self._reaching():
            self._take_replicas(await self._refresh((self._reports,), (int(LIVES_S * 1000),)))

    def _take_replicas(self, answer: Sequence[tuple[bytes, bytes, bytes]]) -> None:
        """Keeps who lives. An answer without this process, if it has reported, is of a time when Redis had been away: then nobody could
        report, and it does not mean that nobody lives."""
        if self._applied is None or any(replica.decode() == self._id for replica, _, _ in answer):
            self._replicas = tuple(Replica(name.decode(), int(applied)) for _, applied, name in answer)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turns the errors of the calls within into those for the caller."""
        try:
            yield
        except (TimeoutError, RedisError, OSError) as error:
            self._outage.failed(f"{type(error).__name__}: {error}")
            raise to_caller(error, self._outage.what) from error
        self._outage.works()


def _state(catalogue: Any, head: Any, dropped: Any = None) -> LogState:
    return LogState((catalogue or b"").decode(), int(head or 0), int(dropped or 0))


def _packed(fields: dict[bytes, bytes]) -> PackedBatch:
    return PackedBatch(
        encoder=fields[b"encoder"].decode(),
        body=fields[b"body"],
        vectors=fields[b"vectors"],
        checksum=int(fields[b"checksum"]),
    )
