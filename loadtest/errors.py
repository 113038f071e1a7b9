"""The expected errors of load tests and benchmarks."""

from __future__ import annotations

from models.errors import InputError


class LoadError(InputError):
    """A server or a generator of load is missing, does not start or fails; the message says what to do."""
