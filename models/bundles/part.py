"""A part of a bundle: a folder that belongs to one model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from models.bundles.bundle import Bundle

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Part(Generic[T_co]):
    """Where one model lies in a bundle, and how it is checked and loaded. Each model defines its own part; `models.bundle_parts` lists
    them.

    `load` gets the bundle and the part's folder, whose files are verified. It returns the model, or the checked folder of a model that
    needs more than a bundle to load, such as a device. It raises BundleError for a part that does not fit the manifest or this Aisle.
    """

    name: str  # the folder's
    load: Callable[[Bundle, Path], T_co]

    def is_in(self, bundle: Bundle) -> bool:
        """Whether the bundle has this part."""
        return bundle.holds(f"{self.name}/")

    def open(self, bundle: Bundle) -> T_co:
        """Verifies the part's files and loads it. Raises BundleError, also for a bundle without the part."""
        bundle.verify(self.name)
        return self.load(bundle, bundle.folder / self.name)

    def find(self, bundle: Bundle) -> T_co | None:
        """Opens the part, or returns None for a bundle without it."""
        return self.open(bundle) if self.is_in(bundle) else None
