"""A service's builds: begun when enough has changed, in a process that ends with it, and tried again later when they fail."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.arrays import silent
from models.bundles.bundle import Bundle
from serving.catalogue.change import Delete
from serving.catalogue.sqlite_log import SqliteLog
from serving.cli.compaction import NICENESS, Compaction
from serving.cli.generations import alone, compact, roll_back
from serving.config import CatalogueConfig
from tests.generations import logged


@pytest.fixture
def mine(shop_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop_bundle, tmp_path / "mine"))


@pytest.fixture
def settings(tmp_path: Path) -> CatalogueConfig:
    (tmp_path / "aisle.toml").write_text(f'[catalogue]\npath = "{tmp_path / "changes.db"}"\n')
    return CatalogueConfig(path=tmp_path / "changes.db", compact_after=2)


@pytest.fixture
def log(mine: Path, tmp_path: Path) -> Iterator[SqliteLog]:
    opened = SqliteLog(tmp_path / "changes.db", Bundle(mine).manifest.line, "normal")
    yield opened
    opened._close()


@pytest.fixture
def compaction(
    mine: Path, settings: CatalogueConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Compaction]:
    monkeypatch.setattr("serving.cli.compaction.LOOK_S", 0)
    begun = Compaction(mine, tmp_path / "aisle.toml", tmp_path)
    begun.serves(settings)
    yield begun
    begun.stop()


def change(log: SqliteLog, mine: Path, *product_ids: str) -> None:
    logged(log, [Delete(product_id) for product_id in product_ids], Bundle(mine))


def ended(compaction: Compaction) -> bool:
    """What `poll` says when the build that runs has ended."""
    give_up = time.monotonic() + 240
    while not (was_built := compaction.poll()) and compaction._process:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    return was_built


def test_generations_are_built_and_the_log_forgets_what_two_have(
    compaction: Compaction, log: SqliteLog, mine: Path, settings: CatalogueConfig
) -> None:
    change(log, mine, "A-1001")
    assert not compaction.poll()
    assert compaction._process is None
    change(log, mine, "A-1002")
    assert not compaction.poll()
    assert compaction._process
    assert os.getpriority(os.PRIO_PROCESS, compaction._process.pid) == NICENESS
    assert ended(compaction)
    assert Bundle(mine).manifest.sequence == 2
    compaction.serves(settings)
    assert len(log.read(0, 10)) == 2  # the generation before has none of them
    change(log, mine, "A-1003", "A-1004")
    compaction.poll()
    assert ended(compaction)
    log.report(1)  # a process that is slow
    compaction.serves(settings)
    assert [batch.last for batch in log.read(1, 10)] == [2, 4]
    log.report(4)
    compaction.serves(settings)
    assert [batch.last for batch in log.read(2, 10)] == [4]
    # A rollback is not undone at once, and costs no change that the older generation needs.
    roll_back(mine, lambda _: None)
    compaction.serves(settings)
    change(log, mine, "A-1005")
    assert not compaction.poll()
    assert compaction._process is None
    assert [batch.last for batch in log.read(2, 10)] == [4, 5]


def test_a_build_that_fails_is_said_and_tried_again_later(
    compaction: Compaction,
    log: SqliteLog,
    mine: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(log, mine, "A-1001", "A-1002")
    monkeypatch.setattr("serving.logs.log.propagate", True)
    with alone(mine):
        compaction.poll()
        assert not ended(compaction)
    fields = caplog.records[-1].fields  # type: ignore[attr-defined]
    assert fields["error"] == f"another process builds or swaps generations of {mine}"
    assert fields["again_in_s"] == 30
    assert not compaction.poll()
    assert compaction._process is None
    compaction.failed("again")
    assert caplog.records[-1].fields["again_in_s"] == 60  # type: ignore[attr-defined]
    compaction._look_at = 0
    compaction.poll()
    assert ended(compaction)


def test_what_another_built_is_taken_in(compaction: Compaction, log: SqliteLog, mine: Path) -> None:
    change(log, mine, "A-1001", "A-1002")
    compact(mine, log, silent)
    assert compaction.poll()
    assert compaction._process is None


def test_a_build_ends_with_its_service(compaction: Compaction, log: SqliteLog, mine: Path) -> None:
    before = Bundle(mine).manifest
    change(log, mine, "A-1001", "A-1002")
    compaction.poll()
    process = compaction._process
    assert process
    compaction.stop()
    assert process.returncode == -9
    assert Bundle(mine).manifest == before
