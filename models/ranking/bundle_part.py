"""The ranker in a bundle."""

from __future__ import annotations

from pathlib import Path

from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.bundles.part import Part
from models.ranking.ranker import Ranker, RankerError


def _load(_: Bundle, folder: Path) -> Ranker:
    """Loads the ranker. Raises BundleError, which names the differences, if it was trained on other features."""
    try:
        return Ranker.load(folder)
    except RankerError as error:
        raise BundleError(f"{folder}: {error}") from None


RANKER_PART = Part("ranker", _load)
