"""What a trained model needs to learn what is new: where it starts, and how much it sees again of what it knows."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import Floats
from models.unified.examples import Examples
from models.unified.model_files import PRODUCT_FILE, SEARCH_FILE
from models.unified.recipe import UnifiedRecipe


@dataclass(frozen=True, slots=True)
class Update:
    """A training that starts from the model folder `start`, which learned from the events before `since_ms`.

    Words, price bands, locales and the text block stay those of that model; signals and graph are computed anew. The numbers are chosen,
    not tuned; docs/training.md has what they gave.
    """

    start: Path
    since_ms: int
    replay: float = 1.0  # older examples for each new one, so that nothing is forgotten
    epochs: float = 2.0  # of the new and the older examples
    rate: float = 0.25  # of the recipe's learning rate

    def fingerprint(self) -> dict[str, Any]:
        """Returns what decides the result, with the content of the model in place of its folder: a bundle is replaced where it stands."""
        weights = [hashlib.sha256((self.start / name).read_bytes()).hexdigest() for name in (SEARCH_FILE, PRODUCT_FILE)]
        return {**asdict(self), "start": weights}

    def of(self, recipe: UnifiedRecipe) -> UnifiedRecipe:
        """Returns the recipe of the update. It needs no warm-up: the model knows what is easy."""
        return replace(
            recipe,
            epochs=self.epochs,
            learning_rate=recipe.learning_rate * self.rate,
            negatives=replace(recipe.negatives, warm_up_share=0.0, full_share=0.0),
        )

    def sample(self, examples: Examples, seed: int) -> Examples:
        """Returns the examples of searches from `since_ms` on, and a sample of the older ones."""
        is_new = examples.searched_ms >= self.since_ms
        older = np.flatnonzero(~is_new)
        count = min(round(self.replay * int(is_new.sum())), len(older))
        drawn = np.random.default_rng([seed, 0x5E]).choice(older, count, replace=False)
        return examples.take(np.sort(np.concatenate([np.flatnonzero(is_new), drawn])))


def turned_onto(graphs: Floats, former: Floats) -> Floats:
    """Turns the vectors (sets, products, dim) of a new graph so that those of the first set are nearest to the `former` (products, dim).

    The axes of a graph are arbitrary, and the product tower knows the former ones (orthogonal Procrustes, Schönemann, 1966).
    """
    left, _, right = np.linalg.svd(graphs[0].T.astype(np.float64) @ former)
    return np.asarray(graphs @ (left @ right).astype(np.float32))
