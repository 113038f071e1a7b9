"""The base of all expected errors."""

from __future__ import annotations


class InputError(ValueError):
    """Data, files or settings cannot be used. The message names what is wrong and what to change: `aisle` prints it alone."""
