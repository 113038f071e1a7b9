"""Where the generations of a bundle lie: the one that is served, and its neighbours."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError


def next_of(bundle: Path) -> Path:
    return bundle.with_name(bundle.name + ".next")


def previous_of(bundle: Path) -> Path:
    return bundle.with_name(bundle.name + ".previous")


@dataclass(frozen=True, slots=True)
class Generation:
    """One state of the bundle in a folder. All processes of a service read the same one, whenever they start: a row of a retriever says
    nothing to a gateway that has another."""

    folder: Path
    version: str

    @classmethod
    def current(cls, folder: Path) -> Generation:
        """Raises BundleError."""
        return cls(folder, Bundle(folder).manifest.version)

    def path(self) -> Path:
        """Returns where it lies now: it moves when the next one takes its place. Raises BundleError if it is gone."""
        for folder in (self.folder, previous_of(self.folder)):
            with suppress(BundleError):
                if Bundle(folder).manifest.version == self.version:
                    return folder
        raise BundleError(
            f"{self.folder} does not hold {self.version} any more, which is served; SIGHUP to 'aisle serve' rolls out what it holds"
        )
