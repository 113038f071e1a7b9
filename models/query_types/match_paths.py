"""Matches category paths with queries, for types that are too many or too new to be classes.

Boosted trees map to a probability what five readers say of a query and a path:

    path_table           cosines in one table of hashed tokens, before and after tuning; of the whole path and of its steps
    Priors               the share of judged queries that the path fits
    word_lexicon         the share of the query's words that the path has, translated by a dictionary
    crossed_words        a linear model of which words go with which steps
    judged_neighbours    how like queries were judged with like paths

Their training features are computed out of fold, since a reader that learned from a pair has seen its answer.

Needs the extra `aisle[train]` and scikit-learn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from models.arrays import Bools, Doubles, Floats, Ints, Progress
from models.errors import InputError
from models.query_types import judged_neighbours, word_lexicon
from models.query_types.crossed_words import CrossedWords
from models.query_types.judged_neighbours import JudgedNeighbours
from models.query_types.path_table import MatchRecipe, PairTexts, Path, learn_dictionary, text_vectors, tuned_table
from models.query_types.word_lexicon import WordLexicon
from models.unified.words import Ragged

_PRIOR_STRENGTH = 4.0  # strength of the overall share in that of a path, in judgements


@dataclass(frozen=True, slots=True, eq=False)
class QueryPaths:
    """Judged pairs of query and path."""

    queries: Sequence[str]
    paths: Sequence[Path]
    fits: Bools  # (pairs,)

    def __post_init__(self) -> None:
        if not len(self.queries) == len(self.paths) == len(self.fits):
            raise ValueError(
                f"{len(self.queries)} queries, {len(self.paths)} paths and {len(self.fits)} judgements differ in number"
            )
        if not all(self.paths):
            raise ValueError("every path needs a step")

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, rows: Ints | Bools) -> QueryPaths:
        at = (np.flatnonzero(rows) if rows.dtype == np.bool_ else rows).tolist()
        return QueryPaths([self.queries[row] for row in at], [self.paths[row] for row in at], self.fits[at])


@dataclass(frozen=True, slots=True, eq=False)
class Dictionary:
    """What texts of many languages, each with the path that it names, tell before any judgement."""

    table: Floats  # of `path_table`
    lexicon: WordLexicon

    @classmethod
    def learn(
        cls,
        entries: Sequence[tuple[str, Path]],
        recipe: MatchRecipe,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Dictionary:
        """Takes texts with their paths, which may be none."""
        return cls(learn_dictionary(entries, recipe, seed=seed, progress=progress), WordLexicon.count(entries))


class PathMatcher:
    """Predicts the probability that a path fits a query."""

    def __init__(self, recipe: MatchRecipe, readers: _Readers, trees: HistGradientBoostingClassifier) -> None:
        self._recipe, self._readers, self._trees = recipe, readers, trees

    def probabilities(self, queries: Sequence[str], paths: Sequence[Path]) -> Doubles:
        """Returns (pairs,) the probability that paths[i] fits queries[i]."""
        texts = PairTexts.from_pairs(queries, paths, self._recipe)
        features = self._readers.features(texts, queries, paths)
        with threadpool_limits(1, user_api="openmp"):
            return np.asarray(self._trees.predict_proba(features)[:, 1], np.float64)


def shared_rows(queries: Sequence[str], paths: Sequence[Path], recipe: MatchRecipe) -> Doubles:
    """Returns (pairs,) the share of a query's words and n-grams that its path also has, a baseline without learning."""
    texts = PairTexts.from_pairs(queries, paths, recipe)
    return _shared(texts.queries, texts.paths)


def train_matcher(
    pairs: QueryPaths,
    recipe: MatchRecipe | None = None,
    *,
    dictionary: Dictionary | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> PathMatcher:
    """Trains on judged pairs; `dictionary` was learned with the same recipe.

    Raises InputError if all pairs are judged alike.
    """
    recipe = recipe or MatchRecipe()
    if pairs.fits.all() or not pairs.fits.any():
        raise InputError(f"{len(pairs)} pairs are all judged alike: nothing can be learned from them")
    dictionary = dictionary or Dictionary.learn((), recipe, seed=seed)
    texts = PairTexts.from_pairs(pairs.queries, pairs.paths, recipe)
    features = np.empty((len(pairs), _NUM_FEATURES))
    folds = _folds(pairs.queries, recipe.folds, seed)
    for fold in range(recipe.folds):
        if progress:
            progress("train out of fold", fold, recipe.folds)
        learned, held_out = folds != fold, folds == fold
        readers = _Readers.learn(pairs.take(learned), texts.take(learned), recipe, dictionary, seed)
        asked = pairs.take(held_out)
        features[held_out] = readers.features(texts.take(held_out), asked.queries, asked.paths)
    trees = HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=40,
        l2_regularization=5.0,
        random_state=seed,
    )
    # One thread: trees of 10,000 rows take a second, and a minute with several threads on a busy machine.
    with threadpool_limits(1, user_api="openmp"):
        trees.fit(features, pairs.fits)
    return PathMatcher(recipe, _Readers.learn(pairs, texts, recipe, dictionary, seed), trees)


@dataclass(frozen=True, slots=True, eq=False)
class _Readers:
    """What was learned from judged pairs, and turns other pairs into features."""

    tables: tuple[Floats, Floats]  # before and after tuning
    priors: Priors
    lexicon: WordLexicon
    crossed: CrossedWords
    neighbours: JudgedNeighbours

    @classmethod
    def learn(
        cls, pairs: QueryPaths, texts: PairTexts, recipe: MatchRecipe, dictionary: Dictionary, seed: int
    ) -> _Readers:
        table, lexicon = dictionary.table, dictionary.lexicon
        return cls(
            (table, tuned_table(table, texts, pairs.fits, recipe, seed)),
            Priors.count(pairs),
            lexicon,
            CrossedWords(pairs.queries, pairs.paths, pairs.fits, lexicon),
            JudgedNeighbours(pairs.queries, pairs.paths, pairs.fits, recipe.hashing, lexicon),
        )

    def features(self, texts: PairTexts, queries: Sequence[str], paths: Sequence[Path]) -> Doubles:
        """Returns (pairs, _NUM_FEATURES)."""
        return np.concatenate(
            [
                _table_features(texts, self.tables, self.priors.features(paths)),
                self.lexicon.features(queries, paths),
                self.crossed.scores(queries, paths)[:, None],
                self.neighbours.features(queries, paths),
            ],
            axis=1,
        )


@dataclass(frozen=True, slots=True)
class Priors:
    """The share of judged pairs that fit, by path, last step and first step, shrunk towards the overall share."""

    overall: float
    shares: tuple[dict[Hashable, float], ...]
    counts: dict[Hashable, int]  # judgements of the path

    @classmethod
    def count(cls, pairs: QueryPaths) -> Priors:
        overall = float(pairs.fits.mean())
        shares = []
        for key in _KEYS:
            found: dict[Hashable, list[int]] = defaultdict(lambda: [0, 0])
            for path, fits in zip(pairs.paths, pairs.fits.tolist(), strict=True):
                found[key(path)][0] += fits
                found[key(path)][1] += 1
            shares.append(
                {
                    name: (right + _PRIOR_STRENGTH * overall) / (n + _PRIOR_STRENGTH)
                    for name, (right, n) in found.items()
                }
            )
            if key is _KEYS[0]:
                counts = {name: n for name, (_, n) in found.items()}
        return cls(overall, tuple(shares), counts)

    def features(self, paths: Sequence[Path]) -> Doubles:
        """Returns (pairs, 4): the three shares, and the number of judgements of the path."""
        return np.array(
            [
                [*(share.get(key(path), self.overall) for share, key in zip(self.shares, _KEYS, strict=True)),
                 self.counts.get(path, 0)]
                for path in paths
            ],
            np.float64,
        ).reshape(len(paths), len(_KEYS) + 1)  # fmt: skip


_KEYS: tuple[Callable[[Path], Hashable], ...] = (lambda path: path, lambda path: path[-1], lambda path: path[0])
_NUM_TABLE_FEATURES = 16
_NUM_FEATURES = _NUM_TABLE_FEATURES + word_lexicon.NUM_FEATURES + 1 + judged_neighbours.NUM_FEATURES


def _table_features(texts: PairTexts, tables: Sequence[Floats], priors: Doubles) -> Doubles:
    """Returns features (pairs, _NUM_TABLE_FEATURES)."""
    columns: list[npt.NDArray[Any]] = [priors[:, 0], priors[:, 1], priors[:, 2], priors[:, 3]]
    starts = np.cumsum(texts.num_steps) - texts.num_steps
    for weights in tables:
        queries, paths, steps = (text_vectors(weights, part) for part in (texts.queries, texts.paths, texts.steps))
        step_cosines = np.einsum("sd,sd->s", np.repeat(queries, texts.num_steps, axis=0), steps)
        columns += [
            np.einsum("pd,pd->p", queries, paths),
            step_cosines[starts + texts.num_steps - 1],
            step_cosines[starts],
            np.maximum.reduceat(step_cosines, starts) if len(texts) else step_cosines,
        ]
    shared = _shared(texts.queries, texts.paths)
    columns += [shared, texts.num_steps, texts.queries.lengths, priors[:, 3] == 0]
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def _shared(queries: Ragged, paths: Ragged) -> Doubles:
    """Returns (pairs,) the share of the query's table rows that the path also has."""
    wide = max(int(queries.values.max(initial=0)), int(paths.values.max(initial=0))) + 1
    pair = np.repeat(np.arange(len(queries)), queries.lengths)
    path_rows = np.repeat(np.arange(len(paths)), paths.lengths) * wide + paths.values
    shared = np.bincount(pair, np.isin(pair * wide + queries.values, path_rows), len(queries))
    return np.asarray(shared / np.maximum(queries.lengths, 1), np.float64)


def _folds(queries: Sequence[str], num_folds: int, seed: int) -> Ints:
    """Returns the folds (pairs,); all pairs of a query are in the same fold."""
    names, codes = np.unique(np.array(queries, np.str_), return_inverse=True)
    return np.asarray(np.random.default_rng(seed).integers(num_folds, size=len(names))[codes], np.int64)
