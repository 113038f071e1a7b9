"""The classifier of queries in a bundle."""

from __future__ import annotations

from pathlib import Path

from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.bundles.part import Part
from models.query_types.type_files import TypeModelError
from models.query_types.type_model import TypeModel


def _load(bundle: Bundle, folder: Path) -> TypeModel:
    """Returns the classifier, which never predicts a type that the catalogue does not hold."""
    try:
        model = TypeModel.load(folder)
    except TypeModelError as error:
        raise BundleError(f"{folder}: {error}") from None
    _, sold = bundle.products().distinct("category")
    return model.excluding(set(model.types) - set(sold))


TYPES_PART = Part("types", _load)
