"""Expected errors: their base, and those of more than one package."""

from __future__ import annotations


class InputError(ValueError):
    """Data, files or settings cannot be used. The message names what is wrong and what to change: `aisle` prints it alone."""


class TrainingError(InputError):
    """Training cannot start; the message says what to change."""


class DegenerateLoss(InputError):
    """Training cannot go on: the loss is not a number, or all outputs have become the same. The message says at which step."""
