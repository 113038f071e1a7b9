"""Draws the batch of each training step.

The draws of a step depend on the seed and the step alone, so that an interrupted training resumes exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Codes, Floats, Ints
from models.unified.histories import NO_ITEM
from models.unified.history import query_words
from models.unified.negatives import Columns, Negatives, NegativeWeights, draw_columns, schedule
from models.unified.recipe import UnifiedRecipe
from models.unified.training_data import TrainingData
from models.unified.window_signals import recency
from models.unified.words import MOST_LOCALE_WORD_BITS, Ragged, WordBatch, WordHashing, locale_tokens, word_batch


@dataclass(frozen=True, slots=True)
class SearchInputs:
    """The inputs of the search tower."""

    locale: Ints  # (rows,)
    items: Codes  # (items,) distinct texts of the histories
    slots: Ints  # (rows, slots) positions in `items`; -1 if empty


@dataclass(frozen=True, slots=True)
class Batch:
    step: int
    fold: int  # of the examples; their signals come from the other folds
    words: WordBatch  # texts: the rows' queries, then the columns' products, then the history items
    searches: SearchInputs
    locale_words: Ragged | None  # buckets of the rows' query words, see `LocaleWords`; None for a log of one locale
    strength: Floats  # (rows,) 0 if the history is dropped
    columns: Columns
    meets: Bools  # (columns,)
    negatives: Negatives  # (rows, columns)
    kind: Ints  # (rows,)
    weight: Floats  # (rows,)
    negative_weights: NegativeWeights
    prefixes: tuple[int, ...]  # dimensions that this step scores: all, and one random shorter prefix


def search_inputs(history: Codes, locale: npt.NDArray[np.integer], texts: Ragged) -> SearchInputs:
    """Takes histories (rows, slots) of text numbers; an item without words leaves its slot empty."""
    held = np.where((history >= 0) & (texts.lengths[np.maximum(history, 0)] > 0), history, -1)
    items, positions = np.unique(held[held >= 0], return_inverse=True)
    slots = np.full(history.shape, -1, np.int64)
    slots[held >= 0] = positions
    return SearchInputs(locale.astype(np.int64), items.astype(np.int32), slots)


@dataclass(frozen=True, slots=True)
class Asked:
    """The distinct queries of the examples, each once in every locale that asked it."""

    query: Ints  # (asked,)
    locale: Ints  # (asked,)
    of_example: Ints  # (examples,) positions in both

    @classmethod
    def from_examples(cls, query: Codes, locale: Codes) -> Asked:
        num_locales = int(locale.max(initial=0)) + 1
        pairs, of_example = np.unique(query.astype(np.int64) * num_locales + locale, return_inverse=True)
        return cls(pairs // num_locales, pairs % num_locales, of_example)


class BatchMaker:
    """Cuts the training data into batches. `dynamic` (asked, n) are the hard negatives mined last, or None."""

    def __init__(self, data: TrainingData, recipe: UnifiedRecipe, seed: int) -> None:
        self._data = data
        self._recipe = recipe
        self._seed = seed
        self.asked = Asked.from_examples(data.examples.query, data.examples.locale)
        self.locale_words = _locale_words(self.asked, data, recipe) if len(data.log.locales) > 1 else None
        self.dynamic: Codes | None = None
        searched_ms = data.examples.searched_ms
        self._recency = recency(searched_ms, data.until_ms, recipe.half_life_days).astype(np.float32)
        self._epoch: Callable[[int], list[tuple[int, Ints]]] = lru_cache(maxsize=1)(self._cut)
        self._per_epoch = len(self._epoch(0))
        steps = max(1, int(recipe.epochs * self._per_epoch)) if len(data.examples) else 0  # an update may have none
        self.steps = min(steps, recipe.max_steps or steps)

    def make(self, step: int) -> Batch:
        data, recipe = self._data, self._recipe
        random = np.random.default_rng([self._seed, 2, step])
        fold, rows = self.rows(step)
        examples = data.examples
        query, shopper = examples.query[rows], examples.shopper[rows]
        weights = schedule(recipe.negatives, step / self.steps)
        hard = np.zeros(0, np.int32)
        if self.dynamic is not None and weights.dynamic > 0:
            hard = self.dynamic[self.asked.of_example[rows]]
            hard = hard[hard >= 0]
        columns = draw_columns(
            examples.product[rows],
            hard,
            data.share,
            data.kin_share,
            data.categories,
            recipe.negatives,
            weights,
            random,
        )
        history = data.histories.before(shopper, examples.searched_ms[rows])
        history = np.where(random.random(history.shape) >= recipe.item_dropout, history, NO_ITEM)
        searches = search_inputs(history, examples.locale[rows], data.texts)
        words = word_batch(
            [
                data.queries.take(query),
                data.catalogue.features.words.take(columns.products),
                data.texts.take(searches.items),
            ],
            data.buckets,
        )
        return Batch(
            step=step,
            fold=fold,
            words=words,
            searches=searches,
            locale_words=None if self.locale_words is None else self.locale_words.take(self.asked.of_example[rows]),
            strength=(random.random(len(rows)) >= recipe.history_dropout).astype(np.float32),
            columns=columns,
            meets=random.random(len(columns.products)) >= recipe.signal_dropout,
            negatives=data.engaged.negatives(columns, query, shopper),
            kind=examples.kind[rows].astype(np.int64),
            weight=np.array(recipe.kind_weights, np.float32)[examples.kind[rows]] * self._recency[rows],
            negative_weights=weights,
            prefixes=(
                recipe.sizes.dim,
                *random.choice(recipe.sizes.prefixes[:-1], min(1, len(recipe.sizes.prefixes) - 1)),
            ),
        )

    def rows(self, step: int) -> tuple[int, Ints]:
        """Returns the fold and the examples of a step; each example comes once an epoch."""
        return self._epoch(step // self._per_epoch)[step % self._per_epoch]

    def _cut(self, epoch: int) -> list[tuple[int, Ints]]:
        """Returns the batches of an epoch, each of one fold."""
        random = np.random.default_rng([self._seed, 1, epoch])
        fold = self._data.folds[self._data.examples.search]
        batches = [
            (number, part)
            for number in np.unique(fold).tolist()
            for part in _parts(self._grouped(np.flatnonzero(fold == number), random), self._recipe.batch)
        ]
        return [batches[at] for at in random.permutation(len(batches))]

    def _grouped(self, rows: Ints, random: np.random.Generator) -> Ints:
        """Returns the rows as groups of one category, in random order.

        A row's in-batch negatives are then of the same category, and differ in the rest of the query and in the shopper. The last group
        of a category is filled up by the next one.
        """
        kin = self._recipe.negatives.kin
        category = self._data.catalogue.features.category[self._data.examples.product[rows]]
        order = np.lexsort((random.random(len(rows)), random.permutation(int(category.max()) + 1)[category]))
        groups = np.array_split(rows[order], np.arange(kin, len(rows), kin))
        return np.concatenate([groups[at] for at in random.permutation(len(groups))])


def _locale_words(asked: Asked, data: TrainingData, recipe: UnifiedRecipe) -> Ragged:
    """Returns (asked,) the buckets of each query's words in its locale."""
    hashing, log = WordHashing(bits=min(recipe.hashing.bits, MOST_LOCALE_WORD_BITS)), data.log
    return Ragged.from_rows(
        [hashing.bucket(token) for token in locale_tokens(query_words(log.queries[query]), log.locales[locale])]
        for query, locale in zip(asked.query.tolist(), asked.locale.tolist(), strict=True)
    )


def _parts(rows: Ints, size: int) -> list[Ints]:
    """Splits rows into parts of about equal length, at most `size`."""
    return np.array_split(rows, -(-len(rows) // size))
