"""Opens a bundle as a catalogue that may change: the structures of its rows, which all parts of a process share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from models.bundles.bundle import Bundle, reading
from models.index.product_vectors import ProductVectors
from models.lexical.lexical_index import LexicalIndex
from models.product_rows import ProductRows
from models.products.attributes.columns import AttributeColumns
from models.products.filter_keys import FILTER_KEYS, FilterKeys
from models.products.identifiers import IdentifierIndex
from models.products.product_table import ProductTable
from models.shards import ShardOf
from serving.catalogue.follower import Follower
from serving.catalogue.live_catalogue import ChangeFailed, LiveCatalogue
from serving.catalogue.log import LogEnded
from serving.catalogue.open_log import open_log
from serving.compute.filter_masks import FilterMasks
from serving.config import CatalogueConfig, ConfigError


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalogue:
    """What a process has of a bundle's rows. `live` changes all of it, and whatever else is attached to it. `lexical` is None for a bundle
    of an older version."""

    bundle: Bundle
    table: ProductTable
    vectors: ProductVectors
    attributes: AttributeColumns
    lexical: LexicalIndex | None
    identifiers: IdentifierIndex
    masks: FilterMasks
    live: LiveCatalogue

    @classmethod
    def open(cls, bundle: Bundle, shard: ShardOf | None = None) -> Catalogue:
        """Opens a bundle, or one that is a shard of another. Raises BundleError."""
        live = open_catalogue(bundle)
        lexical, identifiers = bundle.lexical(), bundle.identifiers()
        keys = None
        if shard:
            live.owns = shard.holds
            bundle.verify(FILTER_KEYS)
            with reading(bundle.folder / FILTER_KEYS):
                keys = FilterKeys.load(bundle.folder)
        masks = FilterMasks(live.table, live.attributes, lexical, keys)
        live.attach(*([lexical] if lexical else []), identifiers, masks)
        catalogue = cls(
            bundle=bundle,
            table=live.table,
            vectors=live.vectors,
            attributes=live.attributes,
            lexical=lexical,
            identifiers=identifiers,
            masks=masks,
            live=live,
        )
        live.holder = catalogue
        return catalogue

    def follow(self, config: CatalogueConfig, on_failure: Callable[[], None] = lambda: None) -> Follower | None:
        """Brings the catalogue up to the end of the log, and keeps it in step from now on. Returns None if the catalogue takes no changes.
        `on_failure` is that of `Follower`. Raises ConfigError."""
        manifest = self.bundle.manifest
        log = open_log(config, manifest.name, manifest.line, manifest.sequence)
        if log is None:
            return None
        follower = Follower(self.live, log, on_failure)
        try:
            follower.start()
        except LogEnded as error:
            raise ConfigError(f"{self.bundle.folder}: {error}; serve the generation that was built last") from None
        except ChangeFailed as error:
            raise ConfigError(f"{self.bundle.folder}: {error}; 'aisle catalogue compact' may get past it") from error
        return follower


def open_catalogue(bundle: Bundle) -> LiveCatalogue:
    """Opens the products and vectors alone, which tell what a catalogue holds after some changes. Raises BundleError."""
    manifest = bundle.manifest
    return LiveCatalogue(
        bundle.products(),
        bundle.product_vectors(),
        bundle.attributes(),
        ProductRows(bundle),
        manifest.dim,
        manifest.sequence,
        manifest.encoder_version,
    )


_shared: WeakValueDictionary[tuple[Path, str], Catalogue] = WeakValueDictionary()
_opening = threading.Lock()


def shared_catalogue(folder: Path) -> Catalogue:
    """Returns the catalogue of a bundle, one for all parts of this process, as long as one of them holds it. Raises BundleError."""
    bundle = Bundle(folder)
    key = folder, bundle.manifest.version
    with _opening:
        catalogue = _shared.get(key)
        if catalogue is None:
            catalogue = _shared[key] = Catalogue.open(bundle)
    return catalogue
