"""Converts a file of layout 1 of the SQLite store, which held ids and texts in clear, to the layout of today."""

from __future__ import annotations

import sqlite3

from serving.logs import log
from serving.shoppers.sealed_events import insert_events, to_json
from serving.shoppers.shopper_keys import ShopperKeys
from serving.shoppers.store import restore_event

_SET_ASIDE = """
DROP TRIGGER event_added;
DROP TRIGGER event_gone;
DROP INDEX event_ids;
ALTER TABLE state RENAME TO old_state;
ALTER TABLE shoppers RENAME TO old_shoppers;
ALTER TABLE events RENAME TO old_events;
"""
_DROP = """
DROP TABLE old_state;
DROP TABLE old_shoppers;
DROP TABLE old_events;
"""
_EVENTS = """
SELECT s.shopper_id, e.id, time_ms, session_id, locale, kind, product_id, query, position, price_minor
FROM old_events e JOIN old_shoppers s ON s.id = e.shopper ORDER BY e.shopper, time_ms, e.id
"""
_SET_VERSIONS = """
UPDATE shoppers SET version = v.value->>1 FROM json_each(?) v WHERE shoppers.id = v.value->>0
"""
_BATCH = 10_000


def convert(connection: sqlite3.Connection, keys: ShopperKeys, create: str) -> None:
    """Moves every event into the tables that the script `create` makes, in the transaction that is open. `vacuum` has to follow."""
    run_script(connection, _SET_ASIDE)
    run_script(connection, create)
    connection.execute(
        "UPDATE state SET (version, max_events, purged_ms, vacuum_due) = (SELECT version, max_events, purged_ms, 1 FROM old_state)"
    )
    reading = connection.execute(_EVENTS)
    while rows := reading.fetchmany(_BATCH):
        insert_events(connection, keys, [restore_event(*row) for row in rows])
    versions = dict(connection.execute("SELECT shopper_id, version FROM old_shoppers WHERE num_events > 0"))
    numbers = keys.add(versions)
    connection.execute(
        _SET_VERSIONS, (to_json([(numbers[name].number, version) for name, version in versions.items()]),)
    )
    run_script(connection, _DROP)


def vacuum(connection: sqlite3.Connection) -> None:
    """Writes the whole file anew, so that nothing is left of what layout 1 held. If it fails, the next start tries again."""
    try:
        connection.execute("VACUUM")
        if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise sqlite3.OperationalError("another process reads the file")
        connection.execute("UPDATE state SET vacuum_due = 0")
    except sqlite3.Error as error:
        log.warning(
            "shopper store still holds unencrypted remains of layout 1; the next start removes them",
            extra={"fields": {"error": str(error)}},
        )


def run_script(connection: sqlite3.Connection, script: str) -> None:
    """Runs the statements of a script. `executescript` would commit first."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            connection.execute(pending)
            pending = ""
