"""What a locale's first queries are worth: the same variants with 0, 100, 1,000 and 10,000 searches of its own."""

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
    count_wanted,
    is_held_out,
    load_storefronts,
    split_queries,
)
from models.studies.types.trained_types import TrainedTypes, joined
from models.studies.types.type_tables import string_units

SIZES = (0, 100, 1_000, 10_000)  # searches, of which some 1.4 clicks each follow
MAX_OTHERS = 20_000  # rows of other locales that are learned from beside: the curve trains many models


@dataclass(frozen=True, slots=True, eq=False)
class NewLocale:
    """A locale as if it had just opened."""

    locale: str
    own: Sequence[TypeExamples | None]  # of the first SIZES searches; None where nothing can be learned of them
    test: TypeExamples


@dataclass(frozen=True, slots=True)
class LocaleCurve:
    locale: str
    accuracy: dict[str, list[Interval]]  # variant -> accuracy@1 of the new locale, by SIZES
    rich: dict[str, Interval]  # variant -> accuracy@1 of the rich locales, by the model of 100 own searches


def new_locales(queries: StoreQueries, rich: Sequence[str]) -> list[str]:
    """The locales that are looked at as if they had just opened: the one with the fewest clicks among those whose language nobody else
    speaks, then the one among those that share the language of a rich locale; of each, none where there is no such."""
    clicks = {name: queries.num_clicks[name] for name in queries.num_clicks if name not in (MAIN_LOCALE, *rich)}
    languages = [language_of(name) for name in queries.num_clicks]
    alone = [name for name in clicks if languages.count(language_of(name)) == 1]
    akin = [name for name in clicks if language_of(name) in {language_of(one) for one in rich}]
    return [min(names, key=lambda name: (clicks[name], name)) for names in (alone, akin) if names]


def open_locale(
    folder: Path, locale: str, queries: StoreQueries, work: Path, *, max_tests: int, seed: int
) -> NewLocale:
    """Simulates as many searches of `locale` as the curve is long; its test strings are held out as all are."""
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
            # Of so few searches hardly any string comes thrice, so a single click must do.
            found = label_log(part, categories, LabelRule(min_support=1.0), types=queries.train.types).examples
            kept = found.take(np.array([not is_held_out(normalise(query)) for query in found.queries], np.bool_))
            own[-1] = kept if len(kept) else None
    wanted = count_wanted((one.query, one.locale, one.type) for one in log.searches())
    like = replace(queries.train.take(np.arange(0)), locales=(locale,))
    return NewLocale(locale, own, split_queries(like, wanted, max_tests=max_tests, seed=seed).test)


def locale_curve(
    new: NewLocale, queries: StoreQueries, rich: Sequence[str], recipe: TypesRecipe, trained: TrainedTypes, seed: int
) -> LocaleCurve:
    others = queries.train.take(queries.train.locale != queries.train.locales.index(new.locale))
    rng = np.random.default_rng(seed)
    others = others.take(np.sort(rng.permutation(len(others))[:MAX_OTHERS]))
    of_rich = queries.test.take(np.isin(queries.test.row_locales(), list(rich)))
    units = string_units(new.test.queries)
    curve = LocaleCurve(new.locale, {}, {})
    for variant in Variant:
        found = []
        for size, own in zip(SIZES, new.own, strict=True):
            examples = own if variant == Variant.NU else others if own is None else joined(others, own)
            ranked = _answers(
                f"{variant} with {size:,} own", examples, new.test, replace(recipe, variant=variant), trained, seed
            )
            right = np.zeros(len(new.test)) if ranked is None else accuracy_at(ranked, 1)
            found.append(mean_interval(right, units, seed=seed))
            if size == SIZES[1] and variant != Variant.NU and examples is not None and len(of_rich):
                model = trained.of(str(variant), examples, replace(recipe, variant=variant), seed)
                on_rich = accuracy_at(rank_types(model, of_rich), 1)
                curve.rich[variant] = mean_interval(on_rich, string_units(of_rich.queries), seed=seed)
        curve.accuracy[variant] = found
    return curve


def _answers(
    name: str, examples: TypeExamples | None, test: TypeExamples, recipe: TypesRecipe, trained: TrainedTypes, seed: int
) -> RankedTypes | None:
    """None where there is nothing to learn from: such a model answers nothing."""
    if examples is None:
        return None
    try:
        return rank_types(trained.of(name, examples, recipe, seed), test)
    except ExamplesError:
        return None
