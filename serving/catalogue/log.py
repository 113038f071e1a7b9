"""The contract of the log of changes: one order of all changes of a catalogue, and how far its replicas have applied it.

- Sequences begin at 1, have no gaps, and are never used twice. The changes of a batch follow each other.
- When `append` has returned, the batch is durable, and every `read` that begins later returns it.
- `read` returns whole batches in order: what it returned once stays so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.catalogue.change import ChangeBatch, LoggedBatch, PackedBatch
from serving.config import ConfigError
from serving.errors import AisleError, Code, Unavailable

CHANGE_ID_KEPT_S = 24 * 3600


class ChangeIdReused(AisleError):
    """The change id came with another content before. Nothing was logged."""

    code = Code.FAILED_PRECONDITION
    reason = "CHANGE_ID_REUSED"


class LogEnded(Exception):
    """The log does not continue what this process holds: its next changes are no longer there, are damaged, or the log lost changes that
    were applied. No later call mends it."""


@dataclass(frozen=True, slots=True)
class Appended:
    """Where the changes of a batch are in the log."""

    first: int
    last: int
    was_repeated: bool = False  # they were there before


@dataclass(frozen=True, slots=True)
class Replica:
    """A process that applies the log."""

    name: str
    applied: int


class ChangeLog(Protocol):
    """Methods raise Unavailable if the log cannot be reached, but `report` and `replicas` do not; `append` also raises Overloaded,
    StoreFull and ChangeIdReused. Then it has logged nothing, unless the call was cancelled or the log did not answer. The first `append`
    makes the log the catalogue's own."""

    async def append(self, batch: ChangeBatch) -> Appended: ...

    def head(self) -> int:
        """Returns the sequence of the latest change; 0 before the first. Waits for the store."""

    def read(self, after: int, max_changes: int) -> Sequence[LoggedBatch]:
        """Returns the batches after a sequence, which must be the end of a batch, up to `max_changes` or else one. Waits for the
        store. Raises LogEnded."""

    def wait(self, after: int, timeout_s: float) -> None:
        """Returns when there may be changes after a sequence, at the latest after the timeout."""

    def report(self, applied: int) -> None:
        """Tells the others how far this process is; less than before is not told. The first call makes it a replica, that VISIBLE waits
        for. It stays one while it reports every second."""

    def replicas(self) -> Sequence[Replica]:
        """Returns the living replicas, without waiting for long."""

    def drop(self, until: int) -> None:
        """Forgets the batches that end at a sequence or before. Waits for the store."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LogState:
    """What a log says of itself. Its changes after `dropped` up to `head` are there."""

    catalogue: str  # the line of generations that the changes belong to
    head: int
    dropped: int

    def is_of(self, catalogue: str) -> bool:
        return not self.head or self.catalogue == catalogue

    def check_opened(self, catalogue: str, begins_after: int, field: str, where: str) -> None:
        """Raises ConfigError if the changes are another catalogue's, or end before what the bundle has already. `field` of the
        configuration names `where` they are."""
        if not self.is_of(catalogue):
            raise ConfigError(
                f"{field}: {where} holds {self.head} changes of another catalogue than this bundle's: choose another {field}, or state "
                "with 'aisle catalogue adopt' which of them the bundle has already"
            )
        if self.head < begins_after:
            raise ConfigError(
                f"{field}: {where} ends with change {self.head}, and this bundle was built with change {begins_after}: it lost changes, or "
                "is not this bundle's"
            )

    def check_append(self, catalogue: str, known: int = 0) -> None:
        """Raises Unavailable if a process that knows of change `known` may not append."""
        if not self.is_of(catalogue):
            raise Unavailable("the catalogue log is another catalogue's by now; nothing was logged")
        if self.head < known:
            raise Unavailable("the catalogue log has lost changes; nothing was logged")

    def check_read(self, catalogue: str, after: int) -> None:
        """Raises LogEnded if the changes after a sequence are not what follows it."""
        if not self.is_of(catalogue):
            raise LogEnded("the log is another catalogue's by now")
        if after < self.dropped:
            raise LogEnded(f"the log begins after change {self.dropped}, and this generation ends with change {after}")
        if after > self.head:
            raise LogEnded(
                f"the log ends with change {self.head}, but {after} were applied: it lost changes, or is another one"
            )


def restore(rows: Iterable[tuple[int, PackedBatch]], after: int) -> list[LoggedBatch]:
    """Restores batches that follow a sequence, from the sequence of their first change and their bytes. Raises LogEnded for a gap, and for
    what is damaged."""
    batches = []
    for first, packed in rows:
        if first != after + 1:
            raise LogEnded(f"change {after + 1} is not in the log, but {first} is")
        try:
            batches.append(LoggedBatch(first=first, batch=packed.unpack()))
        except ValueError as error:
            raise LogEnded(f"change {first} or one of the next cannot be read from the log: {error}") from error
        after = batches[-1].last
    return batches
