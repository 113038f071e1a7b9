"""Both logs of changes keep the same promises: on a real file, and against a real Redis where one is installed."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from loadtest.benchmarks.redis_server import RedisServer, redis_is_installed, redis_server
from models.products.product import Product
from serving.catalogue.change import ChangeBatch, Delete, LoggedBatch, Offer, Upsert
from serving.catalogue.log import Appended, ChangeIdReused, ChangeLog, LogEnded, Replica
from serving.catalogue.redis_log import LIVES_S
from serving.errors import Unavailable
from tests.change_writers import acknowledged, open_here, report, start_replica, start_writer, upserts

NO_VECTORS = np.zeros((0, 0), np.float16)


@dataclass
class Place:
    """Where one log is. What is opened here is closed at the end."""

    kind: str
    place: str
    opened: AsyncExitStack

    def open(self, catalogue: str = "line") -> ChangeLog:
        """Opens it once more, as another process does."""
        log = open_here(self.kind, self.place, catalogue)
        self.opened.push_async_callback(log.close)
        return log


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer | None]:
    if not redis_is_installed():
        yield None
        return
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
async def place(request: pytest.FixtureRequest, tmp_path: Path, redis: RedisServer | None) -> AsyncIterator[Place]:
    async with AsyncExitStack() as opened:
        if request.param == "sqlite":
            yield Place("sqlite", str(tmp_path / "changes.db"), opened)
            return
        if redis is None:
            pytest.skip("redis-server is not installed")
        from redis.asyncio import Redis

        client = Redis.from_url(redis.url)
        await client.flushall()
        await client.aclose()
        yield Place("redis", redis.url, opened)


@pytest.fixture
def log(place: Place) -> ChangeLog:
    return place.open()


def ids(batches: object) -> list[list[str]]:
    assert isinstance(batches, list)
    return [[change.product_id for change in logged.batch.changes] for logged in batches]


def everything(log: ChangeLog) -> list[LoggedBatch]:
    found: list[LoggedBatch] = []
    while batches := log.read(found[-1].last if found else 0, 500):
        found += batches
    return found


class TestBatches:
    async def test_what_was_logged_is_read_as_it_was(self, log: ChangeLog) -> None:
        full = Product(
            'ünïque 1"\\', "canapé 🛋\n\t\x00\x7f 日本", "Ærø", "Möbel > Sofas", 10**15, False,
            {"colour": "rød\n", "": "'); --", "a": "b"}, ("Outlet > Sofas", "🛋"),
        )  # fmt: skip
        bare = Product("2", "")
        changes = (
            Upsert(full),
            Delete("gone 🛋"),
            Upsert(bare),
            Offer(product_id="3", price_minor=0, in_stock=False),
            Offer(product_id="4", removes_price=True, numbers={"ratings": "4.5", "é": "1"}),
            Offer(product_id="5", in_stock=True),
        )
        vectors = np.array([[1, -0.0, np.float16(6e-8)], [65504, np.inf, 1 / 3]], np.float16)
        await log.append(ChangeBatch(changes=changes, vectors=vectors, encoder="éncoder 1"))
        (logged,) = log.read(0, 100)
        assert (logged.first, logged.last) == (1, 6)
        assert logged.batch.changes == changes
        assert logged.batch.encoder == "éncoder 1"
        assert logged.batch.vectors.dtype == np.float16
        assert logged.batch.vectors.tobytes() == vectors.tobytes()
        assert logged.batch.vectors.shape == vectors.shape

    async def test_batches_without_vectors_and_with_empty_ones_are_read(self, log: ChangeLog) -> None:
        await log.append(ChangeBatch(changes=(Delete("1"),), vectors=NO_VECTORS, encoder=""))
        empty = np.zeros((2, 0), np.float16)
        changes = (Upsert(Product("2", "a")), Upsert(Product("3", "b")))
        await log.append(ChangeBatch(changes=changes, vectors=empty, encoder=""))
        deleted, upserted = log.read(0, 100)
        assert deleted.batch.vectors.shape == (0, 0)
        assert upserted.batch.vectors.shape == (2, 0)

    async def test_a_large_batch_is_read_whole(self, log: ChangeLog) -> None:
        vectors = np.random.default_rng(0).normal(size=(10_000, 384)).astype(np.float16)
        changes = tuple(Upsert(Product(str(n), "Sofa" * 10)) for n in range(10_000))
        await log.append(ChangeBatch(changes=changes, vectors=vectors, encoder="e"))
        (logged,) = log.read(0, 1)
        assert logged.batch.changes == changes
        assert (logged.batch.vectors == vectors).all()


class TestOrder:
    async def test_sequences_begin_at_one_and_have_no_gaps(self, log: ChangeLog) -> None:
        assert log.head() == 0
        assert log.read(0, 100) == []
        assert await log.append(upserts("a", "b")) == Appended(1, 2)
        assert await log.append(upserts("c")) == Appended(3, 3)
        assert log.head() == 3

    async def test_calls_at_once_each_get_their_own(self, log: ChangeLog) -> None:
        sizes = [1 + n % 4 for n in range(100)]
        batches = [upserts(*(f"{n}-{k}" for k in range(size))) for n, size in enumerate(sizes)]
        done = await asyncio.gather(*map(log.append, batches))
        assert sorted(s for d in done for s in range(d.first, d.last + 1)) == list(range(1, sum(sizes) + 1))
        by_first = {logged.first: logged for logged in everything(log)}
        for n, answer in enumerate(done):
            assert ids([by_first[answer.first]]) == [[f"{n}-{k}" for k in range(sizes[n])]]

    def test_processes_that_append_at_once_share_one_order(self, place: Place) -> None:
        writers = [start_writer(place.kind, place.place, name) for name in "abc"]
        done = {name: acknowledged(writer, 20) for name, writer in zip("abc", writers, strict=True)}
        batches = everything(place.open())  # raises LogEnded for a gap
        assert all(len(logged.batch.changes) == 3 for logged in batches)
        by_first = dict(zip((logged.first for logged in batches), ids(batches), strict=True))
        for name, rows in done.items():
            firsts = [first for _, first, _ in rows]
            assert firsts == sorted(set(firsts))
            for number, first, last in rows:
                assert by_first[first] == [f"{name}-{number}-{n}" for n in range(3)]
                assert last == first + 2
        logged_ids = [product_id for batch in by_first.values() for product_id in batch]
        assert len(logged_ids) == len(set(logged_ids))


class TestKill:
    def test_every_acknowledged_batch_outlives_a_kill_and_each_is_whole_and_there_once(self, place: Place) -> None:
        rng = random.Random(0)
        done: list[tuple[str, int, int]] = []
        for life in range(4):
            writer = start_writer(place.kind, place.place, f"w{life}")
            done += [(f"w{life}-{n}", first, last) for n, first, last in acknowledged(writer, rng.randrange(3, 40))]
        batches = everything(place.open())
        found = {tuple(batch): logged.first for batch, logged in zip(ids(batches), batches, strict=True)}
        assert len(found) == len(batches)
        for name, first, _ in done:
            assert found[f"{name}-0", f"{name}-1", f"{name}-2"] == first
        assert len(batches) <= len(done) + 4  # one of each life may have been logged without a word
        assert place.open().head() == 3 * len(batches)


class TestChangeIds:
    async def test_a_batch_that_is_sent_again_keeps_its_sequences(self, place: Place, log: ChangeLog) -> None:
        first = await log.append(upserts("a", "b", change_id="1"))
        await log.append(upserts("c"))
        assert await log.append(upserts("a", "b", change_id="1")) == Appended(first.first, first.last, True)
        assert await place.open().append(upserts("a", "b", change_id="1")) == Appended(1, 2, True)
        assert log.head() == 3

    async def test_other_vectors_of_the_same_products_are_the_same_call(self, log: ChangeLog) -> None:
        """An encoder may round otherwise on another machine."""
        changes = (Upsert(Product("a", "Sofa")),)
        for number in (1, 2):
            vectors = np.full((1, 3), number, np.float16)
            await log.append(ChangeBatch(changes=changes, vectors=vectors, encoder="e", change_id="1"))
        (logged,) = everything(log)
        assert logged.batch.vectors[0, 0] == 1

    async def test_the_order_of_attributes_is_no_content(self, log: ChangeLog) -> None:
        for attributes in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}):
            changes = (Upsert(Product("a", "Sofa", attributes=attributes)),)
            vectors = np.zeros((1, 3), np.float16)
            done = await log.append(ChangeBatch(changes=changes, vectors=vectors, encoder="e", change_id="1"))
        assert done == Appended(1, 1, True)

    async def test_another_content_is_refused_and_not_logged(self, log: ChangeLog) -> None:
        await log.append(upserts("a", change_id="1"))
        good = [log.append(upserts(f"g{n}")) for n in range(5)]
        *done, refused = await asyncio.gather(
            *good, log.append(upserts("a", title="Bed", change_id="1")), return_exceptions=True
        )
        assert isinstance(refused, ChangeIdReused)
        assert all(isinstance(answer, Appended) for answer in done)
        with pytest.raises(ChangeIdReused):
            await log.append(upserts("a", "b", change_id="1"))
        assert log.head() == 6
        assert len(everything(log)) == 6

    async def test_calls_at_once_log_it_once(self, place: Place) -> None:
        logs = [place.open() for _ in range(3)]
        answers = await asyncio.gather(*(log.append(upserts("a", change_id="1")) for log in logs for _ in range(10)))
        assert {(answer.first, answer.last) for answer in answers} == {(1, 1)}
        assert sum(not answer.was_repeated for answer in answers) == 1
        assert logs[0].head() == 1

    async def test_without_an_id_the_same_content_is_another_batch(self, log: ChangeLog) -> None:
        assert await log.append(upserts("a")) == Appended(1, 1)
        assert await log.append(upserts("a")) == Appended(2, 2)


class TestRead:
    async def test_it_returns_whole_batches_up_to_a_number_of_changes(self, log: ChangeLog) -> None:
        for batch in (("a", "b"), ("c",), ("d", "e", "f"), ("g",)):
            await log.append(upserts(*batch))
        assert ids(log.read(0, 3)) == [["a", "b"], ["c"]]
        assert ids(log.read(0, 5)) == [["a", "b"], ["c"]]
        assert ids(log.read(3, 1)) == [["d", "e", "f"]]
        assert ids(log.read(3, 100)) == [["d", "e", "f"], ["g"]]
        assert log.read(7, 100) == []

    async def test_another_process_reads_at_once_what_was_acknowledged(self, place: Place) -> None:
        one, other = place.open(), place.open()
        for n in range(20):
            await one.append(upserts(str(n)))
            assert ids(other.read(n, 10)) == [[str(n)]]

    async def test_what_was_dropped_is_not_read_and_the_rest_is(self, place: Place, log: ChangeLog) -> None:
        for n in range(300):
            await log.append(upserts(f"{n}a", f"{n}b"))
        log.drop(0)
        log.drop(501)  # within a batch, which stays
        for reader in (log, place.open()):
            assert len(reader.read(500, 1000)) == 50
            for after in (0, 498):
                with pytest.raises(LogEnded, match="begins after change 500"):
                    reader.read(after, 10)
        log.drop(10**9)
        log.drop(10)
        assert log.read(600, 10) == []
        assert await log.append(upserts("c")) == Appended(601, 601)
        assert ids(place.open().read(600, 10)) == [["c"]]
        assert log.head() == 601

    async def test_a_log_that_ends_before_what_was_applied_is_not_followed(self, log: ChangeLog) -> None:
        """As with a generation whose log was deleted."""
        await log.append(upserts("a"))
        with pytest.raises(LogEnded, match="ends with change 1, but 7 were applied"):
            log.read(7, 10)


class TestWait:
    async def test_it_ends_soon_after_a_change_of_this_process_or_another(self, place: Place) -> None:
        one, other = place.open(), place.open()
        for n, writer in enumerate((one, other) * 5):
            waited: list[float] = []

            def wait(after: int = n, waited: list[float] = waited) -> None:
                one.wait(after, 60)
                waited.append(time.monotonic())

            thread = threading.Thread(target=wait)
            thread.start()
            await asyncio.sleep(0.02)
            assert not waited
            await writer.append(upserts(str(n)))
            done = time.monotonic()
            await asyncio.to_thread(thread.join)
            assert waited[0] - done < 5

    async def test_it_does_not_wait_for_what_is_there_and_ends_with_its_time(self, log: ChangeLog) -> None:
        await log.append(upserts("a", "b"))
        start = time.monotonic()
        log.wait(0, 60)
        log.wait(1, 60)
        assert time.monotonic() - start < 30
        start = time.monotonic()
        await asyncio.to_thread(log.wait, 2, 0.7)
        assert 0.6 < time.monotonic() - start < 30

    def test_a_change_of_a_process_that_was_killed_is_found(self, place: Place) -> None:
        log = place.open()
        acknowledged(start_writer(place.kind, place.place, "a"), 1)
        head = log.head()
        start = time.monotonic()
        log.wait(head - 1, 60)
        assert time.monotonic() - start < 30


class TestReplicas:
    async def test_those_that_reported_are_listed_with_how_far_they_are(self, place: Place) -> None:
        one, other, silent = place.open(), place.open(), place.open()
        assert list(one.replicas()) == []
        one.report(3)
        other.report(0)
        for log in (one, other, silent):
            assert await self._applied(log, [0, 3])
        other.report(5)
        assert await self._applied(one, [3, 5])
        assert all(replica.name for replica in one.replicas())

    async def test_a_report_never_goes_back(self, place: Place) -> None:
        one, other = place.open(), place.open()
        for applied in (3, 5, 4, 0):
            one.report(applied)
        assert await self._applied(one, [5])
        assert await self._applied(other, [5])

    async def test_one_that_is_killed_vanishes_and_one_that_lives_stays(self, place: Place) -> None:
        log = place.open()
        dead, living = (start_replica(place.kind, place.place) for _ in range(2))
        report(dead, 1)
        report(living, 2)
        log.report(3)
        assert await self._applied(log, [1, 2, 3])
        dead.kill()
        end = time.monotonic() + LIVES_S + 30
        while [replica.applied for replica in await self._replicas(log)] != [2, 3] and time.monotonic() < end:
            report(living, 2)
            log.report(3)
            await asyncio.sleep(0.2)
        assert await self._applied(log, [2, 3])
        again = start_replica(place.kind, place.place)
        report(again, 0)
        assert await self._applied(log, [0, 2, 3])
        for process in (living, again):
            process.kill()
            process.wait()
        dead.wait()

    async def test_one_that_closes_vanishes_at_once(self, place: Place) -> None:
        one, other = place.open(), open_here(place.kind, place.place)
        one.report(1)
        other.report(2)
        assert await self._applied(one, [1, 2])
        await other.close()
        assert await self._applied(one, [1])

    async def test_who_reports_after_applying_a_change_knows_all_whom_it_must_reach(self, place: Place) -> None:
        """Without another look: what is behind must never be missed."""
        one, other = place.open(), place.open()
        one.report(0)
        for n in range(1, 20):
            other.report(n - 1)
            done = await one.append(upserts(str(n)))
            one.report(done.last)
            assert sorted(replica.applied for replica in one.replicas()) == [n - 1, n]
            assert await self._applied(one, [n - 1, n])

    @staticmethod
    async def _replicas(log: ChangeLog) -> list[Replica]:
        """As another look tells them: a log may tell on the loop what it knew before."""
        return sorted(await asyncio.to_thread(log.replicas), key=lambda replica: replica.applied)

    async def _applied(self, log: ChangeLog, expected: list[int]) -> bool:
        on_loop: list[int] = []
        end = time.monotonic() + 30
        while on_loop != expected and time.monotonic() < end:
            on_loop = sorted(replica.applied for replica in log.replicas())
            await asyncio.sleep(0.002)
        return [replica.applied for replica in await self._replicas(log)] == on_loop == expected


class TestAnotherCatalogue:
    async def test_a_log_with_changes_is_kept_from_other_catalogues(self, place: Place) -> None:
        """Both opened it while it was empty: the first that appended owns it."""
        early = place.open("other line")
        assert early.read(0, 10) == []
        mine = place.open()
        await mine.append(upserts("a"))
        with pytest.raises(Unavailable, match="another catalogue"):
            await early.append(upserts("b"))
        with pytest.raises(LogEnded, match="another catalogue"):
            early.read(0, 10)
        assert mine.head() == 1
        assert ids(mine.read(0, 10)) == [["a"]]

    async def test_an_empty_log_belongs_to_nobody(self, place: Place) -> None:
        place.open("other line")
        mine = place.open()
        assert await mine.append(upserts("a")) == Appended(1, 1)
        assert ids(mine.read(0, 10)) == [["a"]]


async def test_calls_that_are_cancelled_leave_the_log_well(log: ChangeLog) -> None:
    for delay_ms in range(10):
        calls = [asyncio.ensure_future(log.append(upserts(f"{delay_ms}-{n}"))) for n in range(30)]
        await asyncio.sleep(delay_ms / 1000)
        for call in calls:
            call.cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        await log.append(upserts(f"{delay_ms}-last"))  # what was begun before is logged or never will be
        batches = everything(log)
        by_first = dict(zip((logged.first for logged in batches), ids(batches), strict=True))
        for n, answer in enumerate(done):
            if isinstance(answer, Appended):
                assert by_first[answer.first] == [f"{delay_ms}-{n}"]
    found = [product_id for batch in by_first.values() for product_id in batch]
    assert len(found) == len(set(found)) == log.head()


@pytest.mark.parametrize(
    ("changes", "vectors"),
    [
        ((), NO_VECTORS),
        ((Delete("a"),), np.zeros((1, 3), np.float16)),
        ((Upsert(Product("a", "")),), NO_VECTORS),
        ((Upsert(Product("a", "")),), np.zeros((1, 3), np.float32)),
        ((Upsert(Product("a", "")),), np.zeros(3, np.float16)),
    ],
)
def test_what_no_replica_could_apply_is_no_batch(changes: tuple[Upsert, ...], vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"at least one change|no vectors"):
        ChangeBatch(changes=changes, vectors=vectors, encoder="e")
