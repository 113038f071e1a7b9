"""All events of a store, for an export: read only, in short reads, while services use the store.

An export names shoppers by pseudonyms. In SQLite that is the number of the shopper's key, the same in every export until the shopper is
forgotten; the ids are nowhere. Redis holds the ids, and no number: there a pseudonym is of one export alone.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from models.events.shopper_events import ShopperEvents
from serving.config import ConfigError, ShoppersConfig, redis_url
from serving.shoppers.open_store import sqlite_path
from serving.shoppers.sealed_events import read_events, to_json
from serving.shoppers.shopper_keys import ShopperKeys, Unreadable
from serving.shoppers.sqlite_file import APPLICATION_ID, LAYOUT, keys_path
from serving.shoppers.store import Retention, now_ms, restore_event
from serving.storage.sqlite import BUSY_S

if TYPE_CHECKING:
    from redis import Redis

REDIS_BATCH = 100  # shoppers of one round trip

_OF_SHOPPERS = """
SELECT shopper, group_concat(hex(body)) FROM events
WHERE shopper IN (SELECT value FROM json_each(?)) AND time_ms >= ? GROUP BY shopper
"""


def stored_events(config: ShoppersConfig, catalogue: str, *, with_ids: bool = False) -> Iterator[ShopperEvents]:
    """Yields each shopper of a catalogue's store, with the events that have not expired; nobody if the store is off.

    `with_ids` names shoppers by their ids. Raises ConfigError if the store cannot be read, or holds no ids.
    """
    oldest_ms = Retention(config.max_events_per_shopper, config.retention_days).oldest_ms(now_ms())
    if config.store == "redis":
        return _of_redis(redis_url(config), oldest_ms, with_ids=with_ids)
    if with_ids:
        raise ConfigError(f"shoppers.store is '{config.store}', which holds no ids of shoppers; export pseudonyms")
    return _of_sqlite(sqlite_path(config, catalogue), oldest_ms) if config.store == "sqlite" else iter(())


def _of_sqlite(path: Path, oldest_ms: int) -> Iterator[ShopperEvents]:
    if not path.is_file():
        raise ConfigError(f"shoppers.path: there is no file {path}; a service makes it when it starts")
    address = f"file:{quote(str(path))}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=BUSY_S)) as connection:
            keys = _keys_of(connection, path)
            with contextlib.closing(keys):
                for some in keys.all():
                    by_number = {key.number: key for key in some}
                    rows = connection.execute(_OF_SHOPPERS, (to_json(list(by_number)), oldest_ms)).fetchall()
                    bodies = dict(rows)
                    for number, key in by_number.items():
                        name = f"{number:016x}"
                        try:
                            events = read_events(name, key, bodies[number])[::-1] if number in bodies else ()
                        except Unreadable:  # the key was being erased as it was read
                            continue
                        yield ShopperEvents(name=name, events=events, tag_of=key.page_tag)
    except sqlite3.Error as error:
        raise ConfigError(f"shoppers.path: {path} cannot be read: {error}") from None


def _keys_of(connection: sqlite3.Connection, path: Path) -> ShopperKeys:
    application, layout = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if (application, layout) != (APPLICATION_ID, LAYOUT):
        raise ConfigError(
            f"shoppers.path: {path} is no shopper store of layout {LAYOUT}; 'aisle serve' converts an old one"
        )
    keys = ShopperKeys(keys_path(path), sync=False, may_write=False)
    if connection.execute("SELECT keys_id FROM state").fetchone()[0] != keys.id:
        keys.close()
        raise ConfigError(f"shoppers.path: {keys_path(path)} belongs to another file than {path}")
    return keys


def _of_redis(url: str, oldest_ms: int, *, with_ids: bool) -> Iterator[ShopperEvents]:
    from redis import Redis
    from redis.exceptions import RedisError

    from serving.shoppers.redis_store import PREFIX

    secret = secrets.token_bytes(16)

    def named(shopper_id: str) -> str:
        return shopper_id if with_ids else blake2b(shopper_id.encode(), key=secret, digest_size=8).hexdigest()

    try:
        with contextlib.closing(Redis.from_url(url)) as redis:
            found: list[bytes] = []
            for key in redis.scan_iter(match=f"{PREFIX}*:events", count=REDIS_BATCH):
                found.append(key)
                if len(found) == REDIS_BATCH:
                    yield from _of_keys(redis, found, named, oldest_ms)
                    found = []
            yield from _of_keys(redis, found, named, oldest_ms)
    except RedisError as error:
        raise ConfigError(f"shoppers.url: Redis cannot be read: {type(error).__name__}; is it up?") from None


def _of_keys(redis: Redis, keys: list[bytes], named: Callable[[str], str], oldest_ms: int) -> Iterator[ShopperEvents]:
    pipe = redis.pipeline(transaction=False)
    for key in keys:
        pipe.hgetall(key)
    for key, stored in zip(keys, pipe.execute() if keys else (), strict=True):
        shopper_id = unquote(key.decode().rpartition("}")[0].partition("{")[2])
        name = named(shopper_id)
        events = [
            restore_event(name, event_id.decode(), *json.loads(text)) for event_id, text in stored.items() if event_id
        ]
        events = sorted((event for event in events if event.time_ms >= oldest_ms), key=lambda e: (e.time_ms, e.id))
        yield ShopperEvents(name=name, events=tuple(events), tag_of=lambda _: b"")
