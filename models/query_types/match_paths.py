"""Matches category paths with queries, for types that are too many or too new to be classes.

`path_table` embeds queries and paths in one table of hashed tokens. Boosted trees map the cosines of query and path (before and after
tuning; of the whole path and of its steps), with the share of judged queries that the path fits, to a probability. Their training
features are computed out of fold, since a table that was tuned on a pair has seen its answer.

Needs the extra `aisle[train]` and scikit-learn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from models.arrays import Bools, Doubles, Floats, Ints, Progress
from models.errors import InputError
from models.query_types.tokens import QueryHashing
from models.training_steps import torch_threads
from models.unified.words import Ragged

Path = tuple[str, ...]  # steps, the top first
Values = Doubles

_FIRST_SCALE = 3.0  # log of the factor of the cosines, 20
_SAME = -1e4  # score of another pair with the same path, which is no negative
_PRIOR_STRENGTH = 4.0  # strength of the overall share in that of a path, in judgements


@dataclass(frozen=True, slots=True)
class MatchRecipe:
    hashing: QueryHashing = field(default_factory=lambda: QueryHashing(bits=18, pairs=False))
    dim: int = 64
    dictionary_epochs: int = 2
    dictionary_batch: int = 1024
    dictionary_rate: float = 1e-2
    epochs: int = 3  # over judged pairs; by the fifth the table knows them by heart and is worse on others
    batch: int = 256
    rate: float = 5e-3
    fits_weight: float = 2.0  # weight of the cross-entropy of judgements, relative to the softmax
    leaf_weight: int = 3  # how often the last step counts in a path
    folds: int = 3

    def __post_init__(self) -> None:
        if self.folds < 2 or self.batch < 2 or self.dictionary_batch < 2 or min(self.dim, self.leaf_weight) < 1:
            raise ValueError(f"folds and batches must be 2 or more, dim and leaf_weight 1 or more, not {self}")


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


class PathMatcher:
    """Predicts the probability that a path fits a query."""

    def __init__(
        self, recipe: MatchRecipe, tables: Sequence[Floats], priors: Priors, trees: HistGradientBoostingClassifier
    ) -> None:
        self._recipe, self._tables, self._priors, self._trees = recipe, tables, priors, trees

    def probabilities(self, queries: Sequence[str], paths: Sequence[Path]) -> Values:
        """Returns (pairs,) the probability that paths[i] fits queries[i]."""
        texts = _PairTexts.from_pairs(queries, paths, self._recipe)
        features = _features(texts, self._tables, self._priors.features(paths))
        with threadpool_limits(1, user_api="openmp"):
            return np.asarray(self._trees.predict_proba(features)[:, 1], np.float64)


def shared_rows(queries: Sequence[str], paths: Sequence[Path], recipe: MatchRecipe) -> Values:
    """Returns (pairs,) the share of a query's words and n-grams that its path also has, a baseline without learning."""
    texts = _PairTexts.from_pairs(queries, paths, recipe)
    return _shared(texts.queries, texts.paths)


def learn_dictionary(
    entries: Sequence[tuple[str, Path]], recipe: MatchRecipe, *, seed: int = 0, progress: Progress | None = None
) -> Floats:
    """Trains a table (2**bits, dim) in which a text is close to the path that it names; without entries it stays random."""
    table = _Table(recipe, seed)
    if len(entries) >= recipe.dictionary_batch:
        texts = _PairTexts.from_pairs([text for text, _ in entries], [path for _, path in entries], recipe)
        fits = np.ones(len(entries), np.bool_)
        batch, rate = recipe.dictionary_batch, recipe.dictionary_rate
        _tune(table, texts, fits, recipe.dictionary_epochs, batch, rate, 0.0, seed, progress)
    return table.array()


def train_matcher(
    pairs: QueryPaths,
    recipe: MatchRecipe = MatchRecipe(),
    *,
    start: Floats | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> PathMatcher:
    """Trains on judged pairs; `start` is the table of `learn_dictionary` for the same recipe, or None.

    Raises ValueError if all pairs are judged alike.
    """
    if pairs.fits.all() or not pairs.fits.any():
        raise InputError(f"{len(pairs)} pairs are all judged alike: nothing can be learned from them")
    start = learn_dictionary((), recipe, seed=seed) if start is None else start
    texts = _PairTexts.from_pairs(pairs.queries, pairs.paths, recipe)
    features = np.empty((len(pairs), _NUM_FEATURES))
    folds = _folds(pairs.queries, recipe.folds, seed)
    for fold in range(recipe.folds):
        if progress:
            progress("train out of fold", fold, recipe.folds)
        learned, held_out = folds != fold, folds == fold
        tables = (start, _tuned(start, texts.take(learned), pairs.fits[learned], recipe, seed))
        priors = Priors.count(pairs.take(learned))
        features[held_out] = _features(texts.take(held_out), tables, priors.features(pairs.take(held_out).paths))
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
    return PathMatcher(recipe, (start, _tuned(start, texts, pairs.fits, recipe, seed)), Priors.count(pairs), trees)


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

    def features(self, paths: Sequence[Path]) -> Values:
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
_NUM_FEATURES = 16


@dataclass(frozen=True, slots=True)
class _PairTexts:
    """Table rows of each query, whole path and step; the steps of a pair are consecutive."""

    queries: Ragged
    paths: Ragged
    steps: Ragged
    num_steps: Ints  # (pairs,)
    numbers: Ints  # (pairs,) number of the distinct path

    @classmethod
    def from_pairs(cls, queries: Sequence[str], paths: Sequence[Path], recipe: MatchRecipe) -> _PairTexts:
        known: dict[str, list[int]] = {}

        def rows(text: str) -> list[int]:
            if text not in known:
                known[text] = [row for token in recipe.hashing.tokens(text) for row in recipe.hashing.buckets(token)]
            return known[text]

        def whole(path: Path) -> list[int]:
            return [row for step in path for row in rows(step)] + rows(path[-1]) * (recipe.leaf_weight - 1)

        numbers: dict[Path, int] = {}
        return cls(
            Ragged.from_rows(rows(query) for query in queries),
            Ragged.from_rows(whole(path) for path in paths),
            Ragged.from_rows(rows(step) for path in paths for step in path),
            np.array([len(path) for path in paths], np.int64),
            np.array([numbers.setdefault(path, len(numbers)) for path in paths], np.int64),
        )

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, rows: Ints | Bools) -> _PairTexts:
        at = np.arange(len(self))[rows]
        ends = np.cumsum(self.num_steps)
        lengths = self.num_steps[at]
        stops = np.cumsum(lengths)
        steps = np.repeat(ends[at] - stops, lengths) + np.arange(int(lengths.sum()))
        return _PairTexts(self.queries.take(at), self.paths.take(at), self.steps.take(steps), lengths, self.numbers[at])


class _Table(nn.Module):
    def __init__(self, recipe: MatchRecipe, seed: int, start: Floats | None = None) -> None:
        super().__init__()
        weight = (
            torch.randn((1 << recipe.hashing.bits, recipe.dim), generator=torch.Generator().manual_seed(seed)) * 0.1
            if start is None
            else torch.from_numpy(start.copy())
        )
        self.rows = nn.EmbeddingBag.from_pretrained(weight, freeze=False, mode="mean", sparse=True)
        self.scale = nn.Parameter(torch.tensor(_FIRST_SCALE))
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, texts: Ragged) -> Tensor:
        """Returns unit vectors (texts, dim); 0 for a text without tokens."""
        values, offsets = torch.from_numpy(texts.values), torch.from_numpy(texts.offsets[:-1].astype(np.int32))
        return F.normalize(self.rows(values, offsets), dim=1)

    def array(self) -> Floats:
        return np.asarray(self.rows.weight.detach().numpy(), np.float32)


def _tuned(start: Floats, texts: _PairTexts, fits: Bools, recipe: MatchRecipe, seed: int) -> Floats:
    table = _Table(recipe, seed, start)
    _tune(table, texts, fits, recipe.epochs, recipe.batch, recipe.rate, recipe.fits_weight, seed, None)
    return table.array()


def _tune(
    table: _Table,
    texts: _PairTexts,
    fits: Bools,
    epochs: int,
    batch: int,
    rate: float,
    fits_weight: float,
    seed: int,
    progress: Progress | None,
) -> None:
    with torch_threads(1):
        _steps(table, texts, fits, epochs, batch, rate, fits_weight, seed, progress)


def _steps(
    table: _Table,
    texts: _PairTexts,
    fits: Bools,
    epochs: int,
    batch: int,
    rate: float,
    fits_weight: float,
    seed: int,
    progress: Progress | None,
) -> None:
    rng = np.random.default_rng(seed)
    sparse = torch.optim.SparseAdam([table.rows.weight], lr=rate)
    dense = torch.optim.Adam([table.scale, table.bias], lr=rate / 5)
    starts = [(epoch, at) for epoch in range(epochs) for at in range(0, len(texts), batch)]
    order = rng.permutation(len(texts))
    for done, (_, at) in enumerate(starts):
        if at == 0:
            order = rng.permutation(len(texts))
        rows = order[at : at + batch]
        right = torch.from_numpy(fits[rows].astype(np.float32))
        if len(rows) < 2 or not right.any():
            continue
        loss = _loss(table, texts.take(rows), right, fits_weight)
        sparse.zero_grad()
        dense.zero_grad()
        loss.backward()
        sparse.step()
        dense.step()
        if progress and done % 20 == 0:
            progress("learn the dictionary", done, len(starts))


def _loss(table: _Table, texts: _PairTexts, right: Tensor, fits_weight: float) -> Tensor:
    scores = table(texts.queries) @ table(texts.paths).T * table.scale.exp()  # (batch, batch)
    same = torch.from_numpy(texts.numbers[:, None] == texts.numbers)
    others = scores.masked_fill(same & ~torch.eye(len(texts), dtype=torch.bool), _SAME)
    chosen = F.cross_entropy(others, torch.arange(len(texts)), reduction="none")
    loss = (chosen * right).sum() / right.sum()
    if fits_weight:
        # Half the scale: a judgement is less certain than a choice among random paths.
        loss = loss + fits_weight * F.binary_cross_entropy_with_logits(scores.diagonal() / 2 + table.bias, right)
    return loss


def _features(texts: _PairTexts, tables: Sequence[Floats], priors: Values) -> Values:
    """Returns features (pairs, _NUM_FEATURES)."""
    columns: list[npt.NDArray[Any]] = [priors[:, 0], priors[:, 1], priors[:, 2], priors[:, 3]]
    starts = np.cumsum(texts.num_steps) - texts.num_steps
    for weights in tables:
        queries, paths, steps = (_vectors(weights, part) for part in (texts.queries, texts.paths, texts.steps))
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


def _vectors(weights: Floats, texts: Ragged) -> Floats:
    """Returns unit vectors (texts, dim)."""
    with torch.no_grad():
        values, offsets = torch.from_numpy(texts.values), torch.from_numpy(texts.offsets[:-1].astype(np.int32))
        bags = F.embedding_bag(values, torch.from_numpy(weights), offsets, mode="mean")
        return np.asarray(F.normalize(bags, dim=1).numpy(), np.float32)


def _shared(queries: Ragged, paths: Ragged) -> Values:
    """Returns (pairs,) the share of the query's table rows that the path also has."""
    wide = max(int(queries.values.max(initial=0)), int(paths.values.max(initial=0))) + 1
    mine = np.repeat(np.arange(len(queries)), queries.lengths)
    theirs = np.repeat(np.arange(len(paths)), paths.lengths) * wide + paths.values
    found = np.bincount(mine, np.isin(mine * wide + queries.values, theirs), len(queries))
    return np.asarray(found / np.maximum(queries.lengths, 1), np.float64)


def _folds(queries: Sequence[str], num_folds: int, seed: int) -> Ints:
    """Returns the folds (pairs,); all pairs of a query are in the same fold."""
    names, codes = np.unique(np.array(queries, np.str_), return_inverse=True)
    return np.asarray(np.random.default_rng(seed).integers(num_folds, size=len(names))[codes], np.int64)
