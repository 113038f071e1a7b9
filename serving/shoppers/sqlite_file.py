"""The file of the SQLite store: its layout, how it is opened, and what its errors mean to a caller.

Statements take and return whole batches as one JSON text. Python's `sqlite3` releases the interpreter's lock for each row that a
statement reads or writes, and next to a busy event loop waits up to 5 ms to get it back. A statement of one row waits once.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Literal

from serving.config import ConfigError
from serving.errors import AisleError, Unavailable
from serving.shoppers.store import StoreFull

Sync = Literal["normal", "full"]

LAYOUT = 1
APPLICATION_ID = 0x41534C45  # "ASLE"
BUSY_S = 2.0  # that a statement waits for the writes of other processes
CACHE_KIB = 16 * 1024

# One row per event, in the order in which a history is read: a history is one range of the file. The triggers keep the bounds of a
# history without a query per event from Python: if an event makes a history too long, they delete its oldest event.
_CREATE = """
CREATE TABLE state (
    version INTEGER NOT NULL, -- of the last transaction that recorded
    max_events INTEGER NOT NULL, -- of one shopper
    purged_ms INTEGER NOT NULL -- when the last search for expired events began
) STRICT;
INSERT INTO state VALUES (0, 0, 0);
CREATE TABLE shoppers (
    id INTEGER PRIMARY KEY,
    shopper_id TEXT NOT NULL UNIQUE,
    num_events INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE events (
    shopper INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    locale TEXT NOT NULL,
    kind TEXT NOT NULL,
    product_id TEXT NOT NULL,
    query TEXT NOT NULL,
    position INTEGER,
    price_minor INTEGER,
    PRIMARY KEY (shopper, time_ms, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX event_ids ON events (shopper, id);
CREATE TRIGGER event_added AFTER INSERT ON events BEGIN
    UPDATE shoppers SET num_events = num_events + 1, version = (SELECT version FROM state) WHERE id = NEW.shopper;
    DELETE FROM events WHERE shopper = NEW.shopper
        AND (time_ms, id) = (SELECT time_ms, id FROM events WHERE shopper = NEW.shopper ORDER BY time_ms, id LIMIT 1)
        AND (SELECT num_events FROM shoppers WHERE id = NEW.shopper) > (SELECT max_events FROM state);
END;
CREATE TRIGGER event_gone AFTER DELETE ON events BEGIN
    UPDATE shoppers SET num_events = num_events - 1 WHERE id = OLD.shopper;
END;
"""


def create(path: Path, sync: Sync, max_events: int) -> sqlite3.Connection:
    """Opens the file for writing; from now on it keeps `max_events` of each shopper.

    Creates a missing file with rights for its owner only. Raises ConfigError if the file cannot be created or is not a shopper store.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(
            os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        )  # SQLite makes its other files with the rights of this one
        connection = connect(path, sync)
        _lay_out(connection, path)
        connection.execute("UPDATE state SET max_events = ?1 WHERE max_events <> ?1", (max_events,))
    except OSError as error:
        raise ConfigError(f"shoppers.path: {path} cannot be written: {error.strerror}") from None
    except sqlite3.Error as error:
        raise ConfigError(f"shoppers.path: {path} cannot be used: {error}") from None
    return connection


def connect(path: Path, sync: Sync = "normal", busy_s: float = BUSY_S) -> sqlite3.Connection:
    """Opens a file that `create` has made, for one thread at a time. A statement waits at most `busy_s` for other processes."""
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA synchronous = {sync}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute("PRAGMA secure_delete = ON")  # deleted data is overwritten, not only released
    return connection


def _lay_out(connection: sqlite3.Connection, path: Path) -> None:
    if _read(connection, "PRAGMA user_version") == 0 and _read(connection, "SELECT count(*) FROM sqlite_schema") == 0:
        _turn_wal_on(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _read(connection, "PRAGMA user_version") == 0:  # otherwise another process was faster
                for statement in _statements(_CREATE):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {LAYOUT}")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
    application = _read(connection, "PRAGMA application_id")
    if application != APPLICATION_ID:
        raise ConfigError(f"shoppers.path: {path} is a database of another application ({application:#x})")
    layout = _read(connection, "PRAGMA user_version")
    if layout != LAYOUT:
        raise ConfigError(
            f"shoppers.path: {path} has layout {layout}, this Aisle reads layout {LAYOUT}; choose another file"
        )


def _turn_wal_on(connection: sqlite3.Connection) -> None:
    """Switches the file to write-ahead logging. SQLite itself does not wait here for another process that does the same."""
    give_up = time.monotonic() + BUSY_S
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            if mode != "wal":
                raise sqlite3.OperationalError(f"its file system allows the journal mode {mode} only, not WAL")
            return


def _statements(script: str) -> list[str]:
    """Splits a script into its statements. `executescript` would commit before it runs them."""
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements


def _read(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def is_of_the_store(error: sqlite3.Error) -> bool:
    """Says whether the next statement would fail the same way, whatever it does."""
    return _code(error) in _OF_THE_STORE


def to_caller(error: sqlite3.Error) -> AisleError:
    """Returns the error for the caller."""
    if _code(error) == sqlite3.SQLITE_FULL:
        return StoreFull("the shopper store has no space left; nothing of this call was recorded")
    if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable("the shopper store is busy; send the call again")
    return Unavailable("the shopper store cannot be read or written")


def describe(error: sqlite3.Error) -> str:
    """Returns the error for the log."""
    return f"{error} ({getattr(error, 'sqlite_errorname', type(error).__name__)})"


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


_OF_THE_STORE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_NOMEM,
    }
)


def wipe_log(connection: sqlite3.Connection) -> bool:
    """Moves the whole write-ahead log into the file and empties it, so that no old page stays there. Returns False if a reader or
    another process prevents it."""
    with contextlib.suppress(sqlite3.Error):
        return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
    return False
