"""The request log holds what was shown, within its bounds, and no search ever waits for it or fails because of it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.events.shown_pages import FEATURES_KEY, PAGE_SCHEMA
from models.ranking.feature_names import FEATURES
from serving.compute.filter_masks import ProductFilter
from serving.compute.retrieval import Candidates
from serving.compute.value_order import SortBy
from serving.config import ConfigError, RequestLogConfig
from serving.request_log import request_log as module
from serving.request_log.page_files import PageFiles, check_request_log
from serving.request_log.page_writer import PageCounts, Told
from serving.request_log.request_log import RequestLog
from serving.search.request import RankModel, Search
from serving.search.results import Results

MANIFEST: Any = SimpleNamespace(name="shop", version="v1", locales=("en-US", "fr-CA"))
ROOT = Path(__file__).parents[3]


class Products:
    """Product n costs n minor units; every third has no price."""

    def id(self, row: int) -> str:
        return f"p{row}"

    def price_minor(self, row: int) -> int | None:
        return row if row % 3 else None


def tag_of(shopper_id: str, time_ms: int) -> bytes:
    return f"tag of {shopper_id}".encode() if shopper_id != "stranger" else b""


Open = Callable[..., RequestLog]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pages"


@pytest.fixture
def open_log(folder: Path) -> Iterator[Open]:
    opened: list[RequestLog] = []

    def open_(**settings: object) -> RequestLog:
        config = RequestLogConfig.model_validate({"share": 1.0, "path": folder, **settings})
        opened.append(RequestLog(config, MANIFEST, Products(), tag_of))  # type: ignore[arg-type]
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


def results(*rows: int, **changes: Any) -> Results:
    hits = Candidates.of_rows(list(rows))
    return Results(hits=hits, offset=0, has_more=False, retrieval_ranks=range(len(rows)), **changes)


def search(query: str = "red sofa", **changes: Any) -> Search:
    return Search(query=query, page_size=24, **changes)


def pages_in(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_a_page_is_written_as_it_was_shown(open_log: Open, folder: Path) -> None:
    log = open_log()
    before = time.time()
    log.add(
        "r1",
        search("red sfoa", locale="fr-CA", offset=24),
        results(4, 3, searched_query="red sofa", ranked_by=RankModel.STUDENT),
    )
    log.add("r2", search("", filter=ProductFilter(brands=("Ikea",)), sort=SortBy("price")), results())
    log.add("r3", search(filter=ProductFilter(before_row=9)), results(1))
    log.close()
    first, second, third = pages_in(folder)
    assert before - 1 <= first.pop("time").timestamp() <= time.time()
    assert first == {
        "request_id": "r1", "locale": "fr-CA", "query": "red sfoa", "searched_query": "red sofa", "shopper": None, "bundle_version": "v1",
        "ranked_by": "student", "sorted_by": "", "is_filtered": False, "offset": 24, "product_id": ["p4", "p3"], "score": [0.0, 0.0],
        "price_minor": [4, None], "features": None,
    }  # fmt: skip
    assert (second["sorted_by"], second["is_filtered"], second["locale"], second["product_id"]) == (
        "price",
        True,
        "en-US",
        [],
    )
    assert not third["is_filtered"], "a page token fixes the rows, the caller filters nothing"
    (file,) = folder.glob("*.parquet")
    assert pq.read_schema(file).equals(PAGE_SCHEMA)
    assert file.stat().st_mode & 0o777 == 0o600
    assert (log.counts().logged, log.counts().files, log.counts().folder_bytes) == (3, 1, file.stat().st_size)


def test_features_are_those_of_the_ranked_hits_and_the_file_names_them(open_log: Open, folder: Path) -> None:
    log = open_log(features=True)
    read = np.arange(2 * len(FEATURES), dtype=np.float32).reshape(2, -1)
    read[1, 3] = np.nan
    log.add("r1", search(), results(1, 2, 3, features=read))
    log.add("r2", search(), results(1))
    log.close()
    first, second = pages_in(folder)
    np.testing.assert_array_equal(np.reshape(first["features"], (2, -1)), read)
    assert second["features"] is None
    (file,) = folder.glob("*.parquet")
    assert json.loads(pq.read_schema(file).metadata[FEATURES_KEY]) == list(FEATURES)


class TestShoppers:
    def test_by_default_no_page_names_a_shopper(self, open_log: Open, folder: Path) -> None:
        log = open_log()
        log.add("r1", search(shopper_id="ann"), results(1))
        log.close()
        assert pages_in(folder)[0]["shopper"] is None
        assert all(b"ann" not in file.read_bytes() for file in folder.iterdir())

    def test_a_pseudonym_is_the_tag_of_the_store(self, open_log: Open, folder: Path) -> None:
        log = open_log(shoppers="pseudonym")
        for shopper in ("ann", "", "stranger"):
            log.add("r", search(shopper_id=shopper), results(1))
        log.close()
        assert [page["shopper"] for page in pages_in(folder)] == [b"tag of ann", None, None]


class TestSampling:
    def test_a_share_of_the_shoppers_is_logged_with_all_their_searches(self, open_log: Open) -> None:
        log = open_log(share=0.2)
        drawn = [shopper for shopper in map(str, range(5000)) if log.samples(shopper, "r1")]
        assert 850 < len(drawn) < 1150
        assert all(log.samples(shopper, f"r{n}") for n, shopper in enumerate(drawn))
        assert 850 < sum(log.samples("", f"r{n}") for n in range(5000)) < 1150

    def test_a_larger_share_keeps_the_shoppers_of_a_smaller_one(self, open_log: Open) -> None:
        small, large = open_log(share=0.1), open_log(share=0.3)
        drawn = {shopper for shopper in map(str, range(2000)) if small.samples(shopper, "")}
        assert drawn < {shopper for shopper in map(str, range(2000)) if large.samples(shopper, "")}

    def test_a_share_of_one_is_everything(self, open_log: Open) -> None:
        assert all(open_log().samples("", f"r{n}") for n in range(1000))


class TestBounds:
    def test_more_than_fits_the_queue_is_dropped_and_counted(self, open_log: Open, folder: Path) -> None:
        log = open_log()
        waiting = 3 * module.MAX_QUEUED  # half a second of the thread's work
        log._queue.extend([log._page("r", search(), results(1))] * waiting)
        log.add("one too many", search(), results(1))
        log.close()
        assert (log.counts().logged, log.counts().dropped) == (waiting, 1)
        assert all(page["request_id"] == "r" for page in pages_in(folder))

    def test_a_file_is_written_before_it_is_too_large_for_the_memory(self, open_log: Open, folder: Path) -> None:
        log = open_log(features=True)
        large = np.zeros((1000, len(FEATURES)), np.float32)  # 120 KB, of which there fit some 280 into a file
        for n in range(400):
            log.add(f"r{n}", search(), results(1, features=large))
        log.close()
        assert (log.counts().files, log.counts().logged) == (2, 400)
        assert {page["request_id"] for page in pages_in(folder)} == {f"r{n}" for n in range(400)}

    def test_the_oldest_files_are_deleted_when_there_are_too_many_bytes(self, folder: Path, open_log: Open) -> None:
        folder.mkdir()
        now = int(time.time() * 1000)
        names = [f"{now - age:013}-00000000-0.parquet" for age in (3000, 2000, 1000)]
        for name in names:
            (folder / name).write_bytes(bytes(600_000))
        (folder / "notes.txt").write_bytes(bytes(600_000))
        log = open_log(max_bytes=1024**2)
        log.add("r", search(), results(1))
        log.close()
        left = {file.name for file in folder.iterdir()}
        assert not left & set(names[:2])
        assert {names[2], "notes.txt"} < left
        assert log.counts().deleted_files == 2
        assert 600_000 < log.counts().folder_bytes < 1024**2

    def test_files_older_than_the_days_are_deleted(self, folder: Path, open_log: Open) -> None:
        folder.mkdir()
        old = folder / f"{int(time.time() * 1000) - 3 * 86_400_000:013}-00000000-0.parquet"
        old.write_bytes(b"")
        open_log(max_days=4).close()
        assert old.exists()
        open_log(max_days=2).close()
        assert not old.exists()

    def test_what_a_dead_writer_left_goes_after_an_hour(self, folder: Path, open_log: Open) -> None:
        folder.mkdir()
        young, old = folder / ".a.parquet.partial", folder / ".b.parquet.partial"
        for partial in (young, old):
            partial.touch()
        os.utime(old, (time.time() - 4000,) * 2)
        open_log().close()
        assert young.exists()
        assert not old.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[Any]]]:
    """The warnings of the log of messages, with their fields."""
    aisle = logging.getLogger("aisle")
    propagates, aisle.propagate = aisle.propagate, True
    with caplog.at_level(logging.WARNING, "aisle"):
        yield lambda: [(record.getMessage(), getattr(record, "fields", {})) for record in caplog.records]
    aisle.propagate = propagates


class TestFailure:
    def test_a_full_disk_loses_pages_counts_them_and_says_so(
        self, small_disk: Path, open_log: Open, messages: Callable[[], list[Any]]
    ) -> None:
        padding = small_disk / "padding"
        padding.write_bytes(bytes(60_000))
        log = open_log(path=small_disk)
        for n in range(500):
            log.add(f"{n:032x}", search(), results(*range(n, n + 24)))
        log.close()
        assert (log.counts().failed, log.counts().logged, log.counts().files) == (500, 0, 0)
        assert [file.name for file in small_disk.iterdir()] == ["padding"]
        ((event, fields),) = messages()
        assert event == "request log loses pages; searches go on"
        assert fields["failed"] == 500
        assert "No space left" in fields["error"]
        padding.unlink()
        log = open_log(path=small_disk)
        log.add("r", search(), results(1))
        log.close()
        assert [page["request_id"] for page in pages_in(small_disk)] == ["r"]

    def test_a_folder_that_goes_while_it_serves_is_made_again_and_one_that_cannot_be_is_counted(
        self, folder: Path, open_log: Open
    ) -> None:
        log = open_log()
        folder.parent.joinpath("pages").write_text("a file is in its place")
        log.add("r", search(), results(1))
        log.close()
        assert log.counts().failed == 1
        folder.unlink()
        log = open_log()
        log.add("r", search(), results(1))
        log.close()
        assert len(pages_in(folder)) == 1

    def test_what_a_search_brings_never_comes_back_as_an_error(self, open_log: Open) -> None:
        broken: Any = SimpleNamespace(hits=None)
        open_log().add("r", search(), broken)

    def test_the_folder_is_checked_at_start(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match=r"request_log.path: .* cannot be written: .*; name another folder"):
            check_request_log(RequestLogConfig(share=0.5, path=tmp_path / "file" / "pages"), "shop")
        check_request_log(RequestLogConfig(share=0, path=tmp_path / "file" / "pages"), "shop")
        check_request_log(RequestLogConfig(share=0.5, path=tmp_path / "pages"), "shop")
        assert list((tmp_path / "pages").iterdir()) == []

    WRITE = """
import os, signal, sys
from pathlib import Path
import pyarrow as pa
from models.events.shown_pages import PAGE_SCHEMA
from serving.request_log import page_files

files = page_files.PageFiles(Path(sys.argv[1]), max_bytes=1 << 30, max_days=1)
batch = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in PAGE_SCHEMA], schema=PAGE_SCHEMA)
files.write([batch])
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
files.write([batch])
"""

    def test_a_kill_while_a_file_is_written_leaves_whole_files_only(self, folder: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-c", self.WRITE, folder],
            check=False,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/protos"},
        )
        assert done.returncode == -signal.SIGKILL
        assert len(list(folder.iterdir())) == 2
        (whole,) = folder.glob("*.parquet")
        assert pq.read_table(whole).num_rows == 0


def test_losses_are_told_once_a_minute(messages: Callable[[], list[Any]]) -> None:
    told, counts = Told(), PageCounts()
    told.tell(counts)
    assert messages() == []
    for _ in range(3):
        counts.dropped += 2
        told.tell(counts)
    assert [fields["dropped"] for _, fields in messages()] == [2]
    told.tell(counts, at_once=True)
    assert [fields["dropped"] for _, fields in messages()] == [2, 4]


def test_several_processes_share_a_folder(folder: Path) -> None:
    one, other = (PageFiles(folder, max_bytes=1 << 30, max_days=1) for _ in range(2))
    batch = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in PAGE_SCHEMA], schema=PAGE_SCHEMA)
    for files in (one, other, one):
        files.write([batch])
    assert len(list(folder.glob("*.parquet"))) == 3
