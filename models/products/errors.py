"""The error that stops the reading of a catalogue."""

from __future__ import annotations

from models.errors import InputError


class CatalogueError(InputError):
    """The catalogue cannot be read at all. The message says what to change."""
