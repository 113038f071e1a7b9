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
    """How one model lies in a bundle. Each model defines its own part; `models.bundle_parts` lists them.

    `load` gets the bundle and the folder of the part, whose files are verified. It raises BundleError for a part that does not fit the
    manifest or this version of Aisle, and returns the model, or the folder of a model that needs more than a bundle to load, as a device.
    """

    name: str  # of the folder
    load: Callable[[Bundle, Path], T_co]

    def is_in(self, bundle: Bundle) -> bool:
        return bundle.holds(f"{self.name}/")

    def open(self, bundle: Bundle) -> T_co:
        """Verifies and loads the part. Raises BundleError, also for a bundle that lacks it."""
        bundle.verify(self.name)
        return self.load(bundle, bundle.folder / self.name)

    def find(self, bundle: Bundle) -> T_co | None:
        """Opens the part, or returns None for a bundle that lacks it."""
        return self.open(bundle) if self.is_in(bundle) else None
