"""Detects calls that come one at a time: then nobody waits for a batch, and the shortest path to the answer is the best."""

from __future__ import annotations

import time
from collections.abc import Callable

STREAK = 8  # after so many lone calls in a row the next is expected to be alone too
GAP_S = 0.0002  # from the end of a call to the next; a call that came sooner had been waiting to be read


class LoneCalls:
    """Counts calls from begin to end. Belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._in_progress = 0
        self._streak = 0
        self._ended = clock()

    def begin(self) -> None:
        alone = self._in_progress == 0 and self._clock() - self._ended >= GAP_S
        self._streak = self._streak + 1 if alone else 0
        self._in_progress += 1

    def end(self) -> None:
        self._in_progress -= 1
        self._ended = self._clock()

    def is_lone(self) -> bool:
        """Says whether the call in progress is alone, like those before it."""
        return self._in_progress == 1 and self._streak >= STREAK
