"""The unified model in a bundle: it encodes queries and shoppers."""

from __future__ import annotations

from pathlib import Path

from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.bundles.part import Part
from models.unified.light_tower import LightSpec, ModelError


def _checked(bundle: Bundle, folder: Path) -> Path:
    try:
        spec = LightSpec.load(folder)
    except ModelError as error:
        raise BundleError(str(error)) from None
    if spec.dim != bundle.manifest.dim:
        raise BundleError(
            f"{folder.name}: the search tower makes {spec.dim} dimensions, the product vectors have {bundle.manifest.dim}"
        )
    return folder


UNIFIED_PART = Part("unified", _checked)
"""Opens as the folder for `LightTower` and `PriceBands`."""
