"""One table of hashed tokens that embeds queries and category paths, compared by cosine.

The table may first learn a *dictionary*: texts of many languages, each with the path that it names, matched by a softmax over the
batch, which needs no judgements. It is then tuned on judged pairs: by the same softmax over the pairs that fit, and by a cross-entropy
of whether a pair fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.arrays import Bools, Floats, Ints, Progress
from models.query_types.tokens import QueryHashing
from models.training_steps import torch_threads
from models.unified.words import Ragged

Path = tuple[str, ...]  # steps, the top first

_FIRST_SCALE = 3.0  # log of the factor of the cosines, 20
_SAME = -1e4  # score of another pair with the same path, which is no negative


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


@dataclass(frozen=True, slots=True)
class PairTexts:
    """Table rows of each query, whole path and step; the steps of a pair are consecutive."""

    queries: Ragged
    paths: Ragged
    steps: Ragged
    num_steps: Ints  # (pairs,)
    numbers: Ints  # (pairs,) number of the distinct path

    @classmethod
    def from_pairs(cls, queries: Sequence[str], paths: Sequence[Path], recipe: MatchRecipe) -> PairTexts:
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

    def take(self, rows: Ints | Bools) -> PairTexts:
        at = np.arange(len(self))[rows]
        ends = np.cumsum(self.num_steps)
        lengths = self.num_steps[at]
        stops = np.cumsum(lengths)
        steps = np.repeat(ends[at] - stops, lengths) + np.arange(int(lengths.sum()))
        return PairTexts(self.queries.take(at), self.paths.take(at), self.steps.take(steps), lengths, self.numbers[at])


def learn_dictionary(
    entries: Sequence[tuple[str, Path]], recipe: MatchRecipe, *, seed: int = 0, progress: Progress | None = None
) -> Floats:
    """Trains a table (2**bits, dim) in which a text is close to the path that it names; without entries it stays random."""
    table = PathTable(recipe, seed)
    if len(entries) >= recipe.dictionary_batch:
        texts = PairTexts.from_pairs([text for text, _ in entries], [path for _, path in entries], recipe)
        fits = np.ones(len(entries), np.bool_)
        batch, rate = recipe.dictionary_batch, recipe.dictionary_rate
        _tune(table, texts, fits, recipe.dictionary_epochs, batch, rate, 0.0, seed, progress)
    return table.array()


class PathTable(nn.Module):
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


def tuned_table(start: Floats, texts: PairTexts, fits: Bools, recipe: MatchRecipe, seed: int) -> Floats:
    table = PathTable(recipe, seed, start)
    _tune(table, texts, fits, recipe.epochs, recipe.batch, recipe.rate, recipe.fits_weight, seed, None)
    return table.array()


def _tune(
    table: PathTable,
    texts: PairTexts,
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
    table: PathTable,
    texts: PairTexts,
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


def _loss(table: PathTable, texts: PairTexts, right: Tensor, fits_weight: float) -> Tensor:
    scores = table(texts.queries) @ table(texts.paths).T * table.scale.exp()  # (batch, batch)
    same = torch.from_numpy(texts.numbers[:, None] == texts.numbers)
    others = scores.masked_fill(same & ~torch.eye(len(texts), dtype=torch.bool), _SAME)
    chosen = F.cross_entropy(others, torch.arange(len(texts)), reduction="none")
    loss = (chosen * right).sum() / right.sum()
    if fits_weight:
        # Half the scale: a judgement is less certain than a choice among random paths.
        loss = loss + fits_weight * F.binary_cross_entropy_with_logits(scores.diagonal() / 2 + table.bias, right)
    return loss


def text_vectors(weights: Floats, texts: Ragged) -> Floats:
    """Returns unit vectors (texts, dim)."""
    with torch.no_grad():
        values, offsets = torch.from_numpy(texts.values), torch.from_numpy(texts.offsets[:-1].astype(np.int32))
        bags = F.embedding_bag(values, torch.from_numpy(weights), offsets, mode="mean")
        return np.asarray(F.normalize(bags, dim=1).numpy(), np.float32)
