"""Keeps a service in step with a feed: a file or folder that a shop's own system writes again and again.

What the service has acknowledged is kept as a digest of each product in a file of its own, so that a feed of a million products costs what
changed in it. Only the catalogue of the service is the truth: a product that the file does not tell of is compared with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from models.arrays import Progress
from models.bundles.source import Source
from models.errors import InputError
from models.products.product import Product
from serving.cli.send_changes import ChangeSender

DIGEST_BYTES = 12
UNKNOWN = b""  # the digest of a product of which the service may have anything
SAVE_EVERY_S = 10.0
SETTLED_S = 1.0  # that a feed stays as it is before it is read: it may be in the midst of being written
MAX_LOOKS = 60  # for that

Signature = tuple[tuple[str, int, int], ...]


class FeedError(InputError):
    """A feed is not sent, or its state cannot be used."""


@dataclass(slots=True)
class Counts:
    """Products of a feed and of the one before, by what changed of them. Those that were refused are among them."""

    new: int = 0  # the service did not have it so
    changed: int = 0
    offers: int = 0  # of which only price or stock changed
    gone: int = 0
    unchanged: int = 0

    @property
    def total(self) -> int:
        """Products of the feed."""
        return self.new + self.changed + self.offers + self.unchanged

    def __str__(self) -> str:
        return (
            f"{self.new:,} new, {self.changed:,} changed, {self.offers:,} with another price or stock, {self.gone:,} gone, "
            f"{self.unchanged:,} as before"
        )


class Feed:
    """A feed and its state. `server` is the address that it is sent to."""

    def __init__(self, path: Path, state: Path, server: str, max_lost: float) -> None:
        """Raises FeedError for a state that cannot be read, or is of another service."""
        self.path = path
        self._state, self._server, self._max_lost = state, server, max_lost
        self._sent, self._sequence = _load(state, server)  # digests by id; the last change that was acknowledged
        self._saved_s = time.monotonic()

    def settled(self) -> Signature:
        """Waits until nobody writes to the feed. Returns what changes when it is written again. Raises FeedError."""
        seen = signature(self.path)
        for _ in range(MAX_LOOKS):
            time.sleep(SETTLED_S)
            before, seen = seen, signature(self.path)
            if seen == before:
                return seen
        raise FeedError(f"{self.path} is being written to all the time; write it aside, and rename it when it is whole")

    def compare(self, source: Source, progress: Progress) -> list[str]:
        """Reads the whole feed, and returns which products it no longer has. Those that it has from now on are in the state before they are
        sent: if this is killed then, the next look knows of them. Raises FeedError if the feed lost too many, CatalogueError if it cannot
        be read."""
        gone = set(self._sent)
        new: list[str] = []
        for count, product in enumerate(source.products()):
            gone.discard(product.id)
            if product.id not in self._sent:
                new.append(product.id)
            if count % 1000 == 0:
                progress("read the feed", count, source.num_products)
        if len(gone) > self._max_lost * len(self._sent):
            raise FeedError(
                f"{self.path} lacks {len(gone):,} of the {len(self._sent):,} products that it had, such as {min(gone)!r}: more than the "
                f"share of {self._max_lost:g}, so nothing was sent; set --max-lost if they are gone for good"
            )
        if new:
            self._sent.update(dict.fromkeys(new, UNKNOWN))
            self._save()
        return sorted(gone)

    def send(self, source: Source, seen: Signature, sender: ChangeSender, progress: Progress) -> Counts:
        """Sends what changed, then deletes what is gone. The state holds what was acknowledged, also if this is interrupted. `seen` is what
        `settled` returned. Raises FeedError if the feed is written meanwhile, and what `compare` raises; then nothing is deleted."""
        if sender.logged_sequence() < self._sequence:  # it was restored from an older state
            self._sent = dict.fromkeys(self._sent, UNKNOWN)
            self._sequence = 0
        gone = self.compare(source, progress)
        sending = _Sending(self._sent, sender)
        try:
            for count, product in enumerate(source.products()):
                if count % 100 == 0:
                    progress("send what changed", count, source.num_products)
                    self._save(sender.sent.sequence, SAVE_EVERY_S)
                sending.add(product)
            sending.finish()
            progress("send what changed", sending.counts.total, sending.counts.total)
            if signature(self.path) != seen:
                raise FeedError(
                    f"{self.path} was written while it was read; nothing was deleted, the next look does it"
                )
            for start in range(0, len(gone), sender.batch):
                progress("delete what is gone", start, len(gone))
                ids = gone[start : start + sender.batch]
                for product_id in set(ids) - sender.delete(ids):
                    del self._sent[product_id]
        finally:
            self._save(sender.sent.sequence)
        sending.counts.gone = len(gone)
        return sending.counts

    def _save(self, sequence: int = 0, every_s: float = 0.0) -> None:
        """Replaces the state; a power cut leaves the old one or the new one."""
        self._sequence = max(self._sequence, sequence)
        if time.monotonic() - self._saved_s < every_s:
            return
        self._saved_s = time.monotonic()
        table = pa.table(
            {"id": pa.array(self._sent.keys(), pa.string()), "digests": pa.array(self._sent.values(), pa.binary())}
        )
        facts = json.dumps({"server": self._server, "sequence": self._sequence})
        table = table.replace_schema_metadata({"feed": facts})
        new = self._state.with_name(self._state.name + ".new")
        with new.open("wb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._state)


class _Sending:
    """One pass over a feed: sorts its products by what changed of them, and sends each kind in batches."""

    def __init__(self, sent: dict[str, bytes], sender: ChangeSender) -> None:
        self.counts = Counts()
        self._sent, self._sender = sent, sender
        self._unmet: list[tuple[Product, bytes]] = []  # whatever the service has of these
        self._changed: list[tuple[Product, bytes]] = []
        self._offers: list[tuple[Product, bytes]] = []

    def add(self, product: Product) -> None:
        before, now = self._sent.get(product.id), digests_of(product)
        if before == now:
            self.counts.unchanged += 1
        elif not before:
            self._unmet.append((product, now))
            if len(self._unmet) == self._sender.batch:
                self._meet()
        elif before[:DIGEST_BYTES] == now[:DIGEST_BYTES]:
            self._offers.append((product, now))
            if len(self._offers) == self._sender.batch:
                self._offer()
        else:
            self.counts.changed += 1
            self._change(product, now)

    def finish(self) -> None:
        self._meet()
        self._offer()
        self._upsert()

    def _change(self, product: Product, now: bytes) -> None:
        self._changed.append((product, now))
        if len(self._changed) == self._sender.batch:
            self._upsert()

    def _meet(self) -> None:
        """Sends those that the service does not have exactly so."""
        held = self._sender.held([product for product, _ in self._unmet])
        for product, now in self._unmet:
            if product.id in held:
                self._sent[product.id] = now
                self.counts.unchanged += 1
            else:
                self.counts.new += 1
                self._change(product, now)
        self._unmet.clear()

    def _offer(self) -> None:
        """Sends price and stock alone, or the whole product if the service does not have it."""
        unknown = self._sender.offer([product for product, _ in self._offers])
        for product, now in self._offers:
            if product.id in unknown:
                self._change(product, now)
            else:
                self._sent[product.id] = now
        self.counts.offers += len(self._offers)
        self._offers.clear()

    def _upsert(self) -> None:
        refused = self._sender.upsert([product for product, _ in self._changed])
        self._sent.update((product.id, now) for product, now in self._changed if product.id not in refused)
        self._changed.clear()


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Keeps others from following with the same state: what they send would be older or newer. Raises FeedError."""
    with state.with_name(state.name + ".lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FeedError(f"another 'aisle follow' works with {state}") from None
        yield


def signature(path: Path) -> Signature:
    """Returns what changes when a file, or a Parquet file of a folder, is written again. Raises FeedError if there is none."""
    try:
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        facts = [(str(file), file.stat()) for file in files]
    except FileNotFoundError as error:
        raise FeedError(f"there is no {error.filename}") from None
    return tuple((name, fact.st_mtime_ns, fact.st_size) for name, fact in facts)


def digests_of(product: Product) -> bytes:
    """Returns two hashes: of everything but price and stock, and of these."""
    content = (
        product.id, product.title, product.brand, product.category, sorted(product.attributes.items()),
        product.other_categories, sorted(product.lists.items()),
    )  # fmt: skip
    return _digest(content) + _digest((product.price_minor, product.in_stock))


def _digest(values: object) -> bytes:
    return hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def _load(path: Path, server: str) -> tuple[dict[str, bytes], int]:
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
            sent = dict(zip(table["id"].to_pylist(), table["digests"].to_pylist(), strict=True))
            facts = json.loads(table.schema.metadata[b"feed"])
            of_server, sequence = str(facts["server"]), int(facts["sequence"])
    except FileNotFoundError:
        return {}, 0
    except (pa.ArrowException, KeyError, OSError, TypeError, ValueError) as error:
        raise FeedError(
            f"{path} is not the state of a feed, or is damaged ({error}); delete it to compare the feed with the service anew: what "
            "the feed lost since the last time then stays until 'aisle delete'"
        ) from None
    if of_server != server:
        raise FeedError(f"{path} tells what {of_server} has, not {server}; name another file with --state")
    return sent, sequence
