"""The shopper store of one machine: an SQLite file in WAL mode that several gateway processes share.

One thread writes (see `sqlite_writer`); readers have connections of their own and never wait for it. With sync "full" an acknowledged
event survives a power cut; with "normal" it survives the death of every process, but maybe not a power cut. The file must be on a
local disk: SQLite's WAL does not work over a network file system.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from models.events.event import Event
from serving.errors import AisleError, Overloaded
from serving.logs import log
from serving.shoppers.shared_reads import SharedReads
from serving.shoppers.sqlite_file import Sync, connect, create, describe, to_caller
from serving.shoppers.sqlite_writer import SqliteWriter
from serving.shoppers.store import NO_HISTORY, History, Outage, Recorded, Retention, now_ms, restore_event

Result = TypeVar("Result")

NUM_READERS = 2
MAX_WAITING_READS = 2_000  # about a second of work
PURGE_EVERY_S = 3600.0
PURGE_SHOPPERS = 10_000  # that one step checks, in 30 ms
PURGE_PAUSE_S = 0.2  # between steps, so that purging takes a small share of the disk's time

_ADD_SHOPPERS = "INSERT INTO shoppers (shopper_id) SELECT value FROM json_each(?) WHERE true ON CONFLICT DO NOTHING"
_ADD_EVENTS = """
INSERT INTO events
SELECT s.id, e.value->>1, e.value->>2, e.value->>3, e.value->>4, e.value->>5, e.value->>6, e.value->>7, e.value->>8, e.value->>9
FROM json_each(?) e JOIN shoppers s ON s.shopper_id = e.value->>0
WHERE true ON CONFLICT DO NOTHING
"""
_HISTORY = """
SELECT s.version, (
    SELECT json_group_array(json_array(id, time_ms, session_id, locale, kind, product_id, query, position, price_minor))
    FROM (SELECT * FROM events WHERE shopper = s.id AND time_ms >= ?2 ORDER BY time_ms DESC, id DESC LIMIT ?3)
) FROM shoppers s WHERE s.shopper_id = ?1
"""
_VERSIONS = """
SELECT json_group_array(json_array(shopper_id, version)) FROM shoppers WHERE shopper_id IN (SELECT value FROM json_each(?))
"""
_FORGET_EVENTS = "DELETE FROM events WHERE shopper = (SELECT id FROM shoppers WHERE shopper_id = ?)"
_EXPIRED = """
SELECT json_group_array(id), max(id) FROM (
    SELECT id, EXISTS (SELECT 1 FROM events WHERE shopper = shoppers.id AND time_ms < ?2) OR num_events > ?3 AS found
    FROM shoppers WHERE id > ?1 ORDER BY id LIMIT ?4
) WHERE found
"""
_LAST = "SELECT max(id) FROM (SELECT id FROM shoppers WHERE id > ? ORDER BY id LIMIT ?)"
_DROP_OLD = "DELETE FROM events WHERE shopper IN (SELECT value FROM json_each(?)) AND time_ms < ?"
# Only needed if `max_events` was lowered: the trigger deletes no more than one event per new event.
_DROP_TOO_MANY = """
DELETE FROM events WHERE (shopper, time_ms, id) IN (
    SELECT shopper, time_ms, id FROM (
        SELECT shopper, time_ms, id, row_number() OVER (PARTITION BY shopper ORDER BY time_ms DESC, id DESC) AS place
        FROM events WHERE shopper IN (SELECT value FROM json_each(?))
    ) WHERE place > ?
)
"""
_DROP_EMPTY = "DELETE FROM shoppers WHERE id IN (SELECT value FROM json_each(?)) AND num_events = 0"


class SqliteStore:
    """A `ShopperStore` in a file."""

    def __init__(self, path: Path, retention: Retention, sync: Sync, clock: Callable[[], int] = now_ms) -> None:
        """Raises ConfigError if the file cannot be used. `clock` returns milliseconds since 1970."""
        self._path = path
        self._retention = retention
        self._clock = clock
        self._outage = Outage("sqlite")
        connection = create(path, sync, retention.max_events_per_shopper)
        self._writer = SqliteWriter(connection, self._outage)
        self._readers = ThreadPoolExecutor(NUM_READERS, thread_name_prefix="aisle-history")
        self._reader = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._watch: sqlite3.Connection | None = None  # for the event loop; it writes nothing
        self._waiting_reads = 0
        self._versions = SharedReads(self._read_versions, MAX_WAITING_READS)
        self._purging: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path, retention: Retention, sync: Sync) -> SqliteStore:
        """Opens the store and starts to purge expired events. Raises ConfigError."""
        store = await asyncio.to_thread(cls, path, retention, sync)
        store._purging = asyncio.ensure_future(store._keep_purging())
        return store

    async def record(self, events: Sequence[Event]) -> Recorded:
        if not events:
            return Recorded(0, 0)
        shoppers = _json(list({event.shopper_id for event in events}))
        rows = _json([_row(event) for event in events])

        def work(connection: sqlite3.Connection) -> Recorded:
            connection.execute("UPDATE state SET version = version + 1")
            connection.execute(_ADD_SHOPPERS, (shoppers,))
            added = connection.execute(_ADD_EVENTS, (rows,)).rowcount
            return Recorded(added, len(events) - added)

        return await asyncio.wrap_future(self._writer.submit(work, len(events)))

    async def history(self, shopper_id: str, max_events: int) -> History:
        limit = min(max_events, self._retention.max_events_per_shopper)
        row = await self._read(_HISTORY, (shopper_id, self._retention.oldest_ms(self._clock()), limit))
        if row is None or row[1] == "[]":
            return NO_HISTORY
        return History(tuple(restore_event(shopper_id, *values) for values in json.loads(row[1])), row[0])

    async def version(self, shopper_id: str) -> int:
        return await self._versions(shopper_id) or 0

    async def _read_versions(self, shopper_ids: list[str]) -> dict[str, int]:
        row = await self._read(_VERSIONS, (_json(shopper_ids),))
        return dict(json.loads(row[0]))

    def stamp(self) -> int | None:
        """Returns SQLite's count of the commits of other connections. It is in shared memory: 2 us, no disk."""
        try:
            if self._watch is None:
                self._watch = connect(self._path, busy_s=0)
            return int(self._watch.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            return None

    async def forget(self, shopper_id: str) -> int:
        def work(connection: sqlite3.Connection) -> int:
            gone = connection.execute(_FORGET_EVENTS, (shopper_id,)).rowcount
            connection.execute("DELETE FROM shoppers WHERE shopper_id = ?", (shopper_id,))
            return gone

        return await asyncio.wrap_future(self._writer.submit(work, erases=True))

    async def purge(self) -> int:
        """Deletes the events outside the retention, in small steps. Returns their number."""
        oldest, gone, after = self._retention.oldest_ms(self._clock()), 0, 0
        keep = self._retention.max_events_per_shopper
        while (last := (await self._read(_LAST, (after, PURGE_SHOPPERS)))[0]) is not None:
            shoppers, _ = await self._read(_EXPIRED, (after, oldest, keep, PURGE_SHOPPERS))
            if shoppers != "[]":
                gone += await asyncio.wrap_future(self._writer.submit(_drop(shoppers, oldest, keep)))
            after = last
            await asyncio.sleep(PURGE_PAUSE_S)
        return gone

    async def close(self) -> None:
        """Writes what is queued, then closes the file."""
        if self._purging:
            self._purging.cancel()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.close()
        self._readers.shutdown()
        for connection in (*self._opened, *filter(None, [self._watch])):
            connection.close()

    async def _keep_purging(self) -> None:
        """Purges once an hour in one of the processes that share the file."""
        while True:
            try:
                if await asyncio.wrap_future(self._writer.submit(self._claim_purge)):
                    gone = await self.purge()
                    log.info("shopper events expired", extra={"fields": {"events": gone}})
            except AisleError as error:
                self._outage.failed(str(error))
            except Exception as error:
                log.error("shopper events not purged", exc_info=error)
            await asyncio.sleep(PURGE_EVERY_S / 4)

    def _claim_purge(self, connection: sqlite3.Connection) -> bool:
        now = self._clock()
        due = (now, now - int(PURGE_EVERY_S * 1000))
        return connection.execute("UPDATE state SET purged_ms = ? WHERE purged_ms <= ?", due).rowcount == 1

    async def _read(self, query: str, values: tuple[Any, ...]) -> Any:
        """Returns the first row of a query, or None. Raises Overloaded, Unavailable."""
        if self._waiting_reads >= MAX_WAITING_READS:
            raise Overloaded(0.5, "more reads wait for the shopper store than it can answer")
        self._waiting_reads += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read_now, query, values)
        except sqlite3.Error as error:
            self._outage.failed(describe(error))
            raise to_caller(error) from error
        finally:
            self._waiting_reads -= 1

    def _read_now(self, query: str, values: tuple[Any, ...]) -> Any:
        connection = getattr(self._reader, "connection", None)
        if connection is None:
            connection = self._reader.connection = connect(self._path)
            self._opened.append(connection)
        return connection.execute(query, values).fetchone()


def _drop(shoppers: str, oldest: int, keep: int) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        gone = connection.execute(_DROP_OLD, (shoppers, oldest)).rowcount
        gone += connection.execute(_DROP_TOO_MANY, (shoppers, keep)).rowcount
        connection.execute(_DROP_EMPTY, (shoppers,))
        return gone

    return work


def _json(values: object) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _row(event: Event) -> tuple[Any, ...]:
    return (
        event.shopper_id, event.time_ms, event.id, event.session_id, event.locale, event.kind, event.product_id,
        event.query, event.position, event.price_minor,
    )  # fmt: skip
