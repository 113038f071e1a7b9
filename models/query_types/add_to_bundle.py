"""Adds a classifier of queries to a bundle."""

from __future__ import annotations

from pathlib import Path

from models.bundles.bundle import Bundle
from models.bundles.extend import replace_parts
from models.bundles.manifest import BundleError, Manifest, with_locales
from models.query_types.bundle_part import TYPES_PART
from models.query_types.type_model import TypeModel


def add_types(bundle: Bundle, model: TypeModel, out: Path, *, replace: bool = False) -> Manifest:
    """Writes `out`, which may be the bundle itself if `replace`. An earlier classifier is replaced.

    The model's locales are added to the bundle's. Raises BundleError when `out` exists (unless `replace`),
    and when the bundle holds none of the model's types.
    """
    _, sold = bundle.products().distinct("category")
    sellable = set(model.types) & set(sold)
    if not sellable:
        raise BundleError(
            f"{bundle.folder} sells nothing of the {len(model.types)} types that the model knows, as {model.types[0]!r}; "
            f"its categories are {', '.join(sorted(name for name in sold if name)[:3]) or 'empty'}"
        )
    facts = {
        "locales": with_locales(bundle.manifest.locales, model.locales),
        "query_types": {
            "types": len(sellable),
            "locales": list(model.locales),
            "precision": model.recipe.precision,
            "variant": model.recipe.variant,
        },
    }
    return replace_parts(
        bundle, (TYPES_PART,), lambda folder: model.save(folder / TYPES_PART.name), facts, out, replace=replace
    )
