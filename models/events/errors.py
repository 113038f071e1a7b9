"""The error of a shopping log."""

from __future__ import annotations

from models.errors import InputError


class LogError(InputError):
    """The log cannot be used; the message says what to change."""
