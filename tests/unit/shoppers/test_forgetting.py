"""After `forget` no file of the SQLite store holds anything of the shopper. The tests read the files as bytes.

A text must not be there, nor the key that decrypts it: without the key, what SQLite leaves in its files is noise.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.events.event import Event, EventKind
from serving.shoppers.shopper_keys import ShopperKey, ShopperKeys
from serving.shoppers.sqlite_store import SqliteStore
from serving.shoppers.store import DAY_MS, NO_HISTORY, Recorded, Retention, now_ms
from serving.storage.outage import StoreFull

NOW = now_ms()
KEEP = 12
RETENTION = Retention(KEEP, 30)


def name(shopper: int) -> str:
    return f"shopper<{shopper:05}>"


def event(shopper: int, number: int, time_ms: int = NOW, words: int = 5) -> Event:
    """Returns an event with a mark of the shopper in every text."""
    mark = f"<{shopper:05}>"
    return Event(
        id=f"id{number}{mark}", time_ms=time_ms, shopper_id=name(shopper), session_id=f"session{mark}", locale="en-US",
        kind=EventKind.CLICK, product_id=f"product{mark}", position=1, price_minor=number,
        query=f"query {mark} " + "wool " * words,
    )  # fmt: skip


def marks(path: Path) -> set[int]:
    """Returns the shoppers of whom the bytes of any file of the store hold a text."""
    return {int(number) for bytes_ in file_bytes(path) for number in re.findall(rb"<(\d{5})>", bytes_)}


def file_bytes(path: Path) -> list[bytes]:
    return [file.read_bytes() for file in path.parent.glob(path.name + "*")]


def key_of(store: SqliteStore, shopper: int) -> ShopperKey:
    key = store._keys.find(name(shopper))
    assert key
    return key


def found_keys(path: Path, keys: list[ShopperKey]) -> list[ShopperKey]:
    """Returns the keys of which a half, which encrypts or hashes, is in a file."""
    everything = b"".join(file_bytes(path))
    return [key for key in keys if key.secret[:16] in everything or key.secret[16:] in everything]


def num_rows(path: Path) -> tuple[int, int]:
    """Returns how many shoppers and events the tables have."""
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        row = connection.execute("SELECT (SELECT count(*) FROM shoppers), (SELECT count(*) FROM events)").fetchone()
        return row[0], row[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shoppers.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(path, RETENTION, "full")
    yield opened
    await opened.close()


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_of_hundreds_of_forgotten_shoppers_is_left(path: Path, seed: int) -> None:
    """Events arrive, are trimmed, expire and are forgotten in turns, so that pages split, merge and become free."""
    rng, now = random.Random(seed), NOW
    store = SqliteStore(path, RETENTION, "normal", lambda: now)
    known, forgotten = set(range(400)), list[ShopperKey]()
    for step in range(40):
        shoppers = rng.choices(sorted(known), k=100)
        await store.record(
            [
                event(shopper, step * 1000 + n, now - rng.randrange(20 * DAY_MS), n % 60)
                for n, shopper in enumerate(shoppers)
            ]
        )
        for shopper in set(shoppers[:5]):
            forgotten.append(key_of(store, shopper))
            assert await store.forget(name(shopper)) > 0
            known.remove(shopper)
        if step % 10 == 9:
            now += DAY_MS
            await store.purge()
    assert len(forgotten) > 150
    assert found_keys(path, forgotten) == []
    assert marks(path) == set()
    kept = [shopper for shopper in known if (await store.history(name(shopper), KEEP)).events]
    assert len(kept) > 50
    assert len(found_keys(path, [key_of(store, shopper) for shopper in kept])) == len(kept)  # the test would see a key
    assert num_rows(path)[0] == len(store._keys.numbers()) == len(kept)
    await store.close()
    assert found_keys(path, forgotten) == []


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["record", "record", "forget", "purge", "reopen"]), st.integers(0, 5), st.integers(1, 40)
    ),
    max_size=25,
)


@settings(max_examples=15, deadline=None)
@given(STEPS)
def test_any_sequence_of_calls_agrees_with_a_model_and_leaves_nothing(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_agrees_with_a_model(Path(folder) / "shoppers.db", steps))


async def _agrees_with_a_model(path: Path, steps: list[Step]) -> None:
    model: dict[int, list[Event]] = {}
    gone: list[ShopperKey] = []
    now, number = NOW, 0

    def clock() -> int:
        return now

    store = SqliteStore(path, RETENTION, "normal", clock)
    for what, shopper, count in steps:
        if what == "record":
            events = [event(shopper, number + n, now + n, n) for n in range(count)]
            number += count
            now += count
            assert await store.record(events) == Recorded(count, 0)
            model[shopper] = (model.get(shopper, []) + events)[-KEEP:]
        elif what == "forget":
            if shopper in model:
                gone.append(key_of(store, shopper))
            assert await store.forget(name(shopper)) == len(model.pop(shopper, []))
        elif what == "purge":
            now += count * DAY_MS // 4
            model = {of: [e for e in kept if e.time_ms >= RETENTION.oldest_ms(now)] for of, kept in model.items()}
            gone += [key_of(store, of) for of, kept in model.items() if not kept]
            model = {of: kept for of, kept in model.items() if kept}
            await store.purge()
        else:
            await store.close()
            store = SqliteStore(path, RETENTION, "normal", clock)
        for of in range(6):
            assert list((await store.history(name(of), KEEP)).events) == model.get(of, [])[::-1]
    assert found_keys(path, gone) == []
    assert marks(path) == set()
    await store.close()


async def test_a_reader_that_never_ends_keeps_nothing(store: SqliteStore, path: Path) -> None:
    """It holds the log open and goes on to see the deleted rows, which no one can decrypt any more."""
    await store.record([event(1, n) for n in range(KEEP)])
    key = key_of(store, 1)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    seen = reader.execute("SELECT body FROM events").fetchall()
    assert await store.forget(name(1)) == KEEP
    assert reader.execute("SELECT body FROM events").fetchall() == seen
    assert found_keys(path, [key]) == []
    assert await store.history(name(1), KEEP) == NO_HISTORY
    reader.close()


async def test_a_second_process_neither_reads_nor_brings_back_what_was_forgotten(
    store: SqliteStore, path: Path
) -> None:
    other = SqliteStore(path, RETENTION, "full")
    stamps = []
    for n in range(20):
        await other.record([event(1, n)])
        key = key_of(other, 1)
        stamps.append(other.stamp())
        await store.forget(name(1))
        stamps.append(other.stamp())
        assert await other.history(name(1), KEEP) == NO_HISTORY
        assert await other.version(name(1)) == 0
        assert found_keys(path, [key]) == []
    assert all(before != after for before, after in zip(stamps[::2], stamps[1::2], strict=True))
    assert num_rows(path) == (0, 0)
    await other.close()


async def test_events_that_arrive_while_a_shopper_is_forgotten_leave_no_row_without_a_key(
    store: SqliteStore, path: Path
) -> None:
    other = SqliteStore(path, RETENTION, "normal")
    for n in range(30):
        await asyncio.gather(
            other.record([event(1, n), event(2, n)]), store.forget(name(1)), store.record([event(1, 100 + n)])
        )
    known = store._keys.numbers().tolist()
    with sqlite3.connect(path) as connection:
        rows = {number for (number,) in connection.execute("SELECT DISTINCT shopper FROM events")}
    assert rows <= set(known)
    assert len((await store.history(name(2), KEEP)).events) == KEEP
    await other.close()


class TestDeath:
    """`kill -9` after the key was erased and before the rows were deleted."""

    FORGET = """
import os, signal, sys, asyncio
from pathlib import Path
from serving.shoppers.sqlite_store import SqliteStore
from serving.shoppers.store import Retention

async def forget(path, shopper, when):
    store = SqliteStore(Path(path), Retention(12, 30), "full")
    erase = store._keys.erase
    def die(shopper_id):
        if when == "after":
            erase(shopper_id)
        os.kill(os.getpid(), signal.SIGKILL)
    store._keys.erase = die
    await store.forget(shopper)

asyncio.run(forget(*sys.argv[1:]))
"""

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_the_next_process_finishes_what_was_begun(self, path: Path, when: str) -> None:
        store = SqliteStore(path, RETENTION, "full")
        await store.record([event(shopper, n) for shopper in (1, 2) for n in range(5)])
        key = key_of(store, 1)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", self.FORGET, str(path), name(1), when)
        assert await process.wait() == -signal.SIGKILL
        assert found_keys(path, [key]) == ([key] if when == "before" else [])
        assert len((await store.history(name(1), KEEP)).events) == (5 if when == "before" else 0)
        assert num_rows(path) == (2, 10)
        await store.close()
        store = SqliteStore(path, RETENTION, "full")
        await store.purge()
        assert num_rows(path) == ((2, 10) if when == "before" else (1, 5))
        assert len((await store.history(name(2), KEEP)).events) == 5
        await store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


class TestFullDisk:
    async def test_forgetting_needs_no_space(self, small_disk: Path) -> None:
        path, padding = small_disk / "shoppers.db", small_disk / "padding"
        padding.write_bytes(bytes(400_000))
        store = SqliteStore(path, RETENTION, "full")
        assert await self._fill(store) > 10
        keys = [key_of(store, shopper) for shopper in range(5)]
        for shopper in range(5):
            assert await store.forget(name(shopper)) > 0
            assert await store.history(name(shopper), KEEP) == NO_HISTORY
        assert found_keys(path, keys) == []
        padding.unlink()
        await store.purge()
        assert num_rows(path)[0] == len(store._keys.numbers())
        assert await store.record([event(0, 0)]) == Recorded(1, 0)
        await store.close()

    async def _fill(self, store: SqliteStore) -> int:
        for shopper in range(10_000):
            try:
                await store.record([event(shopper, n, words=100) for n in range(5)])
            except StoreFull:
                return shopper
        raise AssertionError("the disk is larger than it should be")

    LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from models.events.event import Event, EventKind
from serving.shoppers.sqlite_store import SqliteStore
from serving.shoppers.store import Retention
from serving.storage.outage import StoreFull
from serving.errors import AisleError

async def main(path):
    store = SqliteStore(Path(path), Retention(12, 30), "normal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    for shopper in range(10_000):
        try:
            await store.record([Event(f"{n}", int(sys.argv[2]), f"s{shopper}", "s", "en-US", EventKind.CLICK, "p" * 500) for n in range(9)])
        except AisleError as error:
            break
    print(shopper, [await store.forget(f"s{n}") for n in range(3)], [len((await store.history(f"s{n}", 9)).events) for n in range(5)])

asyncio.run(main(sys.argv[1]))
"""

    def test_files_that_may_not_grow_forget_too(self, path: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-c", self.LIMITED, str(path), str(NOW)], capture_output=True, text=True, check=True
        )
        num_shoppers, *answers = done.stdout.split(maxsplit=1)
        assert int(num_shoppers) > 5
        assert answers == ["[9, 9, 9] [0, 0, 0, 9, 9]\n"]


class TestExpiry:
    async def test_the_key_of_a_shopper_without_events_goes(self, path: Path) -> None:
        now = NOW
        store = SqliteStore(path, RETENTION, "full", lambda: now)
        await store.record([event(1, 1), event(2, 2, NOW + 20 * DAY_MS)])
        old, young = key_of(store, 1), key_of(store, 2)
        now = NOW + 31 * DAY_MS
        assert await store.purge() == 1
        assert found_keys(path, [old, young]) == [young]
        assert len((await store.history(name(2), KEEP)).events) == 1
        await store.close()


class TestKeys:
    def test_the_file_grows_and_every_shopper_is_found_by_all_who_opened_it(self, path: Path) -> None:
        keys = ShopperKeys(path, sync=False, may_make=True)
        other = ShopperKeys(path, sync=False)
        size = path.stat().st_size
        made = {}
        for first in range(0, 20_000, 500):
            made |= keys.add([name(n) for n in range(first, first + 500)])
        assert path.stat().st_size > 8 * size
        assert len({key.number for key in made.values()}) == 20_000
        assert all(other.find(shopper) == key for shopper, key in made.items())
        assert other.find("nobody") is None
        assert keys.add(made) == made
        gone = [name(n) for n in range(0, 20_000, 2)]
        for shopper in gone[:9]:
            keys.erase(shopper)
        keys.erase_numbers(made[shopper].number for shopper in gone[9:])
        assert all(other.find(shopper) is None for shopper in gone)
        assert sorted(other.numbers()) == sorted(made[name(n)].number for n in range(1, 20_000, 2))
        size = path.stat().st_size
        again = keys.add(gone)
        assert path.stat().st_size == size  # slots are used again
        assert all(again[shopper] != made[shopper] for shopper in gone)
        keys.close()
        other.close()

    def test_it_and_its_rights(self, path: Path) -> None:
        ShopperKeys(path, sync=True, may_make=True).close()
        assert path.stat().st_mode & 0o777 == 0o600
        assert ShopperKeys(path, sync=True).id == ShopperKeys(path, sync=True, may_make=True).id
