"""Who is forgotten in the shopper store is forgotten in the request log. The tests read the files as bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from models.events.event import Event, EventKind
from models.events.exporting.page_log import read_pages
from models.events.exporting.served_log import ServedLog
from serving.compute.retrieval import Candidates
from serving.config import RequestLogConfig, ShoppersConfig
from serving.request_log.request_log import RequestLog
from serving.search.request import Search
from serving.search.results import Results
from serving.shoppers.sqlite_store import SqliteStore
from serving.shoppers.store import Retention, now_ms
from serving.shoppers.stored_events import stored_events

MANIFEST: Any = SimpleNamespace(name="shop", version="v1", locales=("en-US",))
PRODUCTS: Any = SimpleNamespace(id=lambda row: f"p{row}", price_minor=lambda row: row)
PAGE = Results(hits=Candidates.of_rows([1, 2]), offset=0, has_more=False, retrieval_ranks=range(1, 3))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "shoppers.db", Retention(), "full")
    yield opened
    await opened.close()


def log_pages(store: SqliteStore, folder: Path, *shoppers: str) -> None:
    config = RequestLogConfig(share=1, path=folder, shoppers="pseudonym")
    log = RequestLog(config, MANIFEST, PRODUCTS, store.page_tag)
    for number, shopper in enumerate(shoppers):
        log.add(f"r{number}", Search(query="sofa", shopper_id=shopper, page_size=2), PAGE)
    log.close()


def holds(folder: Path, text: bytes) -> bool:
    return any(text in file.read_bytes() for file in folder.rglob("*") if file.is_file())


def tags(folder: Path) -> list[bytes]:
    return [tag for file in folder.glob("*.parquet") for tag in pq.read_table(file)["shopper"].to_pylist()]


def owners(tmp_path: Path) -> list[str]:
    """The shopper of each page in an export."""
    served = ServedLog(read_pages(tmp_path / "pages"))
    served.join(stored_events(ShoppersConfig(path=tmp_path / "shoppers.db"), "shop"))
    return [served.rows.owner.get(page, "") for page in range(served.counts.pages)]


async def test_pages_of_a_forgotten_shopper_lead_nowhere(store: SqliteStore, tmp_path: Path) -> None:
    for name in ("<<ann>>", "<<bob>>"):
        await store.record([Event("e", now_ms(), name, "s", "en-US", EventKind.CLICK, "p1")])
    log_pages(store, tmp_path / "pages", "<<ann>>", "<<bob>>", "<<ann>>", "<<stranger>>")
    ann, bob, again, stranger = owners(tmp_path)
    assert ann == again
    assert len({ann, bob, stranger, ""}) == 3
    assert not holds(tmp_path, b"<<")  # no id is anywhere, before and after
    (of_ann, _, _, _), key = tags(tmp_path / "pages"), store._keys.find("<<ann>>")
    assert key
    assert holds(tmp_path, key.secret)
    await store.forget("<<ann>>")
    assert owners(tmp_path) == ["", bob, "", ""]
    assert not holds(tmp_path, key.secret[:16])
    assert not holds(tmp_path, key.secret[16:])  # which makes the tag of each day
    await store.record([Event("e", now_ms(), "<<ann>>", "s", "en-US", EventKind.CLICK, "p1")])
    log_pages(store, tmp_path / "pages", "<<ann>>")
    assert of_ann not in tags(tmp_path / "pages")[4:]
    assert owners(tmp_path)[:4] == ["", bob, "", ""]


async def test_without_pseudonyms_no_page_holds_anything_of_its_shopper(store: SqliteStore, tmp_path: Path) -> None:
    await store.record([Event("e", now_ms(), "<<ann>>", "s", "en-US", EventKind.CLICK, "p1")])
    log = RequestLog(RequestLogConfig(share=1, path=tmp_path / "pages"), MANIFEST, PRODUCTS, store.page_tag)
    log.add("r", Search(query="sofa", shopper_id="<<ann>>", page_size=2), PAGE)
    log.close()
    assert tags(tmp_path / "pages") == [None]
    assert not holds(tmp_path, store.page_tag("<<ann>>", now_ms()))
    assert not holds(tmp_path, b"<<")
