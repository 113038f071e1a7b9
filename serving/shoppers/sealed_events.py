"""Events as rows of the SQLite file: numbers and a time, and everything else encrypted."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Sequence

from models.events.event import Event
from serving.shoppers.shopper_keys import EVENT_TAG_BYTES, ShopperKey, ShopperKeys
from serving.shoppers.store import restore_event, stored_values

_ADD_SHOPPERS = "INSERT INTO shoppers (id) SELECT value FROM json_each(?) WHERE true ON CONFLICT DO NOTHING"
# ?1: shopper, time, begin of the tag, begin and length of the body, for each event. ?2: tags and bodies. ?3: length of a tag.
_ADD_EVENTS = """
INSERT INTO events
SELECT e.value->>0, e.value->>1, substr(?2, e.value->>2, ?3), substr(?2, e.value->>3, e.value->>4)
FROM json_each(?1) e WHERE true ON CONFLICT DO NOTHING
"""


def insert_events(connection: sqlite3.Connection, keys: ShopperKeys, events: Sequence[Event]) -> int:
    """Adds events, and keys of new shoppers, in the transaction that is open. Returns how many events were new."""
    by_shopper: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_shopper[event.shopper_id].append(event)
    found = keys.add(by_shopper)
    rows: list[tuple[int, ...]] = []
    blob = bytearray()
    for shopper_id, own in by_shopper.items():
        key = found[shopper_id]
        for event, body in zip(own, key.seal(map(_text, own)), strict=True):
            begin = len(blob) + 1  # SQLite counts from 1
            rows.append((key.number, event.time_ms, begin, begin + EVENT_TAG_BYTES, len(body)))
            blob += key.event_tag(event.id) + body
    connection.execute(_ADD_SHOPPERS, (to_json([key.number for key in found.values()]),))
    return connection.execute(_ADD_EVENTS, (to_json(rows), blob, EVENT_TAG_BYTES)).rowcount


def read_events(shopper_id: str, key: ShopperKey, bodies: str) -> tuple[Event, ...]:
    """Returns events, newest first, from their bodies in hexadecimal with commas between. Raises Unreadable."""
    texts = key.unseal(map(bytes.fromhex, bodies.split(",")))
    events = [restore_event(shopper_id, *json.loads(text)) for text in texts]
    return tuple(sorted(events, key=lambda event: (event.time_ms, event.id), reverse=True))


def to_json(values: object) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _text(event: Event) -> bytes:
    return to_json((event.id, *stored_values(event))).encode()
