"""The simulated store's queries: what its logs teach, and what its shoppers truly wanted by strings that no log line taught.

Training labels come from clicks alone, with their noise. What is asked is labelled with the truth of the simulation: every type that a fair
share of the searches for a string wants in a locale. A string is held out by its hash, of all locales at once, so a query that is asked was
not learned from in any locale (words of it were, in other queries). Strings whose type depends on the locale, the *dialect traps*, are all
held out and asked apart, in each locale that says them.
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

HELD_OUT = 5  # one of so many strings
MIN_SHARE = 0.15  # of the searches for a string in a locale that a type needs to be right, as labels need of clicks

Wanted = Mapping[tuple[str, str], Mapping[str, int]]  # (plain query, locale) -> category path -> searches


@dataclass(frozen=True, slots=True, eq=False)
class StoreQueries:
    """All number types and locales alike."""

    train: TypeExamples  # by clicks
    test: TypeExamples  # by truth; each string once a locale
    traps: TypeExamples  # the same of dialect traps
    num_clicks: Mapping[str, float]  # locale -> engagement that the training rows rest on


@dataclass(frozen=True, slots=True, eq=False)
class Storefronts:
    """What a store's storefronts were simulated with."""

    store: SampleStore
    searches: Mapping[str, int]  # by locale
    seed: int
    start: datetime
    days: int
    parameters: StorefrontParameters

    def log(self, searches: Mapping[str, int]) -> StorefrontLog:
        """The same simulation, with so many searches of each locale: the first ones are always the same."""
        return StorefrontLog(self.store, searches, self.seed, self.start, self.days, self.parameters)


def load_storefronts(folder: Path) -> Storefronts:
    """Of a simulated store's truth.json. Raises TruthError."""
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
        raise TruthError(f"{TRUTH} is no truth of this version's simulated storefronts: {error}") from None


def read_store_queries(
    folder: Path, rule: LabelRule, *, max_tests: int = 1000, seed: int = 0, progress: Progress
) -> StoreQueries:
    """Of a simulated store's folder: catalogue, events and storefronts, all Parquet, and truth.json. `max_tests` of each locale are asked.

    Raises TruthError where truth.json is not of this version's simulation, OSError or ExamplesError for a file that cannot be read.
    """
    progress("read what was wanted", 0, None)
    wanted = read_wanted(folder)
    progress("label queries by clicks", 0, None)
    labelled = label_log([folder / EVENTS, folder / STOREFRONTS], category_of(folder), rule).examples
    progress("hold queries out", 0, None)
    return split_queries(labelled, wanted, max_tests=max_tests, seed=seed)


def read_wanted(folder: Path) -> Wanted:
    """Made anew of the numbers in truth.json. Raises TruthError."""
    main = load_simulated_log(folder / TRUTH)
    storefronts = load_storefronts(folder)
    log = storefronts.log(storefronts.searches)
    asked = ((search.query, search.locale, search.type) for search in log.searches())
    popularity = np.round(1e6 * main.intents.probabilities()).astype(np.int64) + 1
    wanted = count_wanted(asked)
    for text, kind, times in zip(main.intents.texts, main.intents.types.tolist(), popularity.tolist(), strict=True):
        wanted[normalise(text), MAIN_LOCALE][load_product_types()[kind].category] += times
    return wanted


def count_wanted(searches: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], Counter[str]]:
    """From (query, locale, category path that was wanted)."""
    wanted: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for (query, locale, category), times in Counter(searches).items():
        wanted[normalise(query), locale][category] += times
    return wanted


def split_queries(labelled: TypeExamples, wanted: Wanted, *, max_tests: int = 1000, seed: int = 0) -> StoreQueries:
    """Rows of held-out strings leave the training set in every locale."""
    trap_types = {normalise(trap.query): trap.types for trap in dialect_traps()}
    plain = [normalise(query) for query in labelled.queries]
    held = np.array([is_held_out(query) or query in trap_types for query in plain], np.bool_)
    train = labelled.take(~held)
    asked = [key for key in sorted(wanted) if is_held_out(key[0]) and key[0] not in trap_types]
    chosen = _some_of_each(asked, set(labelled.locales), max_tests, seed)
    traps = {
        (query, locale): {category: 1}
        for query, types in trap_types.items()
        for locale, category in types.items()
        if locale in labelled.locales
    }
    clicks = np.bincount(train.locale, train.weight, len(train.locales)).tolist()
    return StoreQueries(
        train,
        _labelled({key: wanted[key] for key in chosen}, labelled),
        _labelled(traps, labelled),
        dict(zip(train.locales, clicks, strict=True)),
    )


def is_held_out(plain_query: str) -> bool:
    return zlib.crc32(f"held out {plain_query}".encode()) % HELD_OUT == 0


def category_of(folder: Path) -> dict[str, str]:
    table = pq.read_table(folder / CATALOGUE, columns=["id", "category"])
    return dict(zip(table["id"].to_pylist(), table["category"].to_pylist(), strict=True))


def _some_of_each(asked: list[tuple[str, str]], locales: set[str], most: int, seed: int) -> list[tuple[str, str]]:
    by_locale: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key in asked:
        if key[1] in locales:
            by_locale[key[1]].append(key)
    rng = np.random.default_rng(seed)
    return [
        mine[at] for _, mine in sorted(by_locale.items()) for at in sorted(rng.permutation(len(mine))[:most].tolist())
    ]


def _labelled(wanted: Wanted, like: TypeExamples) -> TypeExamples:
    """Rows with the types that `like` knows; those of none are left out."""
    type_at = {name: at for at, name in enumerate(like.types)}
    rows = []
    for (query, locale), by_type in wanted.items():
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
