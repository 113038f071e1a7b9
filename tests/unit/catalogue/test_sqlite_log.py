"""What the SQLite log promises beyond the other: its file, a full disk, damage, the page of its replicas."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from serving.catalogue.log import Appended, LogEnded
from serving.catalogue.replica_page import ReplicaPage
from serving.catalogue.sqlite_log import SqliteLog, create
from serving.config import ConfigError
from serving.errors import AisleError, Code, Overloaded, Unavailable
from serving.storage.outage import StoreFull
from tests.change_writers import start_writer, upserts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "changes.db"


@pytest.fixture
async def log(path: Path) -> AsyncIterator[SqliteLog]:
    opened = SqliteLog(path, "line", "full")
    yield opened
    await opened.close()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("aisle")
    propagate, logger.propagate = logger.propagate, True
    yield caplog
    logger.propagate = propagate


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """As another user, if this one may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def appended(path: Path, *ids: str) -> None:
    """Appends a batch to an empty log."""

    async def append() -> None:
        log = SqliteLog(path, "line", "full")
        assert await log.append(upserts(*ids)) == Appended(1, len(ids))
        await log.close()

    asyncio.run(append())


def read_ids(log: SqliteLog) -> list[str]:
    return [change.product_id for logged in log.read(0, 10**6) for change in logged.batch.changes]


class TestFullDisk:
    async def test_it_says_so_and_keeps_what_it_acknowledged_and_goes_on_when_there_is_space(self, path: Path) -> None:
        log = SqliteLog(path, "line", "full")
        connection = log._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")
        done: list[str] = []
        with pytest.raises(StoreFull) as caught:  # noqa: PT012 - it is some call of many
            for n in range(1000):
                await log.append(upserts(f"{n}", title="x" * 1000))
                done.append(f"{n}")
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert "the catalogue log has no space left" in caught.value.message
        assert str(path) not in caught.value.message
        assert len(done) > 5
        assert read_ids(log) == done
        connection.execute("PRAGMA max_page_count = 1000000")
        assert await log.append(upserts("late")) == Appended(len(done) + 1, len(done) + 1)
        await log.close()

    async def test_a_file_that_may_not_grow_loses_nothing_that_was_acknowledged(self, path: Path) -> None:
        process = start_writer("sqlite", str(path), "w", max_file_bytes=400_000)
        output, _ = process.communicate(timeout=240)
        *done, last = output.splitlines()
        assert last in ("failed STORE_FULL", "failed UNAVAILABLE")
        assert len(done) > 5
        log = SqliteLog(path, "line", "full")
        assert read_ids(log)[: 3 * len(done)] == [f"w-{n}-{k}" for n in range(len(done)) for k in range(3)]
        await log.close()

    async def test_dropping_makes_space(self, path: Path) -> None:
        log = SqliteLog(path, "line", "full")
        connection = log._connection
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0] + 100}")
        with pytest.raises(StoreFull):  # noqa: PT012 - it is some call of many
            for n in range(1000):
                await log.append(upserts(f"{n}", title="x" * 1000))
        head = log.head()
        log.drop(head - 5)
        for n in range(20):
            assert (await log.append(upserts(f"{n}", title="x" * 1000))).first == head + 1 + n
        await log.close()


class TestDamage:
    """SQLite opens a write-ahead log up to its last whole transaction, and drops the rest without a word."""

    async def test_what_a_torn_end_costs_is_said_and_the_rest_is_there(
        self, path: Path, tmp_path: Path, said: pytest.LogCaptureFixture
    ) -> None:
        log = SqliteLog(path, "line", "full")
        for n in range(20):
            await log.append(upserts(f"{n}", change_id=f"{n}"))
        wal = path.with_name(path.name + "-wal")
        size = wal.stat().st_size
        for case, damage in enumerate((
            lambda file: file.truncate(size - 1),
            lambda file: file.truncate(size - 10_000),
            lambda file: (file.seek(size - 100), file.write(b"\xff" * 100)),
            lambda file: (file.seek(size // 2), file.write(b"\xff")),
            lambda file: file.truncate(0),
        )):  # fmt: skip
            folder = tmp_path / f"copy{case}"
            folder.mkdir()
            for name in ("", "-wal", "-replicas"):
                shutil.copy(f"{path}{name}", folder)
            with (folder / wal.name).open("r+b") as file:
                damage(file)
            said.clear()
            if not damage_leaves_tables(folder / path.name):
                with contextlib.suppress(ConfigError):
                    await SqliteLog(folder / path.name, "line", "full").close()
                continue
            copy = SqliteLog(folder / path.name, "line", "full")
            left = copy.head()
            assert left < 20
            assert read_ids(copy) == [str(n) for n in range(left)]
            assert "has lost changes" in said.text
            fields = [record.fields for record in said.records if hasattr(record, "fields")]
            assert fields == [{"path": str(folder / path.name), "first": left + 1, "last": 20}]
            with pytest.raises(LogEnded, match=f"ends with change {left}, but 20 were applied"):
                copy.read(20, 10)
            assert await copy.append(upserts("19", change_id="19")) == Appended(left + 1, left + 1)
            copy.wait(left, 60)  # neither does the page promise what is gone
            assert len(copy.read(left, 10)) == 1
            await copy.close()
            said.clear()
            await SqliteLog(folder / path.name, "line", "full").close()
            assert not said.records
        await log.close()

    async def test_after_a_kill_nothing_is_said(self, path: Path, said: pytest.LogCaptureFixture) -> None:
        writer = start_writer("sqlite", str(path), "w")
        assert writer.stdout is not None
        for _ in range(10):
            writer.stdout.readline()
        writer.kill()
        writer.wait()
        await SqliteLog(path, "line", "full").close()
        assert not said.records

    def test_a_file_that_was_deleted_is_said_and_the_new_one_works(
        self, path: Path, said: pytest.LogCaptureFixture
    ) -> None:
        appended(path, "a", "b")
        path.unlink()
        log = SqliteLog(path, "line", "full")
        assert "has lost changes" in said.text
        assert log._page.head == 0
        asyncio.run(log.close())
        appended(path, "c")

    async def test_damaged_changes_are_not_applied(self, path: Path, log: SqliteLog) -> None:
        for name in "abc":
            await log.append(upserts(name))
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE batches SET vectors = zeroblob(length(vectors)) WHERE last = 2")
        assert len(log.read(2, 10)) == 1
        with pytest.raises(LogEnded, match="change 2 or one of the next cannot be read from the log: .* damaged"):
            log.read(0, 10)
        with sqlite3.connect(path) as connection:
            connection.execute("DELETE FROM batches WHERE last = 2")
        with pytest.raises(LogEnded, match="change 2 is not in the log, but 3 is"):
            log.read(0, 10)

    async def test_errors_tell_a_caller_nothing_of_the_machine(self, path: Path, log: SqliteLog) -> None:
        await log.append(upserts("a"))
        for file in path.parent.glob("changes.db*"):
            if not file.name.endswith("-replicas"):
                with file.open("r+b") as open_file:
                    open_file.write(b"\xff" * 8192)
        with pytest.raises(AisleError) as caught:  # noqa: PT012 - it is some call of many
            for n in range(100):
                await log.append(upserts(str(n)))
                log.read(0, 10)
        assert "catalogue log" in caught.value.message
        assert "/" not in caught.value.message


def damage_leaves_tables(path: Path) -> bool:
    """Says whether the tables are left; a copy of the file is opened, as opening it writes."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("", "-wal"):
            shutil.copy(f"{path}{name}", folder)
        connection = sqlite3.connect(Path(folder, path.name))
        try:
            return bool(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
        finally:
            connection.close()


class TestGroups:
    async def test_more_than_it_can_record_is_refused_at_once(self, log: SqliteLog, path: Path) -> None:
        batch = upserts(*(str(n) for n in range(1000)))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # the writer waits, however fast it is
        calls = [asyncio.ensure_future(log.append(batch)) for _ in range(60)]
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
        answers = await asyncio.gather(*calls, return_exceptions=True)
        other.close()
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        assert refused
        assert all(isinstance(error, Overloaded) and error.retry_after_s for error in refused)
        assert log.head() == 1000 * (len(answers) - len(refused))

    async def test_a_closed_log_refuses_and_what_was_queued_is_kept(self, path: Path) -> None:
        log = SqliteLog(path, "line", "full")
        calls = [asyncio.ensure_future(log.append(upserts(str(n)))) for n in range(50)]
        await asyncio.sleep(0)
        await log.close()
        assert [answer.first for answer in await asyncio.gather(*calls)] == list(range(1, 51))
        with pytest.raises(Unavailable, match="the catalogue log is closing"):
            await log.append(upserts("a"))

    async def test_another_process_that_holds_the_file_makes_it_unavailable_for_that_time(
        self, log: SqliteLog, path: Path
    ) -> None:
        await log.append(upserts("a"))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="the catalogue log is busy"):
            await log.append(upserts("b"))
        assert read_ids(log) == ["a"]  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        assert await log.append(upserts("b")) == Appended(2, 2)

    async def test_a_reader_that_fails_does_not_fail_what_was_committed(self, log: SqliteLog) -> None:
        log._reader.close()
        calls = [log.append(upserts(str(n))) for n in range(20)]
        assert [answer.first for answer in await asyncio.gather(*calls)] == list(range(1, 21))
        with pytest.raises(Unavailable):
            log.read(0, 10)


class TestFile:
    async def test_it_is_there_again_after_a_restart(self, path: Path) -> None:
        for n in range(3):
            log = SqliteLog(path, "line", "full")
            await log.append(upserts(str(n)))
            assert read_ids(log) == [str(k) for k in range(n + 1)]
            await log.close()

    def test_its_files_and_its_new_folder_are_the_owners_only(self, tmp_path: Path) -> None:
        path = tmp_path / "state" / "aisle" / "shop.db"
        connection, page = create(path, "line", "full")
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
        assert len(list(path.parent.iterdir())) >= 2
        connection.close()
        page.close()

    def test_a_log_of_another_catalogue_is_refused_and_left_as_it_is(self, path: Path) -> None:
        appended(path, "a", "b")
        before = path.read_bytes()
        with pytest.raises(
            ConfigError, match="holds 2 changes of another catalogue than this bundle's: choose another"
        ):
            SqliteLog(path, "other line", "full")
        assert path.read_bytes() == before

    def test_what_is_something_else_is_refused_and_left_as_it_is(self, tmp_path: Path) -> None:
        text = tmp_path / "notes.txt"
        text.write_text("not a database, but long enough to look like one" * 100)
        with pytest.raises(ConfigError, match=r"catalogue\.path: .*notes\.txt cannot be used"):
            create(text, "line", "full")
        other = tmp_path / "other.db"
        with sqlite3.connect(other) as connection:
            connection.execute("CREATE TABLE t (x)")
        before = other.read_bytes()
        with pytest.raises(ConfigError, match="database of another application"):
            create(other, "line", "full")
        assert other.read_bytes() == before
        with pytest.raises(ConfigError, match="cannot be written"):
            create(tmp_path, "line", "full")

    def test_another_layout_is_refused_with_both_numbers(self, path: Path) -> None:
        connection, page = create(path, "line", "full")
        connection.execute("PRAGMA user_version = 7")
        connection.close()
        page.close()
        with pytest.raises(ConfigError, match="has layout 7, this Aisle reads layout 1"):
            create(path, "line", "full")

    def test_a_folder_that_may_not_be_written_is_named(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o555)
            with (
                without_rights(),
                pytest.raises(ConfigError, match=r"catalogue\.path: .* cannot be written: Permission"),
            ):
                create(folder / "changes.db", "line", "full")
            folder.chmod(0o755)

    def test_a_file_that_may_only_be_read_is_named(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "changes.db")
            appended(path, "a")
            for file in (*path.parent.iterdir(), path.parent):
                file.chmod(0o555)
            with without_rights(), pytest.raises(ConfigError, match=r"catalogue\.path: .* cannot be (written|used)"):
                create(path, "line", "full")
            path.parent.chmod(0o755)

    def test_processes_that_make_it_at_once_share_it(self, path: Path) -> None:
        script = (
            "import sys; from pathlib import Path; from serving.catalogue.sqlite_log import create; sys.stdin.readline(); "
            "create(Path(sys.argv[1]), 'line', 'full')"
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


class TestPage:
    async def test_a_page_that_another_process_set_back_or_ahead_is_mended(self, log: SqliteLog) -> None:
        await log.append(upserts("a", "b"))
        for wrong in (0, 1):
            log._page.head = wrong
            log.wait(1, 60)
            assert log._page.head == 2
        log._page.head = 1000
        log.wait(2, 60)  # may be something
        assert log.read(2, 10) == []
        assert log._page.head == 2
        log._page.head = 0
        await log.append(upserts("c"))
        assert log._page.head == 3

    def test_a_slot_of_a_process_that_died_is_used_again(self, tmp_path: Path) -> None:
        path = tmp_path / "page"
        pages = [ReplicaPage(path) for _ in range(3)]
        for n, page in enumerate(pages):
            page.report(n)
        del pages[1]._words  # as the death of its process does
        pages[1]._map.close()
        os.close(pages[1]._file)
        assert [replica.applied for replica in pages[0].replicas()] == [0, 2]
        late = ReplicaPage(path)
        late.report(7)
        assert [replica.applied for replica in pages[0].replicas()] == [0, 7, 2]
        for page in (pages[0], pages[2], late):
            page.close()

    def test_more_processes_than_it_has_room_for_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("serving.catalogue.replica_page.MAX_REPLICAS", 2)
        pages = [ReplicaPage(tmp_path / "page") for _ in range(3)]
        pages[0].report(1)
        pages[1].report(1)
        with pytest.raises(ConfigError, match="more than 2 processes"):
            pages[2].report(1)
        for page in pages:
            page.close()
