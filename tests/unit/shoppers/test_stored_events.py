"""An export reads every event of a store that services use, under pseudonyms, and nothing of a shopper who is forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.benchmarks.redis_server import RedisServer, redis_is_installed, redis_server
from models.events.event import Event, EventKind
from models.events.shopper_events import ShopperEvents
from serving.config import ConfigError, ShoppersConfig
from serving.shoppers.redis_store import RedisStore
from serving.shoppers.sqlite_file import keys_path
from serving.shoppers.sqlite_store import SqliteStore
from serving.shoppers.store import DAY_MS, Retention, now_ms
from serving.shoppers.stored_events import stored_events

NOW = now_ms()
TODAY = NOW // DAY_MS
RETENTION = Retention(50, 3650)


def event(shopper: str, number: int, **changes: object) -> Event:
    values: dict[str, object] = {
        "id": f"e{number:03}", "time_ms": NOW - 1000 + number, "shopper_id": shopper, "session_id": "s", "locale": "en-US",
        "kind": EventKind.CLICK, "product_id": f"p{number}", "query": "sofa", "position": 2, "price_minor": 5, "request_id": f"r{number}",
    }  # fmt: skip
    return Event(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "it's a #shop?.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(path, RETENTION, "full")
    yield opened
    await opened.close()


def exported(path: Path, **settings: object) -> list[ShopperEvents]:
    return list(stored_events(ShoppersConfig.model_validate({"path": path, **settings}), "shop"))


def named(shopper: ShopperEvents, *events: Event) -> tuple[Event, ...]:
    return tuple(replace(one, shopper_id=shopper.name) for one in events)


def contents(path: Path) -> list[bytes]:
    return [file.read_bytes() for file in (path, keys_path(path))]


class TestSqlite:
    async def test_every_event_is_read_in_order_while_the_store_is_in_use(self, store: SqliteStore, path: Path) -> None:
        names = [f"shopper {n}" for n in range(500)]
        await store.record([event(name, n) for name in names for n in (2, 1)])
        found = exported(path)
        assert len({shopper.name for shopper in found}) == 500
        assert all(shopper.events == named(shopper, event("", 1), event("", 2)) for shopper in found)
        await store.record([event("shopper 0", 3)])  # nobody holds a lock
        assert sum(len(shopper.events) for shopper in exported(path)) == 1001

    async def test_a_pseudonym_is_the_same_in_each_export_and_tells_nothing(
        self, store: SqliteStore, path: Path
    ) -> None:
        await store.record([event("ann", 1)])
        (first,), (second,) = exported(path), exported(path)
        assert first.name == second.name != "ann"

    async def test_a_page_tag_is_the_shoppers_own_of_that_day(self, store: SqliteStore, path: Path) -> None:
        assert store.page_tag("ann", NOW) == b""
        await store.record([event("ann", 1), event("bob", 2)])
        tags = {shopper.tag_of(TODAY) for shopper in exported(path)}
        assert tags == {store.page_tag("ann", NOW), store.page_tag("bob", NOW)}
        assert store.page_tag("ann", NOW) != store.page_tag("ann", NOW + DAY_MS)

    async def test_a_forgotten_shopper_is_not_read_and_their_tags_are_nobodys(
        self, store: SqliteStore, path: Path
    ) -> None:
        await store.record([event("ann", 1), event("bob", 2)])
        tag = store.page_tag("ann", NOW)
        await store.forget("ann")
        (bob,) = exported(path)
        assert bob.events == named(bob, event("", 2))
        assert bob.tag_of(TODAY) != tag
        await store.record([event("ann", 3)])  # comes back as somebody else
        assert tag not in {shopper.tag_of(TODAY) for shopper in exported(path)}
        assert store.page_tag("ann", NOW) != tag

    async def test_expired_events_are_left_out(self, store: SqliteStore, path: Path) -> None:
        await store.record([event("ann", 1, time_ms=NOW - 10 * DAY_MS), event("ann", 2)])
        (ann,) = exported(path, retention_days=5)
        assert [one.id for one in ann.events] == ["e002"]

    async def test_reading_changes_no_byte(self, store: SqliteStore, path: Path) -> None:
        await store.record([event("ann", 1)])
        before = contents(path)
        exported(path)
        assert contents(path) == before

    def test_what_is_no_store_is_refused(self, path: Path) -> None:
        with pytest.raises(ConfigError, match="there is no file .*; a service makes it"):
            exported(path)
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE other (a)")
        with pytest.raises(ConfigError, match="is no shopper store of layout 2"):
            exported(path)

    def test_it_holds_no_ids(self, path: Path) -> None:
        with pytest.raises(ConfigError, match="shoppers.store is 'sqlite', which holds no ids"):
            stored_events(ShoppersConfig(path=path), "shop", with_ids=True)

    def test_a_store_that_is_off_has_nobody(self) -> None:
        assert list(stored_events(ShoppersConfig(store="off"), "shop")) == []


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    if not redis_is_installed():
        pytest.skip("redis-server is not installed")
    with redis_server() as server:
        yield server


class TestRedis:
    async def test_every_event_is_read_under_a_pseudonym_of_the_export_or_the_id(self, redis: RedisServer) -> None:
        store = RedisStore(redis.url, RETENTION)
        names = ["ann", "a}{b", "日本 %7D", *(f"shopper {n}" for n in range(250))]
        await store.record([event(name, n) for name in names for n in (2, 1)])
        await store.record([event("ann", 3, time_ms=NOW - 20 * DAY_MS)])
        await store.close()
        config = ShoppersConfig.model_validate({"store": "redis", "url": redis.url, "retention_days": 10})
        with_ids = list(stored_events(config, "shop", with_ids=True))
        assert {shopper.name for shopper in with_ids} == set(names)
        first, second = (list(stored_events(config, "shop")) for _ in range(2))
        for found in (with_ids, first, second):
            assert len(found) == len(names)
            assert all(shopper.events == named(shopper, event("", 1), event("", 2)) for shopper in found)
            assert {shopper.tag_of(TODAY) for shopper in found} == {b""}
        pseudonyms = {shopper.name for shopper in first}
        assert not pseudonyms & {*names, *(shopper.name for shopper in second)}

    def test_one_that_is_away_is_named_without_its_password(self) -> None:
        config = ShoppersConfig.model_validate({"store": "redis", "url": "redis://:secret@127.0.0.1:1/0"})
        with pytest.raises(ConfigError, match="shoppers.url: Redis cannot be read") as caught:
            list(stored_events(config, "shop"))
        assert "secret" not in str(caught.value)
