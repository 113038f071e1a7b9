"""The matching model finds which words mean which path, also from a dictionary of another language; and nothing in shuffled judgements."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from models.query_types.match_paths import Dictionary, QueryPaths, train_matcher
from models.query_types.path_table import MatchRecipe
from models.query_types.tokens import QueryHashing

RECIPE = MatchRecipe(
    hashing=QueryHashing(bits=13, pairs=False),
    dim=16,
    epochs=4,
    batch=64,
    folds=2,
    dictionary_epochs=15,
    dictionary_batch=32,
)
NUM_PATHS = 12
OTHERS = ("kova", "miru", "sel", "tand", "oppu", "rix", "wob", "yelm")  # words that mean nothing


def word(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 7))


def pairs(names: list[list[str]], paths: list[tuple[str, ...]], number: int, seed: int) -> QueryPaths:
    """Half fit: a query names one path by one of its words, among two that mean nothing."""
    rng = np.random.default_rng(seed)
    wanted = rng.integers(NUM_PATHS, size=number)
    fits = rng.random(number) < 0.5
    shown = np.where(fits, wanted, (wanted + rng.integers(1, NUM_PATHS, size=number)) % NUM_PATHS)
    queries = [
        " ".join((str(rng.choice(OTHERS)), str(rng.choice(names[one])), str(rng.choice(OTHERS)))) for one in wanted
    ]
    return QueryPaths(queries, [paths[one] for one in shown], fits)


def area(train: QueryPaths, test: QueryPaths, dictionary: Dictionary | None = None) -> float:
    model = train_matcher(train, RECIPE, dictionary=dictionary, seed=1)
    return float(roc_auc_score(test.fits, model.probabilities(test.queries, test.paths)))


def test_words_are_matched_with_paths_and_shuffled_judgements_teach_nothing() -> None:
    rng = np.random.default_rng(0)
    paths = [(word(rng), word(rng)) for _ in range(NUM_PATHS)]
    names = [[word(rng) for _ in range(2)] for _ in paths]
    train, test = pairs(names, paths, 800, 1), pairs(names, paths, 400, 2)
    assert area(train, test) > 0.9
    shuffled = QueryPaths(train.queries, train.paths, np.random.default_rng(3).permutation(train.fits))
    assert 0.4 < area(shuffled, test) < 0.6


def test_a_dictionary_tells_of_words_that_no_judgement_held() -> None:
    rng = np.random.default_rng(0)
    paths = [(word(rng), word(rng)) for _ in range(NUM_PATHS)]
    learned, unheard = ([[word(rng) for _ in range(2)] for _ in paths] for _ in range(2))
    train, test = pairs(learned, paths, 800, 1), pairs(unheard, paths, 400, 2)
    entries = [(one, path) for names in (learned, unheard) for of, path in zip(names, paths, strict=True) for one in of]
    with_dictionary = area(train, test, Dictionary.learn(entries, RECIPE, seed=1))
    without = area(train, test)
    assert without < 0.65
    assert with_dictionary > without + 0.2
