"""The next generation of a bundle: the products as they are now, with the vectors, models and settings of the bundle before.

Nothing is trained, and no product is encoded. What depends on the whole catalogue is computed anew: static features, the words for
spelling, the index. An attribute that came since the bundle was built gets its type and its lexical field now, from all of its cells.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import Float16s, Floats, Progress
from models.bundle_parts import PARTS
from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import VECTORS, Bundle
from models.bundles.embedding import npy_header
from models.bundles.extend import link_folder
from models.bundles.files import sync_files
from models.bundles.manifest import BundleError, Manifest
from models.bundles.source import Source
from models.bundles.vector_rows import vector_rows
from models.bundles.work_folder import WorkFolder
from models.index.tuner import IndexTarget
from models.products.attributes.spec import AttributeSpec
from models.products.product import Product
from models.products.product_table import ProductTable
from models.products.report import CatalogueReport
from models.ranking.bundle_part import RANKER_PART
from models.ranking.column_files import COLUMNS_PART
from models.ranking.product_columns import compute_columns, price_bands
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import LightTower
from models.unified.signals import SavedSignals
from models.unified.static_feature_names import STATIC_FEATURES
from models.unified.static_features import static_features

BLOCK = 16_384  # products
TUNING_QUERIES = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Living:
    """The products of a catalogue after some changes, in the order of their rows, and their unit vectors in blocks (n, dim)."""

    num_products: int
    products: Callable[[], Iterator[Product]]
    unit_vectors: Callable[[], Iterator[Float16s]]
    sequence: int  # of the last of the changes


def build_next(bundle: Bundle, living: Living, out: Path, progress: Progress, *, replace: bool = False) -> Manifest:
    """Builds the generation in `out`. What an interrupted build left is not used: its changes may have been others. Raises BundleError."""
    manifest = bundle.manifest
    table, lexical = bundle.products(), bundle.lexical()
    report = CatalogueReport(rows=living.num_products, products=living.num_products)
    source = Source(
        name=manifest.catalogue["source"],
        fingerprint=secrets.token_hex(32),
        products=living.products,
        report=lambda: dict(report.as_json()),
        attributes=table.plain_attributes,
        text_attributes=manifest.text_attributes,
        identifiers=tuple(manifest.catalogue.get("identifiers", ())),
        keeps_rare=True,  # a change may bring attributes that the catalogue never had
        types=tuple(AttributeSpec(column.name, column.type, column.unit) for column in bundle.attributes().values()),
        keeps_types=True,
        num_products=living.num_products,
    )
    return build_bundle(
        source,
        _recipe(bundle),
        out,
        progress,
        embedding=KeptVectors(bundle, living),
        replace=replace,
        facts={
            "query_types": manifest.query_types,
            "ranker": manifest.ranker,
            "catalogue": {"line": manifest.line, "sequence": living.sequence},
        },
        lexical=lexical,
    )


def _recipe(bundle: Bundle) -> Recipe:
    stated = bundle.manifest.recipe
    try:
        tuples = {name: tuple(stated[name]) for name in ("locales", "dimensions")}
        return Recipe(**{**stated, **tuples, "index": IndexTarget(**stated["index"])})
    except (KeyError, TypeError) as error:
        raise BundleError(
            f"{bundle.folder}: its recipe is of another version of Aisle ({error}); build it again"
        ) from None


@dataclass(frozen=True, slots=True)
class KeptVectors:
    """An `Embedding` that has the vectors already, and takes all parts over from the bundle before."""

    bundle: Bundle
    living: Living

    @property
    def boosts(self) -> tuple[str, ...]:
        return self.bundle.manifest.boosts

    def fingerprint(self) -> str:
        return self.bundle.manifest.version

    def prepare(self, work: WorkFolder, progress: Progress) -> None:
        progress("take the models over", 0, None)
        for part in PARTS:
            if part is not COLUMNS_PART and part.is_in(self.bundle):  # those are of the products before
                self.bundle.verify(f"{part.name}/")
                link_folder(self.bundle.folder / part.name, work.folder / part.name)

    def embed(self, table: ProductTable, work: WorkFolder, progress: Progress) -> dict[str, Any]:
        manifest = self.bundle.manifest
        features = np.zeros((len(table), 0), np.float32)
        if manifest.boosts:
            signals = SavedSignals(work.folder / UNIFIED_PART.name).for_ids(table.strings("id"))
            columns = [STATIC_FEATURES.index(name) for name in manifest.boosts]
            features = static_features(table, signals)[:, columns]
        done = 0
        # Without a memory map, where a full disk would kill the process.
        with (work.folder / VECTORS).open("wb") as file:
            file.write(npy_header((len(table), manifest.num_columns)))
            for vectors in self.living.unit_vectors():
                file.write(vector_rows(vectors, features[done : done + len(vectors)]).tobytes())
                done += len(vectors)
                progress("write vectors", done, len(table))
        if RANKER_PART.is_in(self.bundle):
            progress("columns of the ranker", 0, None)
            folder = work.folder / COLUMNS_PART.name
            shutil.rmtree(folder, ignore_errors=True)  # of an interrupted build
            bands = price_bands(self.bundle, table)
            compute_columns(table, bands, features.astype(np.float16), self.boosts).save(folder)
        sync_files(work.folder, [work.folder / VECTORS])
        return manifest.encoder

    def locales(self, _folder: Path, /) -> tuple[str, ...]:
        return self.bundle.manifest.locales

    def tuning_queries(self, table: ProductTable, folder: Path) -> Floats:
        """Returns the vectors of titles, and of their first two or three words, which are nearer to what shoppers type."""
        rng = np.random.default_rng(0)
        rows = np.sort(rng.permutation(len(table))[:TUNING_QUERIES]).tolist()
        titles = [table.string("title", row) for row in rows]
        texts = [title if at % 2 else " ".join(title.split()[: 2 + at // 2 % 2]) for at, title in enumerate(titles)]
        if UNIFIED_PART.is_in(self.bundle):
            locale = self.bundle.manifest.locales[0]
            return LightTower(folder / UNIFIED_PART.name).encode_queries([(text, locale) for text in texts])
        return TextEncoder(folder / TEXT_ENCODER_PART.name).encode([Text(text) for text in texts])
