"""The negatives: their sources, their weights in the course of training, and the exclusion of false negatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Codes, Floats, Ints
from models.unified.recipe import NegativeMix
from models.unified.words import Ragged


@dataclass(frozen=True, slots=True)
class NegativeWeights:
    uniform: float
    in_batch: float
    dynamic: float


def schedule(mix: NegativeMix, progress: float) -> NegativeWeights:
    """Returns the weights at a share `progress` of the steps: uniform negatives alone during warm-up, then linearly to those of the mix."""
    if progress < mix.warm_up_share:
        return NegativeWeights(1.0, 0.0, 0.0)
    span = mix.full_share - mix.warm_up_share
    grown = min((progress - mix.warm_up_share) / span, 1.0) if span > 0 else 1.0
    return NegativeWeights(
        uniform=1.0 + grown * (mix.uniform_weight - 1.0),
        in_batch=grown * mix.in_batch_weight,
        dynamic=grown * mix.dynamic_weight,
    )


@dataclass(frozen=True, slots=True)
class Categories:
    """Products by category."""

    of_product: Codes  # (products,) the category of each product
    members: Ragged  # the products of each category
    share: Floats  # (categories,) share of the examples in each category

    @classmethod
    def from_products(cls, category: Codes, share: npt.NDArray[np.floating]) -> Categories:
        """Takes (products,) the category of each product and its share of the examples."""
        counts = np.bincount(category)
        members = Ragged(
            np.argsort(category, kind="stable").astype(np.int32),
            np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        )
        return cls(category, members, np.bincount(category, share).astype(np.float32))

    @property
    def sizes(self) -> Ints:
        return self.members.lengths

    def draw(self, categories: Codes, count: int, random: np.random.Generator) -> Ints:
        """Draws `count` products of each of the categories, uniformly."""
        within = (random.random((len(categories), count)) * self.sizes[categories][:, None]).astype(np.int64)
        drawn: Ints = self.members.values[(self.members.offsets[categories][:, None] + within).ravel()].astype(np.int64)
        return drawn


@dataclass(frozen=True, slots=True)
class Columns:
    """The distinct products that a batch is scored against, ascending."""

    products: Ints  # (columns,)
    positive: Ints  # (rows,) columns of the rows' own products
    uniform: Floats  # (columns,) the uniform source's weight where it drew the product, else 0
    expected: Floats  # (columns,) expected count of the product in the draws, by the weights of the sources
    expected_by_kin: Floats  # (columns,) the same for a row of the product's own category
    category: Codes  # (columns,)
    counts: Bools  # (columns,) whether a source with a weight above 0 drew the product


def draw_columns(
    positives: Codes,
    dynamic: Codes,
    share: Floats,
    kin_share: Floats,
    categories: Categories,
    mix: NegativeMix,
    weights: NegativeWeights,
    random: np.random.Generator,
) -> Columns:
    """Draws the columns of one batch: its positives, uniform draws from the catalogue and from the positives' categories, and mined hard
    negatives (`dynamic`).

    `share` (products,) is each product's share of all positives, and `kin_share` its share of those of its category.
    """
    num_products = len(share)
    drawn = np.zeros(0, np.int64)
    if weights.uniform > 0:
        of_all = random.integers(0, num_products, mix.uniform)
        drawn = np.concatenate(
            [of_all, categories.draw(np.unique(categories.of_product[positives]), mix.uniform_kin, random)]
        )
    products = np.unique(np.concatenate([positives, drawn, dynamic]).astype(np.int64))
    uniform, in_batch, hard = (_is_in(products, source) for source in (drawn, positives, dynamic))
    category = categories.of_product[products]
    by_kin = weights.uniform * mix.uniform_kin / categories.sizes[category]
    # For rows of other categories: a category is in the batch about as often as its examples fill groups of `kin`.
    by_others = by_kin * np.minimum(1.0, categories.share[category] * len(positives) / mix.kin)
    expected = weights.uniform * mix.uniform / num_products + weights.in_batch * len(positives) * share[products]
    expected = expected + weights.dynamic * hard
    counts = uniform & (weights.uniform > 0) | in_batch & (weights.in_batch > 0) | hard & (weights.dynamic > 0)
    least = 1.0 / num_products  # a product that is only a positive is drawn for its own row alone
    return Columns(
        products=products,
        positive=np.searchsorted(products, positives),
        uniform=(uniform * weights.uniform).astype(np.float32),
        expected=np.maximum(expected + by_others, least).astype(np.float32),
        expected_by_kin=np.maximum(expected + by_kin + weights.in_batch * mix.kin * kin_share[products], least).astype(
            np.float32
        ),
        category=category,
        counts=counts,
    )


def _is_in(products: Ints, drawn: npt.NDArray[np.integer]) -> Bools:
    there = np.zeros(len(products), np.bool_)
    there[np.searchsorted(products, drawn)] = True
    return there


@dataclass(frozen=True, slots=True)
class Engagements:
    """The products engaged with: by query, by shopper, and by both together."""

    by_query: Ragged
    by_shopper: Ragged
    by_both: Ragged
    both: Ints  # (pairs of query and shopper,) ascending: query * num_shoppers + shopper
    num_shoppers: int

    @classmethod
    def from_examples(
        cls, query: Codes, shopper: Codes, product: Codes, num_queries: int, num_shoppers: int
    ) -> Engagements:
        both, pair = np.unique(query.astype(np.int64) * num_shoppers + shopper, return_inverse=True)
        return cls(
            grouped(query, product, num_queries),
            grouped(shopper, product, num_shoppers),
            grouped(pair, product, len(both)),
            both,
            num_shoppers,
        )

    def negatives(self, columns: Columns, query: Codes, shopper: Codes) -> Negatives:
        """Returns which columns are negatives of which rows."""
        counted = np.repeat(columns.counts[None, :], len(query), axis=0)
        counted[np.arange(len(query)), columns.positive] = False
        pair = query.astype(np.int64) * self.num_shoppers + shopper
        at = np.minimum(np.searchsorted(self.both, pair), max(len(self.both) - 1, 0))
        met = np.flatnonzero(self.both[at] == pair) if len(self.both) else np.zeros(0, np.int64)
        _take_out(counted, columns, met, self.by_both.take(at[met]))
        irrelevant = counted.copy()
        everyone = np.arange(len(query))
        _take_out(irrelevant, columns, everyone, self.by_query.take(query))
        _take_out(irrelevant, columns, everyone, self.by_shopper.take(shopper))
        return Negatives(counted, irrelevant)


@dataclass(frozen=True, slots=True)
class Negatives:
    """Masks (rows, columns), never True where the column is the row's own product.

    A softmax models how the clicks of a search are shared among products: products that others clicked after the same query belong in
    its denominator, and only those that the same shopper clicked after it are excluded. A margin claims that a negative is irrelevant:
    for it, every product that the query or the shopper ever led to is excluded. (With the second mask for both losses, a model of the
    simulated log learned nothing about shoppers, who differ in the products that they click after the same query.)
    """

    counted: Bools  # for the softmax
    irrelevant: Bools  # for the hinge and the triplet


def _take_out(allowed: Bools, columns: Columns, rows: Ints, engaged: Ragged) -> None:
    at = np.minimum(np.searchsorted(columns.products, engaged.values), len(columns.products) - 1)
    met = columns.products[at] == engaged.values
    allowed[np.repeat(rows, engaged.lengths)[met], at[met]] = False


def grouped(owner: npt.NDArray[np.integer], product: Codes, num_owners: int) -> Ragged:
    pairs = np.unique(np.stack([owner, product]).astype(np.int64), axis=1) if len(owner) else np.zeros((2, 0), np.int64)
    counts = np.bincount(pairs[0], minlength=num_owners)
    return Ragged(pairs[1].astype(np.int32), np.concatenate(([0], np.cumsum(counts))).astype(np.int64))


def hardest_products(
    queries: Floats, products: Floats, pool: Ints, positives: Ragged, rows: Ints, per_row: int
) -> Codes:
    """Returns (queries, per_row) the products of the pool that score highest for each query and are not its positives, by exact search.

    `products` (pool, dim) are the vectors of `pool`; `rows` (queries,) are the queries' rows in `positives`.
    """
    hardest = np.empty((len(queries), per_row), np.int32)
    order = np.argsort(pool)
    for start in range(0, len(queries), 1024):
        scores = queries[start : start + 1024] @ products.T
        met = positives.take(rows[start : start + 1024])
        at = np.minimum(np.searchsorted(pool[order], met.values), len(pool) - 1)
        here = pool[order][at] == met.values
        scores[np.repeat(np.arange(len(scores)), met.lengths)[here], order[at[here]]] = -np.inf
        best = np.argpartition(-scores, min(per_row, len(pool) - 1), axis=1)[:, :per_row]
        hardest[start : start + len(scores)] = pool[best]
    return hardest
