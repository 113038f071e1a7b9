"""The row of `vectors.npy` that a build would give a product, for products that come or change while a bundle serves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.arrays import Float16s, Floats, Ints
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.bundles.vector_rows import vector_rows
from models.products.changes import Offered
from models.products.product import Product
from models.unified.bundle_part import UNIFIED_PART
from models.unified.signals import saved_signals
from models.unified.static_feature_names import STATIC_FEATURES
from models.unified.static_features import SingleFeatures


class ProductRows:
    """Makes the rows of one bundle, with a text encoder or the unified model; whoever asks has encoded the products.

    What depends on other products is taken from the bundle, which does not change: a new price moves the static feature "value" of its own
    product alone.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Raises BundleError."""
        manifest = bundle.manifest
        unknown = [name for name in manifest.boosts if name not in STATIC_FEATURES]
        if unknown:
            raise BundleError(f"the bundle has static features that this Aisle does not know: {', '.join(unknown)}")
        self._columns: Ints = np.array([STATIC_FEATURES.index(name) for name in manifest.boosts], np.int64)
        # Opened now: another generation may be in the bundle's place when the first change comes.
        self._table = bundle.products() if manifest.boosts else None
        self._features: SingleFeatures | None = None
        self._bundle = bundle

    def rows(self, products: Sequence[Product], unit_vectors: Floats | Float16s) -> Float16s:
        """Returns (products, num_columns) of products with unit vectors (products, dim)."""
        return vector_rows(unit_vectors, self._static(products))

    def features(self, products: Sequence[Offered]) -> Float16s:
        """Returns (products, boosts) the static features alone, as they follow from each product's price and stock."""
        return self._static(products).astype(np.float16)

    def _static(self, products: Sequence[Offered]) -> Floats:
        if self._table is None:
            return np.zeros((len(products), 0), np.float32)
        if self._features is None:  # with the first change: it holds the signals of every product that was shown
            self._features = SingleFeatures(self._table, saved_signals(UNIFIED_PART.open(self._bundle)))
        return self._features.of(products)[:, self._columns]
