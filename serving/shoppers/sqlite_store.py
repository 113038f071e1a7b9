"""The shopper store of one machine: an SQLite file in WAL mode that several gateway processes share.

One thread writes (see `serving.storage.sqlite_writer`); readers have connections of their own and never wait for it. With sync "full" an
acknowledged event survives a power cut; with "normal" it survives the death of every process, but maybe not a power cut. The file must be
on a local disk: SQLite's WAL does not work over a network file system.

Everything about a shopper is encrypted with a key of theirs, in a second file. `forget` erases the key, then deletes the rows. What the
deletion leaves in unused parts of the file, in the log or before a slow reader cannot be read by anybody. If the deletion fails, as on a
full disk, a later purge deletes the rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.events.event import Event
from serving.errors import AisleError, Overloaded
from serving.logs import log
from serving.shoppers.sealed_events import insert_events, read_events, to_json
from serving.shoppers.shared_reads import SharedReads
from serving.shoppers.shopper_keys import Unreadable
from serving.shoppers.sqlite_file import create
from serving.shoppers.store import DAY_MS, NO_HISTORY, History, Recorded, Retention, now_ms
from serving.storage.outage import Outage
from serving.storage.sqlite import Sync, connect, describe, to_caller
from serving.storage.sqlite_writer import SqliteWriter

Result = TypeVar("Result")

NUM_READERS = 2
MAX_WAITING_READS = 2_000  # about a second of work
PURGE_EVERY_S = 3600.0
PURGE_SHOPPERS = 10_000  # that one step checks, in 30 ms
PURGE_PAUSE_S = 0.2  # between steps, so that purging takes a small share of the disk's time

_HISTORY = """
SELECT version, (
    SELECT group_concat(hex(body))
    FROM (SELECT body FROM events WHERE shopper = ?1 AND time_ms >= ?2 ORDER BY time_ms DESC, id DESC LIMIT ?3)
) FROM shoppers WHERE id = ?1
"""
_VERSIONS = (
    "SELECT json_group_array(json_array(id, version)) FROM shoppers WHERE id IN (SELECT value FROM json_each(?))"
)
_EXPIRED = """
SELECT json_group_array(id) FROM (
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
_DROP_SHOPPERS = "DELETE FROM shoppers WHERE id IN (SELECT value FROM json_each(?))"
_DROP_EVENTS = "DELETE FROM events WHERE shopper IN (SELECT value FROM json_each(?))"
_IDS = "SELECT json_group_array(id) FROM (SELECT id FROM shoppers WHERE id > ? ORDER BY id LIMIT ?)"
_WITHOUT_ROW = "SELECT json_group_array(value) FROM json_each(?) WHERE value NOT IN (SELECT id FROM shoppers)"


class SqliteStore:
    """A `ShopperStore` in a file."""

    def __init__(self, path: Path, retention: Retention, sync: Sync, clock: Callable[[], int] = now_ms) -> None:
        """Raises ConfigError if the file cannot be used. `clock` returns milliseconds since 1970."""
        self._path = path
        self._retention = retention
        self._clock = clock
        self._outage = Outage("sqlite")
        files = create(path, sync, retention.max_events_per_shopper)
        self._keys = files.keys
        self._set_purged(files.connection.execute("SELECT purged_ms FROM state").fetchone()[0])
        self._writer = SqliteWriter(files.connection, self._outage, self._keys.flush, name="shoppers")
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

        def work(connection: sqlite3.Connection) -> Recorded:
            connection.execute("UPDATE state SET version = version + 1")
            added = insert_events(connection, self._keys, events)
            return Recorded(added, len(events) - added)

        return await asyncio.wrap_future(self._writer.submit(work, len(events)))

    async def history(self, shopper_id: str, max_events: int) -> History:
        limit = min(max_events, self._retention.max_events_per_shopper)
        oldest = self._retention.oldest_ms(self.believed_ms())

        def read(connection: sqlite3.Connection) -> History:
            key = self._keys.find(shopper_id)
            row = key and connection.execute(_HISTORY, (key.number, oldest, limit)).fetchone()
            if not key or not row or not row[1]:
                return NO_HISTORY
            try:
                return History(read_events(shopper_id, key, row[1]), row[0])
            except Unreadable:
                if self._keys.find(shopper_id) != key:  # the key was being erased as it was read
                    return NO_HISTORY
                raise sqlite3.DatabaseError("an event cannot be decrypted") from None

        return await self._read(read)

    async def version(self, shopper_id: str) -> int:
        return await self._versions(shopper_id) or 0

    async def _read_versions(self, shopper_ids: list[str]) -> dict[str, int]:
        def read(connection: sqlite3.Connection) -> dict[str, int]:
            found = {key.number: shopper_id for shopper_id in shopper_ids if (key := self._keys.find(shopper_id))}
            (text,) = connection.execute(_VERSIONS, (to_json(list(found)),)).fetchone()
            return {found[number]: version for number, version in json.loads(text)}

        return await self._read(read)

    def stamp(self) -> int | None:
        """Returns SQLite's count of the commits of other connections, and the count of forgotten shoppers, as one number. Both are in
        shared memory: 2 us, no disk."""
        try:
            if self._watch is None:
                self._watch = connect(self._path, busy_s=0)
            commits = int(self._watch.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            return None
        return (self._keys.num_forgotten() << 64) + commits

    def page_tag(self, shopper_id: str, time_ms: int) -> bytes:
        key = self._keys.find(shopper_id)
        return key.page_tag(time_ms // DAY_MS) if key else b""

    async def forget(self, shopper_id: str) -> int:
        def erase(connection: sqlite3.Connection) -> tuple[list[int], int]:
            key = self._keys.find(shopper_id)
            row = key and connection.execute("SELECT num_events FROM shoppers WHERE id = ?", (key.number,)).fetchone()
            self._keys.erase(shopper_id)
            return [key.number] if key else [], row[0] if row else 0

        numbers, num_events = await asyncio.wrap_future(self._writer.submit(erase, alone=True))
        with contextlib.suppress(AisleError):  # the shopper is forgotten; `purge` deletes what stays
            await asyncio.wrap_future(self._writer.submit(_drop_shoppers(numbers)))
        return num_events

    def believed_ms(self) -> int:
        return min(self._clock(), self._latest_ms)

    def _set_purged(self, purged_ms: int) -> None:
        """Takes note of the last purge of all processes; 0 is none."""
        self._latest_ms = purged_ms + self._retention.max_step_ms() if purged_ms else sys.maxsize

    async def purge(self) -> int:
        """Deletes the events outside the retention, in small steps, by the clock as it is. Returns their number."""
        now = await asyncio.wrap_future(self._writer.submit(self._believe_clock))
        return await self._purge(now)

    def _believe_clock(self, connection: sqlite3.Connection) -> int:
        now = self._clock()
        connection.execute("UPDATE state SET purged_ms = ?", (now,))
        self._set_purged(now)
        return now

    async def _purge(self, now: int) -> int:
        oldest, gone, after = self._retention.oldest_ms(now), 0, 0
        keep = self._retention.max_events_per_shopper
        while last := await self._first(_LAST, (after, PURGE_SHOPPERS)):
            shoppers = await self._first(_EXPIRED, (after, oldest, keep, PURGE_SHOPPERS))
            if shoppers != "[]":
                gone += await asyncio.wrap_future(self._writer.submit(_drop(shoppers, oldest, keep)))
            after = last
            await asyncio.sleep(PURGE_PAUSE_S)
        await self._drop_unpaired()
        return gone

    async def _drop_unpaired(self) -> None:
        """Erases the keys of shoppers without events, and deletes the rows of forgotten shoppers that are still there."""
        with_key = await asyncio.to_thread(self._keys.numbers)
        with_row, after = [np.empty(0, np.int64)], 0
        while ids := json.loads(await self._first(_IDS, (after, PURGE_SHOPPERS))):
            with_row.append(np.array(ids, np.int64))
            after = ids[-1]
            await asyncio.sleep(PURGE_PAUSE_S)
        rows = np.concatenate(with_row)
        # A key is made before its row: a row without key stays so, but a key without row may be about to get one.
        keyless = await asyncio.to_thread(lambda: np.setdiff1d(rows, self._keys.numbers()))
        rowless = await asyncio.to_thread(np.setdiff1d, with_key, rows)
        for numbers in _chunks(keyless):
            await asyncio.wrap_future(self._writer.submit(_drop_shoppers(numbers)))
        for numbers in _chunks(rowless):
            await asyncio.wrap_future(self._writer.submit(self._erase_rowless(numbers)))

    def _erase_rowless(self, numbers: list[int]) -> Callable[[sqlite3.Connection], None]:
        def work(connection: sqlite3.Connection) -> None:
            self._keys.erase_numbers(json.loads(connection.execute(_WITHOUT_ROW, (to_json(numbers),)).fetchone()[0]))

        return work

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
        self._keys.close()

    async def _keep_purging(self) -> None:
        """Purges once an hour in one of the processes that share the file."""
        while True:
            try:
                now = await asyncio.wrap_future(self._writer.submit(self._claim_purge))
                if now is not None:
                    gone = await self._purge(now)
                    log.info("shopper events expired", extra={"fields": {"events": gone}})
            except AisleError as error:
                self._outage.failed(str(error))
            except Exception as error:
                log.error("shopper events not purged", exc_info=error)
            await asyncio.sleep(PURGE_EVERY_S / 4)

    def _claim_purge(self, connection: sqlite3.Connection) -> int | None:
        """Returns the time of the purge that this process has to do, or None: no purge is due, or the clock has jumped."""
        now, purged_ms = self._clock(), connection.execute("SELECT purged_ms FROM state").fetchone()[0]
        self._set_purged(purged_ms)
        if purged_ms and abs(now - purged_ms) > self._retention.max_step_ms():
            log.error(
                "shopper events do not expire: the clock is far from the last purge; set it, or run 'aisle purge'",
                extra={"fields": {"clock_ms": now, "last_purge_ms": purged_ms}},
            )
            return None
        return self._believe_clock(connection) if now - purged_ms >= PURGE_EVERY_S * 1000 else None

    async def _first(self, query: str, values: tuple[int, ...]) -> Any:
        """Returns the value that a query finds."""
        return await self._read(lambda connection: connection.execute(query, values).fetchone()[0])

    async def _read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Runs `work` on a reader's connection. Raises Overloaded, Unavailable."""
        if self._waiting_reads >= MAX_WAITING_READS:
            raise Overloaded(0.5, "more reads wait for the shopper store than it can answer")
        self._waiting_reads += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read_now, work)
        except sqlite3.Error as error:
            self._outage.failed(describe(error))
            raise to_caller(error) from error
        finally:
            self._waiting_reads -= 1

    def _read_now(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        connection: sqlite3.Connection | None = getattr(self._reader, "connection", None)
        if connection is None:
            connection = self._reader.connection = connect(self._path)
            self._opened.append(connection)
        return work(connection)


def _drop(shoppers: str, oldest: int, keep: int) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        gone = connection.execute(_DROP_OLD, (shoppers, oldest)).rowcount
        gone += connection.execute(_DROP_TOO_MANY, (shoppers, keep)).rowcount
        connection.execute(_DROP_EMPTY, (shoppers,))
        return gone

    return work


def _drop_shoppers(numbers: list[int]) -> Callable[[sqlite3.Connection], None]:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute(_DROP_EVENTS, (to_json(numbers),))
        connection.execute(_DROP_SHOPPERS, (to_json(numbers),))

    return work


def _chunks(numbers: NDArray[np.int64]) -> Iterator[list[int]]:
    for begin in range(0, len(numbers), PURGE_SHOPPERS):
        yield numbers[begin : begin + PURGE_SHOPPERS].tolist()
