"""A clock that stands still until a test moves it."""

from __future__ import annotations


class FakeClock:
    """`now` is in seconds; it starts at `start`."""

    def __init__(self, start: float = 100.0) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now
