"""What the SQLite store promises beyond the others: its file, several processes, a kill at any moment, a full disk."""

from __future__ import annotations

import asyncio
import logging
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from models.events.event import Event, EventKind
from serving.config import ConfigError
from serving.errors import AisleError, Code, Overloaded, Unavailable
from serving.shoppers.sealed_events import read_events
from serving.shoppers.shopper_keys import ShopperKeys
from serving.shoppers.sqlite_file import create, keys_path
from serving.shoppers.sqlite_store import SqliteStore
from serving.shoppers.store import DAY_MS, Recorded, Retention, now_ms
from serving.storage.outage import StoreFull
from serving.storage.sqlite_writer import MAX_QUEUED_ITEMS

NOW = now_ms()
KEEP = Retention(1000, 365)

# Records batches of ten for ever, or until the store fails, and prints the number of each batch that was acknowledged.
WRITER = """
import asyncio, sys
from pathlib import Path
from models.events.event import Event, EventKind
from serving.errors import Code, AisleError
from serving.shoppers.store import Retention
from serving.shoppers.sqlite_store import SqliteStore

async def write(path, name, first, now):
    store = SqliteStore(Path(path), Retention(100_000, 365), "normal")
    print("ready", flush=True)
    batch = int(first)
    while True:
        events = [
            Event(f"{batch}-{n}", int(now) + batch, f"{name}{n % 3}", "s", "en-US", EventKind.CLICK, "p" * 100)
            for n in range(10)
        ]
        try:
            await store.record(events)
        except AisleError as error:
            print("failed", error.reason, flush=True)
            return
        print(batch, flush=True)
        batch += 1

asyncio.run(write(*sys.argv[1:]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shoppers.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(path, KEEP, "full")
    yield opened
    await opened.close()


def event(number: int, shopper: str = "ann", time_ms: int | None = None) -> Event:
    return Event(
        f"e{number}", NOW - 1000 + number if time_ms is None else time_ms, shopper, "s", "en-US", EventKind.CLICK, "p"
    )


def start_writer(path: Path, name: str = "w", first: int = 0, max_file_bytes: int = 0) -> subprocess.Popen[str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))

    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(first), str(NOW)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=limit if max_file_bytes else None,  # noqa: PLW1509 - it only sets a limit
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def rows(path: Path) -> list[tuple[str, str]]:
    """(shopper id, event id) of every event in the file."""
    keys = ShopperKeys(keys_path(path), sync=False)
    names = ["ann", "bob", "late", *(f"{letter}{n}" for letter in "sw" for n in range(100))]
    shoppers = {key.number: (name, key) for name in names if (key := keys.find(name))}
    keys.close()
    with sqlite3.connect(path) as connection:
        connection.execute("BEGIN")  # both reads of one state: a purge may run meanwhile
        found = connection.execute("SELECT shopper, hex(body) FROM events ORDER BY shopper, time_ms").fetchall()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        counted = connection.execute("SELECT sum(num_events) FROM shoppers").fetchone()[0]
    assert (counted or 0) == len(found)
    ids = []
    for number, body in found:
        name, key = shoppers[number]
        ids += [(name, event.id) for event in read_events(name, key, body)]
    return ids


class TestKill:
    def test_every_acknowledged_event_outlives_a_kill_and_none_is_there_twice(self, path: Path) -> None:
        rng = random.Random(0)
        acknowledged: list[int] = []
        for _ in range(6):
            # It begins with the batches that the one before may have recorded without a word.
            process = start_writer(path, first=max(acknowledged, default=0))
            assert process.stdout is not None
            acknowledged += [int(process.stdout.readline()) for _ in range(rng.randrange(5, 50))]
            process.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in process.stdout.read().splitlines()]
            process.wait()
        found = [event_id for _, event_id in rows(path)]
        assert len(found) == len(set(found))
        assert {f"{batch}-{n}" for batch in acknowledged for n in range(10)} <= set(found)
        assert len(set(acknowledged)) > 20

    def test_two_processes_that_write_the_same_events_record_each_once(self, path: Path) -> None:
        create(path, "normal", KEEP.max_events_per_shopper).close()
        writers = [start_writer(path) for _ in range(2)]
        # Neither is kept out by the other: each of them records some batches while both are at it.
        done = [[int(process.stdout.readline()) for _ in range(6)] for process in writers if process.stdout]
        for process, batches in zip(writers, done, strict=True):
            process.kill()
            assert process.stdout is not None
            batches += [int(line) for line in process.stdout.read().splitlines()]
            process.wait()
        found = [event_id for _, event_id in rows(path)]
        assert len(found) == len(set(found))
        assert {f"{batch}-9" for batches in done for batch in batches} <= set(found)


class TestFullDisk:
    async def test_it_says_so_and_keeps_what_it_acknowledged_and_goes_on_when_there_is_space(self, path: Path) -> None:
        store = SqliteStore(path, KEEP, "full")
        connection = store._writer._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")
        acknowledged = 0
        with pytest.raises(StoreFull) as caught:  # noqa: PT012 - it is some call of many
            for batch in range(1000):
                await store.record([event(batch * 100 + n, f"s{n}") for n in range(100)])
                acknowledged += 100
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert "no space" in caught.value.message
        assert str(path) not in caught.value.message
        assert len((await store.history("s7", 1000)).events) == acknowledged // 100
        connection.execute("PRAGMA max_page_count = 1000000")
        assert await store.record([event(10**6)]) == Recorded(1, 0)
        await store.close()
        assert len(rows(path)) == acknowledged + 1

    def test_a_file_that_may_not_grow_loses_nothing_that_was_acknowledged(self, path: Path) -> None:
        process = start_writer(path, max_file_bytes=400_000)
        output, _ = process.communicate(timeout=240)
        *acknowledged, last = output.splitlines()
        assert last.split()[0] == "failed"
        assert last.split()[1] in ("STORE_FULL", "UNAVAILABLE")
        assert len(acknowledged) > 5
        found = {event_id for _, event_id in rows(path)}
        assert {f"{batch}-{n}" for batch in acknowledged for n in range(10)} <= found


class TestGroups:
    async def test_a_bad_call_fails_alone(self, store: SqliteStore) -> None:
        bad = Event("bad", 2**70, "ann", "s", "en-US", EventKind.CLICK, "p")
        calls = [store.record([event(n)]) for n in range(10)] + [store.record([bad])]
        *good, refused = await asyncio.gather(*calls, return_exceptions=True)
        assert good == [Recorded(1, 0)] * 10
        assert isinstance(refused, sqlite3.Error)
        assert len((await store.history("ann", 100)).events) == 10

    async def test_more_than_it_can_record_is_refused_at_once(self, store: SqliteStore) -> None:
        batch = [event(n) for n in range(1000)]
        calls = [asyncio.ensure_future(store.record(batch)) for _ in range(4 * MAX_QUEUED_ITEMS // 1000)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        assert refused
        assert all(isinstance(error, Overloaded) and error.retry_after_s for error in refused)
        assert sum(answer.recorded for answer in answers if isinstance(answer, Recorded)) == 1000

    async def test_a_closed_store_refuses_and_what_was_queued_is_kept(self, path: Path) -> None:
        store = SqliteStore(path, KEEP, "normal")
        calls = [asyncio.ensure_future(store.record([event(n)])) for n in range(50)]
        await asyncio.sleep(0)
        await store.close()
        assert await asyncio.gather(*calls) == [Recorded(1, 0)] * 50
        with pytest.raises(Unavailable, match="closing"):
            await store.record([event(99)])
        assert len(rows(path)) == 50

    async def test_another_process_that_holds_the_file_makes_it_unavailable_for_that_time(
        self, store: SqliteStore, path: Path
    ) -> None:
        await store.record([event(1)])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="busy"):
            await store.record([event(2)])
        assert len((await store.history("ann", 10)).events) == 1  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        assert await store.record([event(2)]) == Recorded(1, 0)


async def eventually(holds: object, seconds: float = 120.0) -> bool:
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True


class TestPurge:
    async def test_what_is_expired_leaves_the_file_and_the_rest_stays(self, path: Path) -> None:
        now = NOW
        store = SqliteStore(path, Retention(1000, days=2), "normal", lambda: now)
        await store.record([event(n, f"s{n % 7}", NOW - DAY_MS + n) for n in range(70)])
        await store.record([event(n, "s0", NOW + n) for n in range(100, 105)])
        now = NOW + DAY_MS + DAY_MS // 2
        assert await store.purge() == 70
        assert await store.purge() == 0
        await store.close()
        assert sorted(rows(path)) == [("s0", f"e{n}") for n in range(100, 105)]
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT count(*) FROM shoppers").fetchone() == (1,)

    async def test_histories_that_a_lower_limit_left_too_long_are_cut(self, store: SqliteStore, path: Path) -> None:
        await store.record([event(n, shopper) for n in range(50) for shopper in ("ann", "bob")])
        stricter = SqliteStore(path, Retention(10, 365), "normal")
        assert await stricter.purge() == 80
        assert sorted(rows(path)) == sorted((s, f"e{n}") for s in ("ann", "bob") for n in range(40, 50))
        await stricter.close()

    async def test_one_of_the_processes_purges_by_itself(self, path: Path) -> None:
        old = SqliteStore(path, KEEP, "normal")
        await old.record([event(1, "ann", NOW - 10 * DAY_MS)])
        await old.close()
        stores = [await SqliteStore.open(path, Retention(1000, days=5), "normal") for _ in range(3)]
        assert await eventually(lambda: not rows(path))
        for store in stores:
            await store.close()


class TestClock:
    """No clock that jumps may cost more than the oldest tenth of the retention."""

    RETENTION = Retention(1000, days=30)

    class Clock:
        def __init__(self, now: int) -> None:
            self.now = now

        def __call__(self) -> int:
            return self.now

    async def _service(self, path: Path, clock: Clock) -> SqliteStore:
        """A store as a service opens it, after its first look for what is expired."""
        store = SqliteStore(path, self.RETENTION, "normal", clock)
        await self._look(store)
        return store

    async def _look(self, store: SqliteStore) -> int | None:
        """Does what happens every quarter of an hour."""
        now = await asyncio.wrap_future(store._writer.submit(store._claim_purge))
        return None if now is None else await store._purge(now)

    @staticmethod
    def _events() -> list[Event]:
        """One event for each of the last 30 days."""
        return [event(n, time_ms=NOW - n * DAY_MS) for n in range(30)]

    async def test_a_jump_ahead_while_it_runs_deletes_and_hides_nothing(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        clock = self.Clock(NOW)
        one, other = await self._service(path, clock), await self._service(path, clock)
        await one.record(self._events())
        clock.now += 365 * DAY_MS
        logger = logging.getLogger("aisle")
        logger.propagate = True
        try:
            assert [await self._look(store) for store in (one, other)] == [None, None]
        finally:
            logger.propagate = False
        assert "run 'aisle purge'" in caplog.text
        for store in (one, other):
            assert [e.id for e in (await store.history("ann", 1000)).events] == [f"e{n}" for n in range(28)]
            assert store.believed_ms() == NOW + 3 * DAY_MS  # callers may not record later times
        assert len(rows(path)) == 30
        clock.now = NOW + 2 * DAY_MS  # it was set right
        assert [await self._look(store) for store in (one, other)] == [1, None]
        assert len((await other.history("ann", 1000)).events) == 29
        await one.close()
        await other.close()

    async def test_a_clock_that_is_wrong_at_every_start_deletes_nothing(self, path: Path) -> None:
        store = await self._service(path, self.Clock(NOW))
        await store.record(self._events())
        await store.close()
        for _ in range(20):
            store = await self._service(path, self.Clock(NOW + 365 * DAY_MS))
            await store.close()
        assert len(rows(path)) == 30

    async def test_after_a_long_stop_an_operator_confirms_the_clock(self, path: Path) -> None:
        store = await self._service(path, self.Clock(NOW))
        await store.record(self._events())
        await store.close()
        later = self.Clock(NOW + 10 * DAY_MS)
        running = await self._service(path, later)
        assert running.believed_ms() == NOW + 3 * DAY_MS
        operator = SqliteStore(path, self.RETENTION, "normal", later)
        assert await operator.purge() == 9
        await operator.close()
        later.now += DAY_MS // 2
        assert await self._look(running) == 1
        assert running.believed_ms() == later.now
        assert len(rows(path)) == 20
        await running.close()

    async def test_a_short_stop_needs_nobody(self, path: Path) -> None:
        store = await self._service(path, self.Clock(NOW))
        await store.record(self._events())
        await store.close()
        store = await self._service(path, self.Clock(NOW + 2 * DAY_MS))
        assert len(rows(path)) == 29
        await store.close()

    async def test_a_clock_that_jumps_back_deletes_nothing_and_may_return(self, path: Path) -> None:
        clock = self.Clock(NOW)
        store = await self._service(path, clock)
        await store.record(self._events())
        clock.now = 0  # as without a battery
        assert await self._look(store) is None
        assert len((await store.history("ann", 1000)).events) == 30
        clock.now = NOW + DAY_MS
        assert await self._look(store) == 0
        await store.close()


class TestFile:
    async def test_it_is_there_again_after_a_restart(self, path: Path) -> None:
        for n in range(3):
            store = SqliteStore(path, KEEP, "full")
            await store.record([event(n)])
            assert len((await store.history("ann", 10)).events) == n + 1
            await store.close()

    def test_it_and_its_new_folder_are_the_owners_only(self, tmp_path: Path) -> None:
        path = tmp_path / "state" / "aisle" / "shop.db"
        create(path, "full", 10).close()
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700

    def test_what_is_something_else_is_refused_and_left_as_it_is(self, tmp_path: Path) -> None:
        text = tmp_path / "notes.txt"
        text.write_text("not a database, but long enough to look like one" * 100)
        with pytest.raises(ConfigError, match=r"shoppers\.path: .*notes\.txt cannot be used"):
            create(text, "full", 10)
        other = tmp_path / "other.db"
        with sqlite3.connect(other) as connection:
            connection.execute("CREATE TABLE t (x)")
        before = other.read_bytes()
        with pytest.raises(ConfigError, match="database of another application"):
            create(other, "full", 10)
        assert other.read_bytes() == before
        with pytest.raises(ConfigError, match="cannot be written"):
            create(tmp_path, "full", 10)

    def test_another_layout_is_refused_with_both_numbers(self, path: Path) -> None:
        create(path, "full", 10).close()
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 7")
        with pytest.raises(ConfigError, match="has layout 7, this Aisle reads layout 2"):
            create(path, "full", 10)

    def test_processes_that_make_it_at_once_share_it(self, path: Path) -> None:
        script = (
            "import sys; from pathlib import Path; from serving.shoppers.sqlite_file import create; sys.stdin.readline(); "
            "create(Path(sys.argv[1]), 'full', 10)"
        )
        started = [
            subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        assert [process.wait(240) for process in started] == [0] * 4
        assert rows(path) == []


def test_errors_tell_a_caller_nothing_of_the_machine(path: Path) -> None:
    async def break_it() -> AisleError:
        store = SqliteStore(path, KEEP, "normal")
        await store.record([event(1)])
        for file in path.parent.glob("shoppers.db*"):
            with file.open("r+b") as open_file:  # a file that is cut short under a mapping would end the process
                open_file.write(b"\xff" * 8192)
        with pytest.raises(AisleError) as caught:  # noqa: PT012 - it is some call of many
            for n in range(100):
                await store.record([event(n)])
                await store.history("ann", 10)
        return caught.value

    message = asyncio.run(break_it()).message
    assert "shopper store" in message
    assert "/" not in message
