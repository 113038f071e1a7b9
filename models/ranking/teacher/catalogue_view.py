"""The catalogue as the teacher reads it."""

from __future__ import annotations

from dataclasses import dataclass

from models.bundles.bundle import Bundle
from models.products.product_table import ProductTable
from models.unified.bundle_part import UNIFIED_PART
from models.unified.price_bands import PriceBands


@dataclass(frozen=True, slots=True, eq=False)
class CatalogueView:
    """Products, price bands and locales."""

    table: ProductTable
    bands: PriceBands
    locales: tuple[str, ...]

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> CatalogueView:
        table = bundle.products()
        bands = (
            PriceBands.load(UNIFIED_PART.open(bundle))
            if UNIFIED_PART.is_in(bundle)
            else PriceBands.from_products(table.products())
        )
        return cls(table, bands, bundle.manifest.locales)
