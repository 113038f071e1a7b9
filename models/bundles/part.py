"""A part of a bundle: a folder that belongs to one model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from models.bundles.bundle import Bundle, reading

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
    # Reads what `load` leaves to whoever opens the part, to find out whether it can be read.
    read_rest: Callable[[Path], object] | None = None

    def is_in(self, bundle: Bundle) -> bool:
        """Whether the bundle has this part."""
        return bundle.holds(f"{self.name}/")

    def open(self, bundle: Bundle) -> T_co:
        """Verifies the part's files and loads it. Raises BundleError, also for a bundle without the part."""
        bundle.verify(f"{self.name}/")
        with reading(bundle.folder / self.name):
            return self.load(bundle, bundle.folder / self.name)

    def check(self, bundle: Bundle) -> None:
        """Reads every file of the part that serving will read. Raises BundleError."""
        self.open(bundle)
        if self.read_rest:
            with reading(bundle.folder / self.name):
                self.read_rest(bundle.folder / self.name)

    def find(self, bundle: Bundle) -> T_co | None:
        """Opens the part, or returns None for a bundle without it."""
        return self.open(bundle) if self.is_in(bundle) else None
