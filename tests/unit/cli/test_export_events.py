"""`aisle export-events`, as a user calls it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from models.events.event import Event, EventKind
from models.events.event_log import open_log
from models.events.shown_pages import page_schema
from serving.cli.main import app
from serving.shoppers.sqlite_store import SqliteStore
from serving.shoppers.store import Retention

NOW = time.time_ns() // 1_000_000
DAY_MS = 24 * 3600 * 1000
Aisle = Callable[..., str]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a shop with two days of pages, and a click on each."""
    pages = tmp_path / "pages"
    pages.mkdir()
    rows = [
        {
            "time": NOW - age * DAY_MS, "request_id": f"r{age}", "locale": "en-US", "query": "lamp", "searched_query": "lamp",
            "bundle_version": "v", "ranked_by": "none", "sorted_by": "", "is_filtered": False, "offset": 0,
            "product_id": ["a", "b"], "score": [1.0, 0.5], "price_minor": [5, None],
        }
        for age in (0, 2)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=page_schema((), 1.0)), pages / "0.parquet")
    asyncio.run(record(tmp_path / "shoppers.db"))
    file = tmp_path / "aisle.toml"
    file.write_text(f"[shoppers]\npath = '{tmp_path / 'shoppers.db'}'\n[request_log]\nshare = 0.5\npath = '{pages}'\n")
    return file


async def record(path: Path) -> None:
    store = SqliteStore(path, Retention(), "normal")
    await store.record(
        [
            Event(
                f"e{age}",
                NOW + 1000 - age * DAY_MS,
                "ann@example.org",
                "s",
                "en-US",
                EventKind.CLICK,
                "b",
                request_id=f"r{age}",
            )
            for age in (0, 2)
        ]
    )
    await store.close()


@pytest.fixture
def aisle(config: Path, shop_bundle: Path) -> Aisle:
    def run(*arguments: object, exit_code: int = 0) -> str:
        words = ["export-events", "--bundle", str(shop_bundle), "--config", str(config), *map(str, arguments)]
        told = CliRunner().invoke(app, words, env={"COLUMNS": "250"})
        assert told.exit_code == exit_code, told.output
        assert "Traceback" not in told.output
        return " ".join((told.stdout if exit_code == 0 else told.stderr).split())

    return run


def test_it_says_what_it_wrote_and_what_comes_next(aisle: Aisle, tmp_path: Path) -> None:
    file = tmp_path / "new" / "log.parquet"
    said = aisle("--out", file)
    assert "2 pages in the request log 2 events of 1 shoppers in the store 2 events on the page that they name" in said
    assert "no page has a pseudonym" in said
    assert "6 events, 4 of them impressions" in said
    assert f"train with: aisle train all --catalogue ... --events {file} --out SHOP" in said
    assert len(open_log(file)) == 6
    assert b"ann@" not in file.read_bytes()
    assert list(file.parent.iterdir()) == [file]


def test_times_limit_it(aisle: Aisle, tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    yesterday = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(NOW / 1000 - 86_400))
    assert "3 events, 2 of them impressions" in aisle("--out", file, "--since", yesterday)
    assert "3 events, 2 of them impressions" in aisle("--out", file, "--until", f"{yesterday}+00:00", "--force")


def test_what_cannot_be_exported_is_said_in_a_line(aisle: Aisle, tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    assert "--since is a date or time as 2026-11-01" in aisle("--out", file, "--since", "monday", exit_code=1)
    assert "must be before --until" in aisle(
        "--out", file, "--since", "2026-02-01", "--until", "2026-01-01", exit_code=1
    )
    said = aisle("--out", file, "--since", "2020-01-01", "--until", "2020-02-01", exit_code=1)
    assert "there is nothing to export: no page in" in said
    assert "which holds no ids of shoppers" in aisle("--out", file, "--shopper-ids", exit_code=1)
    assert not file.exists()
    file.write_text("mine")
    assert "exists; give --force to replace it" in aisle("--out", file, exit_code=1)
    assert file.read_text() == "mine"
    assert "is a folder" in aisle("--out", tmp_path, "--force", exit_code=1)
    assert "is a folder" in aisle("--out", tmp_path, exit_code=1)


def test_files_that_are_not_whole_are_named(aisle: Aisle, tmp_path: Path) -> None:
    (tmp_path / "pages" / "9.parquet").write_bytes(b"PAR1 half of")
    said = aisle("--out", tmp_path / "log.parquet")
    assert "1 files of the request log cannot be read and were left out: 9.parquet" in said


def test_without_a_request_log_it_exports_clicks_and_says_what_is_missing(aisle: Aisle, tmp_path: Path) -> None:
    (tmp_path / "pages" / "0.parquet").unlink()
    said = aisle("--out", tmp_path / "log.parquet")
    assert "2 events without impressions: the page that they name was not logged" in said
    assert "no impressions:" in said
    assert "set share in [request_log]" in said
