"""A bundle's vectors by the unified model, which it trains from a shopping log. Needs the extra `aisle[train]`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import Float16s, Floats, Ints, Progress
from models.bundles.bundle import VECTORS
from models.bundles.embedding import npy_header
from models.bundles.files import sync_files
from models.bundles.vector_rows import vector_rows
from models.bundles.work_folder import WorkFolder
from models.events.event import Event, EventKind
from models.events.event_log import EventLog, log_digests, open_log
from models.events.kinds import IMPRESSION
from models.index.spec import num_columns
from models.products.product_table import ProductTable
from models.text_encoder.spec import EncoderSpec
from models.unified.bundle_part import UNIFIED_PART
from models.unified.history import MAX_QUERY_WORDS, history_items
from models.unified.light_tower import LightTower, read_spec
from models.unified.price_bands import PriceBands
from models.unified.recipe import UnifiedRecipe
from models.unified.signals import SavedSignals
from models.unified.static_feature_names import STATIC_FEATURES
from models.unified.static_features import static_features
from models.unified.update import Update

WRITE_BLOCK = 16_384  # products
TUNING_QUERIES = 200  # without a shopper, and as many of shoppers with a history
TUNING_EVENTS = 32  # of one shopper


@dataclass(frozen=True, slots=True)
class UnifiedEmbedding:
    """Trains on the logs `events`, as `open_log` opens them, and embeds. Raises LogError for logs without examples."""

    events: tuple[Path, ...]
    recipe: UnifiedRecipe
    seed: int = 0
    device: str = "cpu"
    logs: Path | None = None  # for TensorBoard
    until_ms: int | None = None  # events before this are learned from; None: those of the recipe's `train_share`
    update: Update | None = None  # of a trained model, in place of training one

    @property
    def boosts(self) -> tuple[str, ...]:
        return STATIC_FEATURES

    def fingerprint(self) -> str:
        update = None if self.update is None else self.update.fingerprint()
        inputs = [[log_digests(log) for log in self.events], asdict(self.recipe), self.seed, self.until_ms, update]
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()

    def prepare(self, work: WorkFolder, progress: Progress) -> None:
        """Does nothing: the model needs the products."""

    def embed(self, table: ProductTable, work: WorkFolder, progress: Progress) -> dict[str, Any]:
        from models.unified.saved_model import IDS_FILE, VECTORS_FILE
        from models.unified.shopping_log import ShoppingLog
        from models.unified.train_unified import train_unified

        folder = work.folder / UNIFIED_PART.name
        if not folder.exists():
            log = ShoppingLog.read(self.events, [table.id(row) for row in range(len(table))])
            train_unified(
                table,
                log,
                self.recipe,
                folder,
                progress,
                seed=self.seed,
                device=self.device,
                logs=self.logs,
                until_ms=self.until_ms,
                update=self.update,
            )
        if (folder / VECTORS_FILE).exists():
            features = static_features(
                table, SavedSignals(folder).for_ids([table.id(row) for row in range(len(table))])
            )
            _write_vectors(np.load(folder / VECTORS_FILE, mmap_mode="r"), features, work.folder / VECTORS)
            sync_files(work.folder, [work.folder / VECTORS])
            (folder / VECTORS_FILE).unlink()
        (folder / IDS_FILE).unlink(missing_ok=True)  # the bundle's products are in the same order
        sync_files(work.folder, [path for path in folder.rglob("*") if path.is_file()])
        spec = EncoderSpec(
            model=f"unified, recipe {self.recipe.name}",
            dim=self.recipe.sizes.dim,
            dimensions=self.recipe.sizes.prefixes,
            max_query_tokens=MAX_QUERY_WORDS,
            max_product_tokens=self.recipe.query_generation.max_product_words,
        )
        return asdict(spec)

    def locales(self, folder: Path, /) -> tuple[str, ...]:
        return tuple(read_spec(folder / UNIFIED_PART.name)["locales"])

    def tuning_queries(self, table: ProductTable, folder: Path) -> Floats:
        """Returns vectors of the log's queries, plain and personalised, of the time that the model learned from."""
        tower = LightTower(folder / UNIFIED_PART.name)
        bands = PriceBands.load(folder / UNIFIED_PART.name)
        log = open_log(self.events)
        until_ms = int(read_spec(folder / UNIFIED_PART.name)["until_ms"])
        found = np.flatnonzero((log.kind != IMPRESSION) & (log.query > 0) & (log.time_ms < until_ms))
        rng = np.random.default_rng(0)
        chosen = log.table(np.sort(rng.permutation(found)[:TUNING_QUERIES]))
        plain = [(row["query"], row["locale"]) for row in chosen.to_pylist()]
        queries, histories = [], []
        for events in _sample_histories(log, found, rng):
            queries.append((events[-1].query, events[-1].locale))
            histories.append(history_items(events[:-1], table.product_of, bands.band))
        vectors = tower.encode_queries(plain)
        if queries:
            moved = tower.personalise(tower.encode_queries(queries), tower.encode_shoppers(histories))
            vectors = np.concatenate([vectors, moved])
        return np.ascontiguousarray(vectors, np.float32)


def _write_vectors(unit_vectors: Float16s, features: Floats, out: Path) -> None:
    """Writes (products, dim) and (products, features) side by side, and zeros up to `num_columns`. It writes without a memory map, where a
    full disk would kill the process."""
    size, dim = unit_vectors.shape
    with out.open("wb") as file:
        file.write(npy_header((size, num_columns(dim, features.shape[1]))))
        for start in range(0, size, WRITE_BLOCK):
            stop = min(start + WRITE_BLOCK, size)
            file.write(vector_rows(unit_vectors[start:stop], features[start:stop]).tobytes())


def _sample_histories(log: EventLog, rows: Ints, rng: np.random.Generator) -> list[list[Event]]:
    """Returns the last events of some shoppers among `rows`, in order of time."""
    rows = rows[log.shopper[rows] >= 0]
    chosen = rng.permutation(np.unique(log.shopper[rows]))[:TUNING_QUERIES]
    by_shopper: dict[str, list[Event]] = {}
    for row in log.table(rows[np.isin(log.shopper[rows], chosen)]).to_pylist():
        time_ms = int(row.pop("time").timestamp() * 1000)
        event = Event(**{**row, "time_ms": time_ms, "kind": EventKind(row["kind"])})
        by_shopper.setdefault(event.shopper_id, []).append(event)
    return [events[-TUNING_EVENTS:] for events in by_shopper.values() if len(events) > 1]
