"""Changes to log, and processes that log them or follow them."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence

import numpy as np

from models.products.product import Product
from serving.catalogue.change import ChangeBatch, Upsert
from serving.catalogue.log import ChangeLog

DIM = 8

# Appends batches of three for ever, or until the log fails, and prints number, first and last sequence of each that was acknowledged.
_WRITER = """
import asyncio, sys
from serving.errors import AisleError
from tests.change_writers import open_here, upserts

async def write(kind, place, name):
    log = open_here(kind, place)
    print("ready", flush=True)
    number = 0
    while True:
        try:
            done = await log.append(upserts(*(f"{name}-{number}-{n}" for n in range(3))))
        except AisleError as error:
            if "is busy" in str(error):  # others held the lock for long: it is sent again
                continue
            print("failed", error.reason, flush=True)
            return
        print(number, done.first, done.last, flush=True)
        number += 1

asyncio.run(write(*sys.argv[1:4]))
"""
# Reports the sequences that are written to it, a line each, and echoes them.
_REPLICA = """
import sys
from tests.change_writers import open_here

log = open_here(*sys.argv[1:3])
print("ready", flush=True)
for line in sys.stdin:
    log.report(int(line))
    print(line, end="", flush=True)
"""


def open_here(kind: str, place: str, catalogue: str = "line") -> ChangeLog:
    """Opens a log, as a process of a service does. `place` is a path or URL."""
    from pathlib import Path

    from serving.catalogue.redis_log import RedisLog
    from serving.catalogue.sqlite_log import SqliteLog

    if kind == "sqlite":
        return SqliteLog(Path(place), catalogue, "full")
    return RedisLog(place, "shop", catalogue)


def upserts(*ids: str, change_id: str = "", title: str = "Sofa") -> ChangeBatch:
    """A batch that upserts products; the vector of each is full of one number that its id gives."""
    vectors = np.repeat([[sum(map(ord, product_id)) % 1000] for product_id in ids], DIM, axis=1).astype(np.float16)
    changes = tuple(Upsert(Product(product_id, title)) for product_id in ids)
    return ChangeBatch(changes=changes, vectors=vectors, encoder="e", change_id=change_id)


def start_writer(kind: str, place: str, name: str, max_file_bytes: int = 0) -> subprocess.Popen[str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))

    return _start(_WRITER, (kind, place, name), limit if max_file_bytes else None)


def start_replica(kind: str, place: str) -> subprocess.Popen[str]:
    return _start(_REPLICA, (kind, place), None)


def report(replica: subprocess.Popen[str], applied: int) -> None:
    """Lets a replica report, and waits until it has."""
    assert replica.stdin is not None
    assert replica.stdout is not None
    replica.stdin.write(f"{applied}\n")
    replica.stdin.flush()
    assert replica.stdout.readline() == f"{applied}\n"


def acknowledged(writer: subprocess.Popen[str], at_least: int) -> list[tuple[int, int, int]]:
    """Waits for acknowledgements, then kills the writer. Returns number, first and last sequence of all batches that it knew of."""
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(at_least)]
    writer.kill()
    lines += writer.stdout.readlines()
    writer.wait()
    rows = [tuple(map(int, line.split())) for line in lines]
    return [(number, first, last) for number, first, last in rows]


def _start(script: str, arguments: Sequence[str], before: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=before,  # type: ignore[arg-type]  # noqa: PLW1509 - it only sets a limit
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process
