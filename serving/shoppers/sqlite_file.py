"""The file of the SQLite store: its layout, how it is opened, and what its errors mean to a caller.

The file holds no text and no id of a shopper, only numbers, times and what is encrypted with the shopper's key (`shopper_keys`).

Statements take and return whole batches as one JSON text. Python's `sqlite3` releases the interpreter's lock for each row that a
statement reads or writes, and next to a busy event loop waits up to 5 ms to get it back. A statement of one row waits once.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from serving.config import ConfigError
from serving.errors import Unavailable
from serving.logs import log
from serving.shoppers.layout_1 import convert, run_script, vacuum
from serving.shoppers.shopper_keys import ShopperKeys
from serving.storage.outage import StoreFull
from serving.storage.sqlite import Sync, connect, turn_wal_on

LAYOUT = 2
APPLICATION_ID = 0x41534C45  # "ASLE"

# One row per event, in the order in which a history is read: a history is one range of the file. The triggers keep the bounds of a
# history without a query per event from Python: if an event makes a history too long, they delete its oldest event.
_CREATE = """
CREATE TABLE state (
    version INTEGER NOT NULL, -- of the last transaction that recorded
    max_events INTEGER NOT NULL, -- of one shopper
    purged_ms INTEGER NOT NULL, -- when the last search for expired events began, by a clock that was believed
    keys_id BLOB NOT NULL, -- of the file of keys
    vacuum_due INTEGER NOT NULL -- 1 until nothing is left of what layout 1 held in clear text
) STRICT;
INSERT INTO state VALUES (0, 0, 0, x'', 0);
CREATE TABLE shoppers (
    id INTEGER PRIMARY KEY, -- number of the shopper's key
    num_events INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE events (
    shopper INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    id BLOB NOT NULL, -- hash of the event's id
    body BLOB NOT NULL, -- the encrypted event
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


@dataclass(frozen=True, slots=True)
class ShopperFiles:
    """The SQLite file, open for writing, and the file of keys next to it."""

    connection: sqlite3.Connection
    keys: ShopperKeys

    def close(self) -> None:
        self.connection.close()
        self.keys.close()


def create(path: Path, sync: Sync, max_events: int) -> ShopperFiles:
    """Opens the files for writing; from now on they keep `max_events` of each shopper. A file of layout 1 is converted.

    Creates missing files with rights for their owner only. Raises ConfigError if a file cannot be created, is not a shopper store, or
    if one of the two belongs to another store.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite makes its other files with the rights of this one. One that exists is left to SQLite: closing any descriptor of a file ends
        # the locks that other connections of this process hold on it.
        if not path.is_file():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = connect(path, "full")
        keys = _lay_out(connection, path, sync)
        connection.execute(f"PRAGMA synchronous = {sync}")
        connection.execute("UPDATE state SET max_events = ?1 WHERE max_events <> ?1", (max_events,))
    except OSError as error:
        raise ConfigError(f"shoppers.path: {path} cannot be written: {error.strerror}") from None
    except sqlite3.Error as error:
        raise ConfigError(f"shoppers.path: {path} cannot be used: {error}") from None
    except (StoreFull, Unavailable) as error:
        raise ConfigError(f"shoppers.path: {keys_path(path)} cannot be written: {error}") from None
    return ShopperFiles(connection, keys)


def _lay_out(connection: sqlite3.Connection, path: Path, sync: Sync) -> ShopperKeys:
    layout = _read(connection, "PRAGMA user_version")
    is_new = layout == 0 and _read(connection, "SELECT count(*) FROM sqlite_schema") == 0
    application = APPLICATION_ID if is_new else _read(connection, "PRAGMA application_id")
    if application != APPLICATION_ID:
        raise ConfigError(f"shoppers.path: {path} is a database of another application ({application:#x})")
    if not is_new and layout not in (1, LAYOUT):
        raise ConfigError(
            f"shoppers.path: {path} has layout {layout}, this Aisle reads layout {LAYOUT}; choose another file"
        )
    if layout == LAYOUT:
        keys = ShopperKeys(keys_path(path), sync=sync == "full")
    else:
        if is_new:
            turn_wal_on(connection)
        keys = _make(connection, path, sync)
    if connection.execute("SELECT keys_id FROM state").fetchone()[0] != keys.id:
        keys.close()
        raise ConfigError(
            f"shoppers.path: {keys_path(path)} belongs to another file than {path}; restore both together"
        )
    if _read(connection, "SELECT vacuum_due FROM state"):
        vacuum(connection)
    return keys


def _make(connection: sqlite3.Connection, path: Path, sync: Sync) -> ShopperKeys:
    """Makes the tables of today, unless another process is faster."""
    connection.execute("PRAGMA secure_delete = OFF")  # a conversion ends with a file that is written anew
    connection.execute("BEGIN IMMEDIATE")
    try:
        layout = _read(connection, "PRAGMA user_version")
        keys = ShopperKeys(keys_path(path), sync=sync == "full", may_make=layout != LAYOUT)
        if layout == 1:  # keys may be there: of a conversion that was interrupted
            log.info("shopper store is converted", extra={"fields": {"from_layout": 1, "to_layout": LAYOUT}})
            convert(connection, keys, _CREATE)
        elif layout != LAYOUT:
            if len(keys.numbers()):
                raise ConfigError(
                    f"shoppers.path: {path} is new, but {keys_path(path)} holds keys; restore the first or remove the second"
                )
            run_script(connection, _CREATE)
        if layout != LAYOUT:
            connection.execute("UPDATE state SET keys_id = ?", (keys.id,))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {LAYOUT}")
        keys.flush()
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    connection.execute("PRAGMA secure_delete = ON")
    return keys


def keys_path(path: Path) -> Path:
    """Returns the path of the file of keys that belongs to an SQLite file."""
    return path.with_name(path.name + "-keys")


def _read(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
