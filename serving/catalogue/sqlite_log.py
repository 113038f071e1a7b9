"""The log of one machine: an SQLite file in WAL mode, and a page in shared memory next to it that says how far each process is.

Every gateway may append: SQLite's own lock puts the transactions of all processes into one order, and ends with a process that dies. So
there is no process that writes for the others, and no lease that it could lose. One thread of a process writes
(`serving.storage.sqlite_writer`): the calls of a moment share one sync of the disk.

With sync "full" an acknowledged batch survives a power cut, with "normal" the death of the process. SQLite opens a write-ahead log whose
end is torn or damaged up to the last whole transaction before that, and says nothing of the rest. The page does: it knows the latest
change, and what is missing in the file is logged as an error when the file is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from serving.catalogue.change import ChangeBatch, LoggedBatch, PackedBatch
from serving.catalogue.log import CHANGE_ID_KEPT_S, Appended, ChangeIdReused, LogState, Replica, restore
from serving.catalogue.replica_page import ReplicaPage
from serving.config import ConfigError
from serving.logs import log as messages
from serving.storage.outage import Outage
from serving.storage.sqlite import Sync, connect, describe, to_caller, turn_wal_on
from serving.storage.sqlite_writer import SqliteWriter

Result = TypeVar("Result")

LAYOUT = 1
APPLICATION_ID = 0x4153434C  # "ASCL"
NAME = "catalogue log"
BUSY_POLL_S = 0.005  # how long a change of another process may stay unseen while changes come
IDLE_POLL_S = 0.05  # and while none come
BUSY_S = 10.0  # after the last change
LOOK_S = 1.0  # a process that died after its commit did not say so in the page: the file is looked at this often
DROPPED_AT_ONCE = 200  # batches: appends of other processes come between

_CREATE = """
CREATE TABLE state (
    catalogue TEXT NOT NULL, -- the line of generations that the changes belong to
    head INTEGER NOT NULL, -- sequence of the latest change
    dropped INTEGER NOT NULL -- changes up to this sequence are no longer here
) STRICT;
INSERT INTO state VALUES ('', 0, 0);
CREATE TABLE batches (
    last INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    encoder TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    body BLOB NOT NULL,
    vectors BLOB NOT NULL
) STRICT;
CREATE TABLE change_ids (
    id TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    time_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX change_id_times ON change_ids (time_s);
"""
_READ = """
SELECT first, encoder, body, vectors, checksum FROM batches
WHERE last > ?1 AND last <= max(?1 + ?2, (SELECT min(last) FROM batches WHERE last > ?1)) ORDER BY last
"""
_BEGIN = "UPDATE state SET catalogue = ?1, head = ?2, dropped = ?2 WHERE head = 0"
_DROPPABLE = "SELECT max(last) FROM (SELECT last FROM batches WHERE last <= ? ORDER BY last LIMIT ?)"
_FORGET_IDS = (
    "DELETE FROM change_ids WHERE id IN (SELECT id FROM change_ids WHERE time_s < ? ORDER BY time_s LIMIT 1000)"
)


class SqliteLog:
    """A `ChangeLog` in a file on a local disk."""

    def __init__(self, path: Path, catalogue: str, sync: Sync, begins_after: int = 0) -> None:
        """Opens or creates the log of a catalogue, whose bundle was built with change `begins_after`: a new log begins after it. Raises
        ConfigError if the file cannot be used, belongs to another catalogue, or ends before that change."""
        self._catalogue = catalogue
        self._connection, self._page = create(path, catalogue, sync, begins_after)
        self._reader = connect(path)
        self._reading = threading.Lock()
        self._failing_reads = Outage("sqlite", f"reading the {NAME}")
        self._came = threading.Condition()
        self._last_change_s = self._last_look_s = time.monotonic()
        self._writer = SqliteWriter(
            self._connection, Outage("sqlite", NAME), after_commit=self._tell, name="catalogue-log"
        )

    async def append(self, batch: ChangeBatch) -> Appended:
        return await asyncio.wrap_future(self._writer.submit(_append(batch, self._catalogue), len(batch.changes)))

    def head(self) -> int:
        return self._read(lambda connection: _state(connection).head)

    def read(self, after: int, max_changes: int) -> Sequence[LoggedBatch]:
        def read(connection: sqlite3.Connection) -> tuple[LogState, list[tuple[int, str, bytes, bytes, int]]]:
            state = _state(connection)
            rows = connection.execute(_READ, (after, max_changes)).fetchall()
            if not rows and self._page.head > after:  # it would end every wait at once
                _agree(self._page, connection)
            return state, rows

        state, rows = self._read(read)
        state.check_read(self._catalogue, after)
        packed = (
            (first, PackedBatch(encoder=encoder, body=body, vectors=vectors, checksum=checksum))
            for first, encoder, body, vectors, checksum in rows
        )
        return restore(packed, after)

    def wait(self, after: int, timeout_s: float) -> None:
        give_up = time.monotonic() + timeout_s
        while self._page.head <= after:
            now = time.monotonic()
            if now >= give_up:
                return
            if now - self._last_look_s > LOOK_S:
                self._last_look_s = now
                self._read(lambda connection: _agree(self._page, connection))
                continue
            pause = BUSY_POLL_S if now - self._last_change_s < BUSY_S else IDLE_POLL_S
            with self._came:
                self._came.wait(min(pause, give_up - now))
        self._last_change_s = time.monotonic()

    def report(self, applied: int) -> None:
        self._page.report(applied)

    def replicas(self) -> Sequence[Replica]:
        return self._page.replicas()

    def drop(self, until: int) -> None:
        while self._writer.submit(lambda connection: _drop(connection, until)).result():
            pass

    async def close(self) -> None:
        """Writes what is queued, then closes the file."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.close()
        with self._reading:
            self._reader.close()
        self._page.close()

    def _tell(self) -> None:
        """Tells the other threads and processes of a commit."""
        with contextlib.suppress(sqlite3.Error):  # the next look finds it
            _agree(self._page, self._connection)
        with self._came:
            self._came.notify_all()

    def _read(self, read: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            with self._reading:
                result = read(self._reader)
        except sqlite3.Error as error:
            self._failing_reads.failed(describe(error))
            raise to_caller(error, NAME) from error
        self._failing_reads.works()
        return result


def create(path: Path, catalogue: str, sync: Sync, begins_after: int = 0) -> tuple[sqlite3.Connection, ReplicaPage]:
    """Opens the log for writing, and its page. Missing files are created, with rights for their owner only. Raises ConfigError as
    SqliteLog does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite makes its other files with the rights of this one. One that exists is left to SQLite: closing any descriptor of a file
        # ends the locks that other connections of this process hold on it.
        if not path.is_file():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with contextlib.ExitStack() as opened:
            connection = opened.enter_context(contextlib.closing(connect(path, "full")))
            _lay_out(connection, path)
            connection.execute(f"PRAGMA synchronous = {sync}")
            connection.execute("PRAGMA secure_delete = OFF")  # products are no secret, and dropped changes are large
            if begins_after and not _state(connection).head:
                connection.execute(_BEGIN, (catalogue, begins_after))
            _state(connection).check_opened(catalogue, begins_after, "catalogue.path", str(path))
            page = opened.enter_context(contextlib.closing(ReplicaPage(path.with_name(path.name + "-replicas"))))
            # The page first: it never knows more than an undamaged file.
            told, head = page.head, _state(connection).head
            if told > head:
                fields = {"path": str(path), "first": head + 1, "last": told}
                messages.error(
                    f"{NAME} has lost changes: its file is damaged, or was replaced", extra={"fields": fields}
                )
            _agree(page, connection)
            opened.pop_all()
    except OSError as error:
        raise ConfigError(f"catalogue.path: {path} cannot be written: {error.strerror}") from None
    except sqlite3.Error as error:
        raise ConfigError(f"catalogue.path: {path} cannot be used: {error}") from None
    return connection, page


def _lay_out(connection: sqlite3.Connection, path: Path) -> None:
    if _is_empty(connection):
        turn_wal_on(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _is_empty(connection):  # another process may be faster
                for statement in filter(str.strip, _CREATE.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {LAYOUT}")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise ConfigError(f"catalogue.path: {path} is a database of another application ({application:#x})")
    layout = connection.execute("PRAGMA user_version").fetchone()[0]
    if layout != LAYOUT:
        raise ConfigError(f"catalogue.path: {path} has layout {layout}, this Aisle reads layout {LAYOUT}")


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


def _append(batch: ChangeBatch, catalogue: str) -> Callable[[sqlite3.Connection], Appended]:
    packed = PackedBatch.of(batch)
    digest = packed.digest() if batch.change_id else b""

    def work(connection: sqlite3.Connection) -> Appended:
        state = _state(connection)
        state.check_append(catalogue)
        if batch.change_id:
            row = connection.execute(
                "SELECT digest, first, last FROM change_ids WHERE id = ?", (batch.change_id,)
            ).fetchone()
            if row and row[0] != digest:
                raise ChangeIdReused(f"change_id: {batch.change_id!r} was used before, with another content")
            if row:
                return Appended(row[1], row[2], was_repeated=True)
        first, last = state.head + 1, state.head + len(batch.changes)
        values = (last, first, packed.encoder, packed.checksum, packed.body, packed.vectors)
        connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)", values)
        connection.execute("UPDATE state SET catalogue = ?, head = ?", (catalogue, last))
        if batch.change_id:
            now = int(time.time())
            connection.execute(
                "INSERT INTO change_ids VALUES (?, ?, ?, ?, ?)", (batch.change_id, digest, first, last, now)
            )
            connection.execute(_FORGET_IDS, (now - CHANGE_ID_KEPT_S,))
        return Appended(first, last)

    return work


def _drop(connection: sqlite3.Connection, until: int) -> bool:
    """Forgets some batches; returns whether there may be more."""
    last = connection.execute(_DROPPABLE, (until, DROPPED_AT_ONCE)).fetchone()[0]
    if last is None:
        return False
    connection.execute("UPDATE state SET dropped = ?", (last,))
    connection.execute("DELETE FROM batches WHERE last <= ?", (last,))
    return True


def _state(connection: sqlite3.Connection) -> LogState:
    return LogState(*connection.execute("SELECT catalogue, head, dropped FROM state").fetchone())


def _agree(page: ReplicaPage, connection: sqlite3.Connection) -> None:
    """Tells the page the latest change of the file. Another process may tell it an older one at the same time, so it looks again: whoever
    told it last has seen that it is right."""
    while page.head != (head := _state(connection).head):
        page.head = head
