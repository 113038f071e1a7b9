"""ScoredCandidates pairs of query and path are read as they are, divided by query, and thresholds are chosen on other folds."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from models.evaluation.page import JSON_FILE
from models.query_types.match_paths import Priors, QueryPaths, shared_rows, train_matcher
from models.query_types.path_table import MatchRecipe
from models.query_types.tokens import QueryHashing
from models.studies.types.evaluate_query_paths import (
    MODEL,
    OVERLAP,
    PRIOR,
    QueryPathsPlan,
    best_thresholds,
    evaluate_query_paths,
    f1,
)
from models.studies.types.query_paths import FILE, QueryPathsError, folds_by_query, read_query_paths, steps_of

HEADER = "language,origin_query,category_path,label\n"
TINY = MatchRecipe(hashing=QueryHashing(bits=12, pairs=False), dim=16, epochs=2, batch=32, folds=2)


def written(path: Path, lines: str) -> Path:
    path.write_bytes(gzip.compress((HEADER + lines).encode()))
    return path


def test_pairs_are_read_once_and_disputed_ones_left_out(tmp_path: Path) -> None:
    same = 'en,Red Shoes,"shoes,women\'s shoes",1\nen,red  shoes,"shoes,women\'s shoes",1\n'
    disputed = 'de,Lampe,"home,lamps",1\nde,Lampe,"home,lamps",0\n'
    judged = read_query_paths(written(tmp_path / FILE, f'{same}{disputed}de,Lampe,"home,shoes",0\n'))
    assert list(judged.pairs.queries) == ["red shoes", "lampe"]
    assert list(judged.pairs.paths) == [("shoes", "women's shoes"), ("home", "shoes")]
    assert judged.pairs.fits.tolist() == [True, False]
    assert (judged.languages, judged.num_repeated, judged.num_disputed) == (("en", "de"), 1, 1)


def test_commas_with_a_space_are_part_of_a_step() -> None:
    assert steps_of("automobiles, parts & accessories,exterior parts") == (
        "automobiles, parts & accessories",
        "exterior parts",
    )
    assert steps_of("toys,props\uff08deactivate\uff09") == ("toys", "props")


def test_what_is_not_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QueryPathsError, match="line 3: label is 'yes'"):
        read_query_paths(written(tmp_path / FILE, "en,a,b,1\nen,c,d,yes\n"))
    with pytest.raises(QueryPathsError, match="no pair that fits, or none that does not"):
        read_query_paths(written(tmp_path / FILE, "en,a,b,1\n"))
    (tmp_path / FILE).write_text("a,b\n")
    with pytest.raises(QueryPathsError, match="the columns language, origin_query, category_path, label are missing"):
        read_query_paths(tmp_path / FILE)


def test_a_query_is_in_one_fold() -> None:
    queries = [f"query {at}" for at in range(100)] * 2
    folds = folds_by_query(queries, 5)
    assert (folds[:100] == folds[100:]).all()
    assert set(folds.tolist()) == set(range(5))


def test_priors_draw_a_rare_path_to_the_overall_share() -> None:
    paths = [("a", "b")] * 4 + [("a", "c")]
    priors = Priors.count(QueryPaths(["q"] * 5, paths, np.array([True, True, True, True, False])))
    by_path, by_leaf, by_top, count = priors.features([("a", "b"), ("a", "c"), ("x", "y")]).T.tolist()
    assert by_path == pytest.approx([(4 + 3.2) / 8, 3.2 / 5, 0.8])
    assert by_leaf == by_path
    assert by_top == pytest.approx([0.8, 0.8, 0.8])
    assert count == [4, 1, 0]


def test_shared_rows_are_those_of_words_and_their_parts() -> None:
    shared = shared_rows(["lamps", "lamp", "xyz"], [("home", "lamps")] * 3, MatchRecipe())
    assert shared[0] == 1.0
    assert 0 < shared[1] < 1
    assert shared[2] == 0.0


def test_pairs_that_are_judged_alike_teach_nothing() -> None:
    with pytest.raises(ValueError, match="2 pairs are all judged alike"):
        train_matcher(QueryPaths(["a", "b"], [("x",)] * 2, np.ones(2, np.bool_)), TINY)


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_are_the_best_of_the_other_folds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fits = (rng.random(60) < 0.6).astype(np.float64)
    scores = (fits * 0.5 + rng.random(60)).round(1)
    folds = np.arange(60) % 2
    for_f1, for_macro = best_thresholds(scores, fits, folds)
    truth, other = fits[folds == 1], scores[folds == 1]
    for chosen, average in ((for_f1[0], "binary"), (for_macro[0], "macro")):
        best = max(f1_score(truth, other >= one, average=average) for one in np.unique(other))
        assert f1_score(truth, other >= chosen, average=average) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(3))
def test_f1_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true_types, said, weights = rng.integers(2, size=50), rng.random(50) < 0.5, rng.random(50)
    assert f1(true_types.astype(np.float64), said, weights) == pytest.approx(
        f1_score(true_types, said, sample_weight=weights)
    )


def test_the_report_scores_every_pair_with_every_model(tmp_path: Path) -> None:
    things, colours = ("shoe", "lamp", "desk"), ("red", "blue", "green", "grey", "pink", "gold", "teal")
    lines = "".join(
        f'{language},{colour} {thing}{end},"home,{path}s",{int(thing == path)}\n'
        for language, end in (("en", ""), ("xx", "ix"))
        for colour in colours
        for thing in things
        for path in things
    )
    plan = QueryPathsPlan(recipe=TINY, num_folds=2, num_resamples=20)
    page = evaluate_query_paths(written(tmp_path / FILE, lines), tmp_path / "out", lambda *_: None, plan=plan)
    values = json.loads((page.parent / JSON_FILE).read_text(encoding="utf-8"))
    assert values["facts"]["simulated"] is False
    rows = dict(values["sections"][0]["tables"][0]["rows"])
    assert set(rows) == {MODEL, PRIOR, OVERLAP, "BM25", "yes to every pair"}
    assert rows["BM25"][0]["num_cases"] == 2 * 7 * 9
    assert rows[OVERLAP][0]["value"] > 0.9
    by_language = dict(values["sections"][1]["tables"][0]["rows"])
    assert [by_language[name][0] for name in ("en", "xx")] == [63, 63]


def test_the_real_data_is_read_whole(real_data: Callable[[str], Path]) -> None:
    judged = read_query_paths(real_data(FILE))
    assert (len(judged.pairs), judged.num_repeated, judged.num_disputed) == (12_723, 1, 0)
    assert sorted(set(judged.languages)) == ["ar", "de", "en", "es", "fr", "it", "ja", "ko", "pl", "pt"]
