"""The bytes of a bundle by structure: what grows with its products, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.bundles.manifest import Manifest

# By the beginnings of file names, the first that fits. What is left are networks and vocabularies: they stay as they are.
BY_PRODUCT = {
    "vectors": ("vectors.npy",),
    "index": ("index/",),
    "words": ("lexical/",),
    "product table": ("products",),
    "attributes": ("attributes/",),
    "identifiers": ("identifier_",),
    "ranker's columns": ("columns/",),
    "ranker's marks and clicks": ("ranker/asked_marks", "ranker/click_memory"),
    "signals of shoppers": ("unified/signals",),
}
# Each gateway reads these into memory of its own; the others are mapped, and the gateways of a machine share them.
READ = ("index", "ranker's marks and clicks")
# Training and the next generation read these; serving does not.
UNREAD = ("signals of shoppers",)
ENCODER_SPARE = ("encoder/model.safetensors",)  # for PyTorch on a GPU


@dataclass(frozen=True, slots=True)
class BundleBytes:
    """Bytes a product by structure, and the bytes of the networks that a gateway opens."""

    products: int
    columns: int  # of vectors.npy
    by_product: Mapping[str, float]
    networks: int
    is_unified: bool
    has_lists: bool
    source: str

    @classmethod
    def of(cls, manifest: Manifest, source: str) -> BundleBytes:
        sums = dict.fromkeys(BY_PRODUCT, 0)
        networks = 0
        for name, record in manifest.files.items():
            part = next((part for part, begins in BY_PRODUCT.items() if name.startswith(begins)), None)
            if part is not None:
                sums[part] += record.bytes
            elif not name.startswith(ENCODER_SPARE):
                networks += record.bytes
        return cls(
            products=manifest.products,
            columns=manifest.num_columns,
            by_product={part: size / manifest.products for part, size in sums.items() if size},
            networks=networks,
            is_unified=any(name.startswith("unified/") for name in manifest.files),
            has_lists=manifest.index["spec"]["kind"] == "ivf",
            source=source,
        )

    def of_vectors(self, columns: int) -> BundleBytes:
        """Returns the same with vectors of another width."""
        sizes = {**self.by_product, "vectors": 2.0 * columns}
        return BundleBytes(
            self.products,
            columns,
            sizes,
            self.networks,
            self.is_unified,
            self.has_lists,
            f"{self.source}; vectors of {columns} columns",
        )


# `aisle build --sample 20000` with all-MiniLM-L6-v2: what is planned with where no bundle is named.
SAMPLE = BundleBytes(
    products=20_000,
    columns=384,
    by_product={
        "vectors": 768.0,
        "words": 205.4,
        "product table": 288.5,
        "attributes": 147.8,
        "identifiers": 52.3,
    },
    networks=69_500_000,
    is_unified=False,
    has_lists=False,
    source="a bundle of the simulated store, 20,000 products, all-MiniLM-L6-v2",
)
