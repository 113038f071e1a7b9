"""The error that stops the reading of a shopping log."""

from __future__ import annotations

from models.errors import InputError


class EventLogError(InputError):
    """The log cannot be read at all. The message says what to change."""
