"""The learning curve of a new locale: the same variants with 0, 100, 1,000 and 10,000 searches of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.evaluation.bootstrap import Interval, mean_interval
from models.evaluation.ranked_types import RankedTypes, rank_types
from models.evaluation.type_metrics import accuracy_at
from models.query_types.examples import ExamplesError, TypeExamples
from models.query_types.labels import LabelRule, label_log
from models.query_types.recipe import TypesRecipe, Variant
from models.query_types.tokens import language_of, normalise
from models.sample_store import MAIN_LOCALE
from models.studies.types.store_queries import (
    StoreQueries,
    category_of,
    count_true_types,
    is_held_out,
    load_storefronts,
    split_queries,
)
from models.studies.types.trained_types import TrainedTypes, concat_examples
from models.studies.types.type_tables import string_units

SIZES = (0, 100, 1_000, 10_000)  # searches, each with about 1.4 clicks
MAX_OTHERS = 20_000  # training rows of other locales; limited because the curve trains many models


@dataclass(frozen=True, slots=True, eq=False)
class NewLocale:
    """A locale, as if it had just opened."""

    locale: str
    own: Sequence[TypeExamples | None]  # from the first SIZES searches; None without a usable row
    test: TypeExamples


@dataclass(frozen=True, slots=True)
class LocaleCurve:
    locale: str
    accuracy: dict[str, list[Interval]]  # variant -> accuracy@1 of the new locale, by SIZES
    rich: dict[str, Interval]  # variant -> accuracy@1 in locales with much data, of the model with 100 own searches


def new_locales(queries: StoreQueries, rich: Sequence[str]) -> list[str]:
    """Returns the locales to treat as new: the one with the fewest clicks among locales with a language of their own, and the one with the
    fewest clicks among locales that share the language of a `rich` locale. Leaves out what does not exist."""
    clicks = {name: queries.num_clicks[name] for name in queries.num_clicks if name not in (MAIN_LOCALE, *rich)}
    languages = [language_of(name) for name in queries.num_clicks]
    alone = [name for name in clicks if languages.count(language_of(name)) == 1]
    related = [name for name in clicks if language_of(name) in {language_of(rich_name) for rich_name in rich}]
    return [min(names, key=lambda name: (clicks[name], name)) for names in (alone, related) if names]


def open_locale(
    folder: Path, locale: str, queries: StoreQueries, work: Path, *, max_tests: int, seed: int
) -> NewLocale:
    """Simulates the longest number of searches of `locale`; its test strings are held out by the same hash as all others."""
    log = load_storefronts(folder).log({locale: SIZES[-1]})
    events = pa.Table.from_batches(log.batches())
    numbers = np.array([int(event.rsplit("-", 2)[1]) for event in events["id"].to_pylist()])
    own: list[TypeExamples | None] = []
    categories = category_of(folder)
    for size in SIZES:
        own.append(None)
        if size:
            part = work / f"{locale}_first_{size}.parquet"
            pq.write_table(events.filter(pa.array(numbers < size)), part)
            # In so few searches hardly any string occurs three times, so a single click must be enough.
            labelled = label_log(part, categories, LabelRule(min_support=1.0), types=queries.train.types).examples
            kept = labelled.take(np.array([not is_held_out(normalise(query)) for query in labelled.queries], np.bool_))
            own[-1] = kept if len(kept) else None
    true_types = count_true_types((search.query, search.locale, search.type) for search in log.searches())
    like = replace(queries.train.take(np.arange(0)), locales=(locale,))
    return NewLocale(locale, own, split_queries(like, true_types, max_tests=max_tests, seed=seed).test)


def locale_curve(
    new: NewLocale, queries: StoreQueries, rich: Sequence[str], recipe: TypesRecipe, trained: TrainedTypes, seed: int
) -> LocaleCurve:
    """Trains every variant with 0, 100, 1,000 and 10,000 own searches of the new locale, and measures accuracy@1."""
    others = queries.train.take(queries.train.locale != queries.train.locales.index(new.locale))
    rng = np.random.default_rng(seed)
    others = others.take(np.sort(rng.permutation(len(others))[:MAX_OTHERS]))
    of_rich = queries.test.take(np.isin(queries.test.row_locales(), list(rich)))
    units = string_units(new.test.queries)
    curve = LocaleCurve(new.locale, {}, {})
    for variant in Variant:
        accuracies = []
        for size, own in zip(SIZES, new.own, strict=True):
            examples = own if variant == Variant.NU else others if own is None else concat_examples(others, own)
            ranked = _answers(
                f"{variant} with {size:,} own", examples, new.test, replace(recipe, variant=variant), trained, seed
            )
            right = np.zeros(len(new.test)) if ranked is None else accuracy_at(ranked, 1)
            accuracies.append(mean_interval(right, units, seed=seed))
            if size == SIZES[1] and variant != Variant.NU and examples is not None and len(of_rich):
                model = trained.train(str(variant), examples, replace(recipe, variant=variant), seed)
                on_rich = accuracy_at(rank_types(model, of_rich), 1)
                curve.rich[variant] = mean_interval(on_rich, string_units(of_rich.queries), seed=seed)
        curve.accuracy[variant] = accuracies
    return curve


def _answers(
    name: str, examples: TypeExamples | None, test: TypeExamples, recipe: TypesRecipe, trained: TrainedTypes, seed: int
) -> RankedTypes | None:
    """Returns the predictions, or None if there is no training row."""
    if examples is None:
        return None
    try:
        return rank_types(trained.train(name, examples, recipe, seed), test)
    except ExamplesError:
        return None
