"""The unified model in a bundle: it encodes queries, shoppers and products."""

from __future__ import annotations

from pathlib import Path

from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.bundles.part import Part
from models.products.product import Product
from models.unified.light_tower import LightSpec, LightTower, ModelError
from models.unified.product_tower import LightProductTower


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


def _read_rest(folder: Path) -> None:
    tower = LightTower(folder)
    tower.encode_queries([("a", "")])
    LightProductTower(folder, tower).encode([Product("", "a")])


UNIFIED_PART = Part("unified", _checked, _read_rest)
"""Opens as the folder for `LightTower`, `LightProductTower` and `PriceBands`."""
