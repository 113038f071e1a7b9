"""A file of layout 1, which held ids and texts in clear, is converted when it is opened: nothing is lost, nothing stays in clear."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from models.events.event import Event, EventKind
from serving.config import ConfigError
from serving.shoppers.sqlite_file import create, keys_path
from serving.shoppers.sqlite_store import SqliteStore
from serving.shoppers.store import Recorded, Retention, now_ms

NOW = now_ms()
RETENTION = Retention(50, 365)

LAYOUT_1 = """
PRAGMA journal_mode = WAL;
CREATE TABLE state (version INTEGER NOT NULL, max_events INTEGER NOT NULL, purged_ms INTEGER NOT NULL) STRICT;
INSERT INTO state VALUES (0, 50, 0);
CREATE TABLE shoppers (
    id INTEGER PRIMARY KEY, shopper_id TEXT NOT NULL UNIQUE, num_events INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE events (
    shopper INTEGER NOT NULL, time_ms INTEGER NOT NULL, id TEXT NOT NULL, session_id TEXT NOT NULL, locale TEXT NOT NULL,
    kind TEXT NOT NULL, product_id TEXT NOT NULL, query TEXT NOT NULL, position INTEGER, price_minor INTEGER,
    PRIMARY KEY (shopper, time_ms, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX event_ids ON events (shopper, id);
CREATE TRIGGER event_added AFTER INSERT ON events BEGIN
    UPDATE shoppers SET num_events = num_events + 1, version = (SELECT version FROM state) WHERE id = NEW.shopper;
END;
CREATE TRIGGER event_gone AFTER DELETE ON events BEGIN
    UPDATE shoppers SET num_events = num_events - 1 WHERE id = OLD.shopper;
END;
PRAGMA application_id = 1095978053;
PRAGMA user_version = 1;
"""

OPEN = """
import sys
from pathlib import Path
from serving.shoppers.sqlite_file import create
print("begins", flush=True)
create(Path(sys.argv[1]), "full", 50)
"""


def event(shopper: str, number: int) -> Event:
    return Event(
        f"id-{shopper}-{number}", NOW - 10_000 + number, shopper, f"CLEAR {shopper}", "en-US", EventKind.CART,
        f"CLEAR p{number}", f"CLEAR wool rug {number}", number or None, None,
    )  # fmt: skip


@pytest.fixture
def events() -> list[Event]:
    rng = random.Random(0)
    return [event(f"s{rng.randrange(100)}", number) for number in range(2000)]


@pytest.fixture
def path(tmp_path: Path, events: list[Event]) -> Path:
    """A file of layout 1, as a process leaves it that was killed: with a log that is not yet in the file."""
    path = tmp_path / "shoppers.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(LAYOUT_1)
    for begin in range(0, len(events), 100):
        connection.execute("BEGIN")
        connection.execute("UPDATE state SET version = version + 1")
        for e in events[begin : begin + 100]:
            connection.execute("INSERT OR IGNORE INTO shoppers (shopper_id) VALUES (?)", (e.shopper_id,))
            connection.execute(
                "INSERT INTO events SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM shoppers WHERE shopper_id = ?",
                (
                    e.time_ms,
                    e.id,
                    e.session_id,
                    e.locale,
                    e.kind,
                    e.product_id,
                    e.query,
                    e.position,
                    e.price_minor,
                    e.shopper_id,
                ),
            )
        connection.execute("COMMIT")
    copies = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.endswith("-shm")}
    connection.close()
    for name, content in copies.items():
        (tmp_path / name).write_bytes(content)
    return path


def is_clear(path: Path) -> bool:
    return any(b"CLEAR" in file.read_bytes() for file in path.parent.iterdir())


async def holds(path: Path, events: list[Event]) -> bool:
    """Says whether the file has these events and no others."""
    store = SqliteStore(path, RETENTION, "full")
    try:
        for shopper in {e.shopper_id for e in events}:
            own = sorted((e for e in events if e.shopper_id == shopper), key=lambda e: e.time_ms, reverse=True)
            history = await store.history(shopper, 1000)
            if list(history.events) != own or history.version != max(events.index(e) // 100 + 1 for e in own):
                return False
        with sqlite3.connect(path) as connection:
            return connection.execute("SELECT count(*) FROM events").fetchone() == (len(events),)
    finally:
        await store.close()


async def test_every_event_is_kept_and_none_in_clear(path: Path, events: list[Event]) -> None:
    assert is_clear(path)
    assert await holds(path, events)
    assert not is_clear(path)
    store = SqliteStore(path, RETENTION, "full")
    assert await store.record(events[:100]) == Recorded(0, 100)
    version = (await store.history("s1", 1)).version
    await store.record([event("s1", 5000)])
    assert (await store.history("s1", 1)).version > version
    await store.close()


async def test_a_reader_delays_the_end_to_the_next_start(path: Path, events: list[Event]) -> None:
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchone()
    assert await holds(path, events)
    assert is_clear(path)
    reader.close()
    create(path, "full", 50).close()
    assert not is_clear(path)
    assert await holds(path, events)


async def test_a_kill_at_any_moment_loses_nothing(path: Path, events: list[Event]) -> None:
    for delay in (0.0, 0.005, 0.01, 0.02, 0.04, 0.08):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OPEN, str(path), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout
        await process.stdout.readline()
        await asyncio.sleep(delay)
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
    assert await holds(path, events)
    assert not is_clear(path)


def test_a_disk_without_space_for_it_leaves_the_file_as_it_was(path: Path, events: list[Event]) -> None:
    script = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({path.stat().st_size + 9000},) * 2)\n"
    script += OPEN.replace("create(Path", "from serving.config import ConfigError\ntry: create(Path").replace(
        ", 50)", ", 50)\nexcept ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert "shoppers.path" in done.stdout
    assert asyncio.run(holds(path, events))


def test_one_file_without_the_other_is_refused(path: Path, events: list[Event]) -> None:
    create(path, "full", 50).close()
    keys = keys_path(path)
    kept = keys.read_bytes()
    keys.unlink()
    with pytest.raises(ConfigError, match="-keys is missing"):
        create(path, "full", 50)
    keys.write_bytes(b"")
    with pytest.raises(ConfigError, match="is no file of shoppers' keys"):
        create(path, "full", 50)
    keys.write_bytes(kept[:16] + bytes(16) + kept[32:])
    with pytest.raises(ConfigError, match="belongs to another file"):
        create(path, "full", 50)
    keys.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(ConfigError, match="its header needs"):
        create(path, "full", 50)
    keys.write_bytes(kept)
    assert asyncio.run(holds(path, events))
    path.unlink()
    with pytest.raises(ConfigError, match="is new, but .* holds keys"):
        create(path, "full", 50)
