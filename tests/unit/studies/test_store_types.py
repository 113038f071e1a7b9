"""Queries of the simulated store: no test query was learned in any locale, truth is not clicks, and the report holds all sections."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from models.evaluation.page import JSON_FILE
from models.query_types.examples import TypeExamples
from models.query_types.labels import LabelRule
from models.query_types.recipe import TypesRecipe
from models.query_types.tokens import QueryHashing, language_of, normalise
from models.sample_store import MAIN_LOCALE, TRUTH, dialect_traps, write_sample_log
from models.studies.oracle_ranker import TruthError
from models.studies.types.evaluate_store_types import StoreTypesPlan, evaluate_types
from models.studies.types.new_locale import SIZES, new_locales, open_locale
from models.studies.types.store_buckets import TYPE, store_buckets, tier_of
from models.studies.types.store_queries import (
    StoreQueries,
    is_held_out,
    read_store_queries,
    read_true_types,
    split_queries,
)
from models.studies.types.trained_types import concat_examples

RULE = LabelRule(min_support=1.0)


def silent(*_: object) -> None:
    """Tells nobody."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store")
    write_sample_log(path, 1000, 100, 12_000, 3, silent)
    return path


@pytest.fixture(scope="module")
def queries(folder: Path) -> StoreQueries:
    return read_store_queries(folder, RULE, max_tests=40, progress=silent)


def test_what_is_asked_was_learned_in_no_locale(queries: StoreQueries) -> None:
    learned = {normalise(query) for query in queries.train.queries}
    assert not learned & set(queries.test.queries)
    assert not learned & set(queries.traps.queries)
    assert len(queries.train) > 1000
    assert max(Counter(queries.test.row_locales()).values()) == 40


def test_the_main_locale_is_learned_and_asked_beside_the_others(queries: StoreQueries) -> None:
    asked = set(queries.test.row_locales())
    assert {MAIN_LOCALE, "en-GB", "de-DE"} <= asked
    assert queries.num_clicks[MAIN_LOCALE] > 500


def test_labels_to_be_measured_by_are_what_was_wanted(folder: Path, queries: StoreQueries) -> None:
    true_types = read_true_types(folder)
    for at, (query, locale) in enumerate(zip(queries.test.queries, queries.test.row_locales(), strict=True)):
        assert {queries.test.types[one] for one in queries.test.labels.row(at)} <= set(true_types[query, locale])


def test_traps_are_asked_in_the_locales_that_say_them(queries: StoreQueries) -> None:
    types = {normalise(trap.query): trap.types for trap in dialect_traps()}
    assert len(queries.traps)
    for at, (query, locale) in enumerate(zip(queries.traps.queries, queries.traps.row_locales(), strict=True)):
        assert [queries.traps.types[one] for one in queries.traps.labels.row(at)] == [types[query][locale]]


def test_a_type_that_few_searches_wanted_is_not_right() -> None:
    held = next(f"query {at}" for at in range(100) if is_held_out(f"query {at}"))
    kept = next(f"query {at}" for at in range(100) if not is_held_out(f"query {at}"))
    labelled = TypeExamples.from_rows([(held, "en", ["a"]), (kept, "en", ["a"])], types=("a", "b", "c"))
    split = split_queries(labelled, {(held, "en"): {"a": 9, "b": 2, "c": 1}, (kept, "en"): {"a": 1}})
    assert split.train.queries == [kept]
    assert split.test.queries == [held]
    assert split.test.labels.row(0).tolist() == [0, 1]


def test_head_types_have_half_of_the_clicks() -> None:
    train = TypeExamples.from_rows([("q", "en", ["a"])] * 5 + [("q", "en", ["b"])] * 4 + [("q", "en", ["c"])])
    test = TypeExamples.from_rows([("q", "en", ["a"]), ("q", "en", ["b"]), ("q", "en", ["c"])])
    assert store_buckets(test, train, {"en": 10.0})[TYPE].codes.tolist() == [0, 1, 2]
    assert [tier_of(one) for one in (20_000, 19_999, 1_999)] == ["high", "mid", "low"]


def test_a_new_locale_learns_of_its_first_searches_and_is_asked_others(
    folder: Path, queries: StoreQueries, tmp_path: Path
) -> None:
    locale, related = new_locales(queries, [MAIN_LOCALE])
    others = [language_of(name) for name in queries.num_clicks if name != locale]
    assert language_of(locale) not in others
    assert language_of(related) == language_of(MAIN_LOCALE) != related
    new = open_locale(folder, locale, queries, tmp_path, max_tests=100, seed=0)
    assert new.own[0] is None
    sizes = [0 if one is None else len(one) for one in new.own]
    assert sizes == sorted(sizes)
    assert 30 < sizes[1] <= SIZES[1]
    assert set(new.test.row_locales()) == {locale}
    largest = new.own[-1]
    assert largest is not None
    assert not {normalise(query) for query in largest.queries} & set(new.test.queries)
    both = concat_examples(queries.train.of_locale(MAIN_LOCALE), largest)
    assert both.row_locales().count(locale) == len(largest)


def test_examples_of_different_types_are_not_concatenated() -> None:
    with pytest.raises(ValueError, match="different types"):
        concat_examples(TypeExamples.from_rows([("q", "en", ["a"])]), TypeExamples.from_rows([("q", "en", ["b"])]))


def test_a_store_without_storefronts_is_refused(tmp_path: Path) -> None:
    (tmp_path / TRUTH).write_text('{"num_products": 5, "seed": 0}')
    with pytest.raises(TruthError, match="no truth of this version"):
        read_true_types(tmp_path)


def test_the_report_has_every_section_and_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    recipe = TypesRecipe("tiny", hashing=QueryHashing(bits=12), dim=8, epochs=1)
    plan = StoreTypesPlan(recipe=recipe, rule=RULE, max_tests=30, curve=False)
    page = evaluate_types(folder, tmp_path, silent, plan=plan)
    values = json.loads((page.parent / JSON_FILE).read_text(encoding="utf-8"))
    assert values["facts"]["simulated"] is True
    titles = [section["title"] for section in values["sections"]]
    assert titles[:2] == ["All queries", "By the amount of training data of the locale"]
    assert {"By locale", "By language", "By type", "Dialect traps", "Calibration"} <= set(titles)
    stages: list[str] = []
    evaluate_types(folder, tmp_path, lambda stage, *_: stages.append(stage), plan=plan)
    assert not [stage for stage in stages if "train" in stage]
    again = json.loads((page.parent / JSON_FILE).read_text(encoding="utf-8"))
    assert again["sections"] == values["sections"]
    assert np.isfinite(values["sections"][0]["tables"][0]["rows"][0][1][0]["value"])
