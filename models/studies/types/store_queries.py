"""The simulated store's queries: training labels from its logs, test labels from the simulation's truth.

Training labels come from clicks, with their noise. Test queries are labelled with the truth: every type that a fair share of the searches
for a string means in a locale. A hash holds strings out of training in all locales at once, so a test query is not a training query in any
locale; its words may occur in other training queries. Strings whose type depends on the locale, the *dialect traps*, are all held out and
tested separately, in each locale that uses them.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from models.arrays import Progress
from models.query_types.examples import TypeExamples
from models.query_types.labels import LabelRule, label_log
from models.query_types.tokens import normalise
from models.sample_store import (
    CATALOGUE,
    EVENTS,
    MAIN_LOCALE,
    STOREFRONTS,
    TRUTH,
    SampleStore,
    StorefrontLog,
    StorefrontParameters,
    dialect_traps,
    load_product_types,
)
from models.studies.oracle_ranker import TruthError, load_simulated_log
from models.unified.words import Ragged

HELD_OUT = 5  # one string in this many is held out
MIN_SHARE = (
    0.15  # of the searches for a string in a locale, from which a type is correct; labels have the same rule for clicks
)

TrueTypes = Mapping[tuple[str, str], Mapping[str, int]]  # (plain query, locale) -> category path -> searches


@dataclass(frozen=True, slots=True, eq=False)
class StoreQueries:
    """Training and test queries. All parts number types and locales alike."""

    train: TypeExamples  # by clicks
    test: TypeExamples  # by truth; each string once per locale
    traps: TypeExamples  # by truth; the dialect traps
    num_clicks: Mapping[str, float]  # locale -> weight of its training rows


@dataclass(frozen=True, slots=True, eq=False)
class Storefronts:
    """The parameters that a store's storefronts were simulated with."""

    store: SampleStore
    searches: Mapping[str, int]  # by locale
    seed: int
    start: datetime
    days: int
    parameters: StorefrontParameters

    def log(self, searches: Mapping[str, int]) -> StorefrontLog:
        """Returns the same simulation with these numbers of searches by locale; the first searches are always the same."""
        return StorefrontLog(self.store, searches, self.seed, self.start, self.days, self.parameters)


def load_storefronts(folder: Path) -> Storefronts:
    """Reads a simulated store's truth.json. Raises TruthError."""
    try:
        values = json.loads((folder / TRUTH).read_text(encoding="utf-8"))
        stated: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values["storefronts"]["parameters"].items()
        }
        return Storefronts(
            SampleStore(values["num_products"], values["seed"]),
            dict(values["storefronts"]["searches"]),
            values["seed"],
            datetime.fromtimestamp(values["start_ms"] / 1000, UTC),
            values["days"],
            StorefrontParameters(**stated),
        )
    except OSError as error:
        raise TruthError(f"{TRUTH} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise TruthError(f"{TRUTH} does not describe storefronts of this version's simulation: {error}") from None


def read_store_queries(
    folder: Path, rule: LabelRule, *, max_tests: int = 1000, seed: int = 0, progress: Progress
) -> StoreQueries:
    """Reads a simulated store's folder: catalogue, events, storefronts and truth.json. Draws `max_tests` test queries by locale.

    Raises TruthError if truth.json belongs to another version's simulation, OSError or ExamplesError for a file that cannot be read.
    """
    progress("read the truth", 0, None)
    true_types = read_true_types(folder)
    progress("label queries by clicks", 0, None)
    labelled = label_log([folder / EVENTS, folder / STOREFRONTS], category_of(folder), rule).examples
    progress("hold out test queries", 0, None)
    return split_queries(labelled, true_types, max_tests=max_tests, seed=seed)


def read_true_types(folder: Path) -> TrueTypes:
    """Repeats the simulation from the parameters in truth.json. Raises TruthError."""
    main = load_simulated_log(folder / TRUTH)
    storefronts = load_storefronts(folder)
    log = storefronts.log(storefronts.searches)
    searches = ((search.query, search.locale, search.type) for search in log.searches())
    popularity = np.round(1e6 * main.intents.probabilities()).astype(np.int64) + 1
    true_types = count_true_types(searches)
    for text, kind, times in zip(main.intents.texts, main.intents.types.tolist(), popularity.tolist(), strict=True):
        true_types[normalise(text), MAIN_LOCALE][load_product_types()[kind].category] += times
    return true_types


def count_true_types(searches: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], Counter[str]]:
    """Counts searches given as (query, locale, category path that the shopper meant)."""
    true_types: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for (query, locale, category), times in Counter(searches).items():
        true_types[normalise(query), locale][category] += times
    return true_types


def split_queries(
    labelled: TypeExamples, true_types: TrueTypes, *, max_tests: int = 1000, seed: int = 0
) -> StoreQueries:
    """Splits queries into training and test; rows of held-out strings leave the training set in every locale."""
    trap_types = {normalise(trap.query): trap.types for trap in dialect_traps()}
    plain = [normalise(query) for query in labelled.queries]
    held = np.array([is_held_out(query) or query in trap_types for query in plain], np.bool_)
    train = labelled.take(~held)
    candidates = [key for key in sorted(true_types) if is_held_out(key[0]) and key[0] not in trap_types]
    chosen = _sample_by_locale(candidates, set(labelled.locales), max_tests, seed)
    traps = {
        (query, locale): {category: 1}
        for query, types in trap_types.items()
        for locale, category in types.items()
        if locale in labelled.locales
    }
    clicks = np.bincount(train.locale, train.weight, len(train.locales)).tolist()
    return StoreQueries(
        train,
        _labelled({key: true_types[key] for key in chosen}, labelled),
        _labelled(traps, labelled),
        dict(zip(train.locales, clicks, strict=True)),
    )


def is_held_out(plain_query: str) -> bool:
    """Returns whether the hash of a normalised query holds it out of training."""
    return zlib.crc32(f"held out {plain_query}".encode()) % HELD_OUT == 0


def category_of(folder: Path) -> dict[str, str]:
    """Reads the category path of each product id of a simulated store."""
    table = pq.read_table(folder / CATALOGUE, columns=["id", "category"])
    return dict(zip(table["id"].to_pylist(), table["category"].to_pylist(), strict=True))


def _sample_by_locale(
    candidates: list[tuple[str, str]], locales: set[str], max_tests: int, seed: int
) -> list[tuple[str, str]]:
    by_locale: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key in candidates:
        if key[1] in locales:
            by_locale[key[1]].append(key)
    rng = np.random.default_rng(seed)
    return [
        mine[at]
        for _, mine in sorted(by_locale.items())
        for at in sorted(rng.permutation(len(mine))[:max_tests].tolist())
    ]


def _labelled(true_types: TrueTypes, like: TypeExamples) -> TypeExamples:
    """Returns rows labelled with types of `like`; leaves out queries without such a type."""
    type_at = {name: at for at, name in enumerate(like.types)}
    rows = []
    for (query, locale), by_type in true_types.items():
        least = MIN_SHARE * sum(by_type.values())
        labels = [type_at[name] for name, times in by_type.items() if times >= least and name in type_at]
        if labels:
            rows.append((query, like.locales.index(locale), sorted(labels), sum(by_type.values())))
    return TypeExamples(
        [query for query, *_ in rows],
        np.array([locale for _, locale, *_ in rows], np.int32),
        Ragged.from_rows(labels for *_, labels, _ in rows),
        np.array([times for *_, times in rows], np.float32),
        like.types,
        like.locales,
    )
