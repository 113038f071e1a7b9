"""SQLite as our stores use it: connections, write-ahead logging, and what its errors mean to a caller."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Literal

from serving.errors import AisleError, Unavailable
from serving.storage.outage import StoreFull

Sync = Literal["normal", "full"]

BUSY_S = 2.0  # that a statement waits for the writes of other processes
CACHE_KIB = 16 * 1024


def connect(path: Path, sync: Sync = "normal", busy_s: float = BUSY_S) -> sqlite3.Connection:
    """Opens a file for one thread at a time. A statement waits at most `busy_s` for other processes."""
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA synchronous = {sync}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute("PRAGMA secure_delete = ON")  # most of what is trimmed or expires is overwritten
    return connection


def turn_wal_on(connection: sqlite3.Connection) -> None:
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


def is_of_the_store(error: sqlite3.Error) -> bool:
    """Says whether the next statement would fail the same way, whatever it does."""
    return _code(error) in _OF_THE_STORE


def to_caller(error: sqlite3.Error, what: str = "shopper store") -> AisleError:
    """Returns the error for the caller. `what` names the store."""
    if _code(error) == sqlite3.SQLITE_FULL:
        return StoreFull(f"the {what} has no space left; nothing of this call was recorded")
    if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(f"the {what} is busy; send the call again")
    return Unavailable(f"the {what} cannot be read or written")


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
