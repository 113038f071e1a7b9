"""Queries derived of a taxonomy: no test query was learned in its locale, and its form says what it lacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.evaluation.page import JSON_FILE
from models.evaluation.type_metrics import accuracy_at
from models.query_types.recipe import TypesRecipe
from models.query_types.tokens import QueryHashing
from models.studies.types.evaluate_taxonomy import BASELINE, TaxonomyPlan, evaluate_taxonomy
from models.studies.types.name_search import rank_by_name
from models.studies.types.taxonomy import (
    CATEGORIES,
    VALUES,
    Form,
    Taxonomy,
    TaxonomyError,
    derive_taxonomy_queries,
    read_taxonomy,
    read_taxonomy_paths,
)

PATHS = {
    "en": ["Home", "Home > Garden Chairs", "Home > Garden Tables", "Home > Lamps", "Home > Big Garden Lamps & Lights"],
    "de": [
        "Heim",
        "Heim > Gartenstühle",
        "Heim > Gartentische",
        "Heim > Lampen",
        "Heim > Große Gartenlampen & Lichter",
    ],
    "ja": ["家", "家 > ガーデンチェア", "家 > ガーデンテーブル", "家 > ランプ", "家 > ガーデンランプ"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [(f"h-{at}", locale, path) for locale, paths in PATHS.items() for at, path in enumerate(paths)]
    columns = dict(zip(("category_id", "locale", "path"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / CATEGORIES)
    values = {"locale": ["en", "en", "en", "de"], "value": ["Oak", "Size 12", "one two three", "Eiche"]}
    pq.write_table(pa.table(values), tmp_path / VALUES)
    return tmp_path


def test_names_parents_and_short_values_are_read(folder: Path) -> None:
    taxonomy = read_taxonomy(folder)
    assert taxonomy.locales == ("de", "en", "ja")
    assert taxonomy.names["en"][1] == "Garden Chairs"
    assert taxonomy.parents["en"][:2] == ["", "Home"]
    assert taxonomy.values == {"en": ["oak"], "de": ["eiche"], "ja": []}


def test_a_word_is_missing_or_a_letter_or_a_third_of_letters(folder: Path) -> None:
    queries = derive_taxonomy_queries(read_taxonomy(folder))
    asked: dict[tuple[str, str], tuple[str, Form]] = {}
    for at, query in enumerate(queries.test.queries):
        category = queries.test.types[queries.test.labels.row(at)[0]]
        asked[queries.test.row_locales()[at], category] = (query, queries.forms[at])
    assert asked["en", "h-1"][0] in ("garden", "chairs")
    assert asked["en", "h-4"][0] in (
        "garden lamps & lights",
        "big lamps & lights",
        "big garden lights",
        "big garden lamps",
    )
    text, form = asked["de", "h-1"]
    assert (len(text), form) == (len("gartenstühle") - 1, Form.LETTER_MISSING)
    text, form = asked["ja", "h-1"]
    assert text in ("デンチェア", "ガーデンチ", "ンチェア", "ガーデン") or len(text) == len("ガーデンチェア") - 2
    assert form == Form.WORD_MISSING


@pytest.mark.parametrize("seed", range(5))
def test_no_string_is_asked_that_was_learned_in_its_locale(folder: Path, seed: int) -> None:
    queries = derive_taxonomy_queries(read_taxonomy(folder), seed=seed)
    learned = set(zip(queries.train.queries, queries.train.row_locales(), strict=True))
    assert not learned & set(zip(queries.test.queries, queries.test.row_locales(), strict=True))
    assert ("garden chairs", "en") in learned


def test_all_categories_that_a_string_could_be_of_fit() -> None:
    taxonomy = Taxonomy(
        ("a", "b", "c", "d"),
        {"en": ["Garden Chairs", "Garden Tables", "Office Chairs", "Green Tea"]},
        {"en": [""] * 4},
        {"en": []},
    )
    found = {}
    for seed in range(8):
        queries = derive_taxonomy_queries(taxonomy, seed=seed)
        found |= {query: set(queries.fits.row(at).tolist()) for at, query in enumerate(queries.test.queries)}
    assert found["garden"] == {0, 1}
    assert found["chairs"] == {0, 2}
    assert found["tables"] == {1}


def test_a_dictionary_names_english_paths_in_the_languages_asked_for(folder: Path) -> None:
    entries = read_taxonomy_paths(folder, {"de"})
    assert ("Lampen", ("Home", "Lamps")) in entries
    assert len(entries) == len(PATHS["de"])


def test_bm25_of_names_finds_a_name_by_a_part_of_it(folder: Path) -> None:
    taxonomy = read_taxonomy(folder)
    queries = derive_taxonomy_queries(taxonomy)
    found = rank_by_name(taxonomy.names, queries.test)
    assert accuracy_at(found.judged_by(queries.fits), 3).mean() == 1.0


def test_the_report_judges_by_the_one_category_and_by_all_that_fit(folder: Path, tmp_path: Path) -> None:
    names = [f"Garden {chr(97 + at)}{chr(97 + at)}{chr(97 + at)} Chairs" for at in range(26)]
    rows = [(f"h-{at}", locale, f"Home > {name}") for locale in ("en", "de") for at, name in enumerate(names)]
    columns = dict(zip(("category_id", "locale", "path"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), folder / CATEGORIES)
    recipe = TypesRecipe("tiny", hashing=QueryHashing(bits=10), dim=8, epochs=1)
    page = evaluate_taxonomy(folder, tmp_path / "out", lambda *_: None, plan=TaxonomyPlan(recipe=recipe))
    values = json.loads((page.parent / JSON_FILE).read_text(encoding="utf-8"))
    assert values["facts"]["simulated"] is False
    tables = {table["caption"]: dict(table["rows"]) for table in values["sections"][0]["tables"]}
    strict, fitting = tables["Correct: the original category"], tables["Correct: any category that fits"]
    assert set(strict) == {"u_aw", BASELINE}
    assert strict[BASELINE][1]["value"] < fitting[BASELINE][1]["value"] == 1.0  # "garden chairs" is all of them


def test_what_is_not_the_data_is_refused(folder: Path) -> None:
    with pytest.raises(TaxonomyError, match="no locale xx"):
        read_taxonomy(folder, ["xx"])
    pq.write_table(pa.table({"locale": ["en"]}), folder / VALUES)
    with pytest.raises(TaxonomyError, match="the columns value are missing"):
        read_taxonomy(folder)
    (folder / CATEGORIES).unlink()
    with pytest.raises(TaxonomyError, match="cannot be read as Parquet"):
        read_taxonomy(folder)


def test_the_real_data_gives_queries_in_every_locale(real_data: Callable[[str], Path]) -> None:
    folder = real_data(CATEGORIES).parent
    assert real_data(VALUES).parent == folder
    taxonomy = read_taxonomy(folder, ["en", "ja"])
    assert len(taxonomy.ids) == 10_595
    queries = derive_taxonomy_queries(taxonomy, max_tests=200)
    assert np.bincount(queries.test.locale).tolist() == [200, 200]
    assert 19_000 < len(queries.train) < 45_000
