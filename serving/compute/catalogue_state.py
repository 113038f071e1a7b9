"""What a stage knows of the changes of its catalogue."""

from __future__ import annotations

import threading
from typing import Protocol


class HasSequence(Protocol):
    @property
    def sequence(self) -> int:
        """The sequence of the latest change that is there."""


class CatalogueState(HasSequence, Protocol):
    """A catalogue that may change. Nothing changes while somebody holds `lock`."""

    lock: threading.Lock

    def catch_up(self, sequence: int) -> None:
        """Brings the catalogue up to a change, if the log has it."""


class FixedCatalogue:
    """The state of a catalogue that never changes."""

    sequence = 0

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def catch_up(self, sequence: int) -> None:
        """Does nothing."""


FIXED = FixedCatalogue()
