"""The search intents of simulated shoppers: a pool of queries for each product type, with Zipf's popularity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Ints
from models.draws import Draws, mix
from models.sample_store.assortment import FIELDS, Assortment
from models.sample_store.parameters import SharedParameters
from models.sample_store.product_types import load_product_types
from models.sample_store.queries import SampleQuery, write_query
from models.sample_store.weighted_lists import WeightedLists
from models.sample_store.words import ABSENT

MAX_CONSTRAINTS = 2  # of a query besides its type
MAX_INTENTS = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Intents:
    """Queries with their target types and constraints. Several intents can have the same text."""

    texts: list[str]
    types: Ints  # (num_intents,) indexes of load_product_types()
    fields: Ints  # (num_intents, MAX_CONSTRAINTS) indexes of FIELDS, or ABSENT
    values: Ints  # (num_intents, MAX_CONSTRAINTS) values of Assortment.attributes
    word_lists: Ints  # (num_intents, MAX_CONSTRAINTS) lists of products that hold the word as typed, or ABSENT
    exact: Ints  # (num_intents,) the product of a typed model number, or ABSENT
    by_type: WeightedLists  # the intents of each type with their popularity

    def __len__(self) -> int:
        return len(self.texts)

    def probabilities(self) -> Doubles:
        """Returns the probability of each intent among those of its type."""
        result = np.zeros(len(self))
        for kind in range(len(load_product_types())):
            items, probabilities = self.by_type.distribution(kind)
            result[items] = probabilities
        return result


def draw_intents(assortment: Assortment, num_draws: int, parameters: SharedParameters, seed: int) -> Intents:
    """Writes `num_draws` queries for products drawn evenly. A query that is written more than once is more popular."""
    draws = Draws(mix(seed) ^ 5)
    products = np.array([draws.below(assortment.num_products) for _ in range(num_draws)])
    counts: dict[tuple[str, int, tuple[tuple[str, str], ...]], int] = {}
    queries: list[SampleQuery] = []
    for product, latent in zip(products.tolist(), assortment.latents.take(products).rows(), strict=True):
        query = write_query(product, latent, draws)
        key = (query.text, query.type, tuple(sorted(query.constraints.items())))
        if key not in counts:
            queries.append(query)
        counts[key] = counts.get(key, 0) + 1
    return _as_arrays(assortment, queries, np.array(list(counts.values())), parameters)


def _as_arrays(
    assortment: Assortment, queries: list[SampleQuery], counts: Ints, parameters: SharedParameters
) -> Intents:
    fields = np.full((len(queries), MAX_CONSTRAINTS), ABSENT)
    values, lists = fields.copy(), fields.copy()
    exact = np.full(len(queries), ABSENT)
    for row, query in enumerate(queries):
        for at, (name, word) in enumerate(query.constraints.items()):
            field = FIELDS.index(name)
            fields[row, at], values[row, at] = field, assortment.attributes[query.product, field]
            if name == "model":
                exact[row] = query.product
            elif f" {word.lower()} " in f" {query.text} ":
                lists[row, at] = assortment.list_of_word(query.product, field)
    types = np.array([query.type for query in queries])
    return Intents(
        texts=[query.text for query in queries],
        types=types,
        fields=fields,
        values=values,
        word_lists=lists,
        exact=exact,
        by_type=_zipf(types, counts, parameters.zipf_exponent),
    )


def _zipf(types: Ints, counts: Ints, exponent: float) -> WeightedLists:
    """Lists the intents of each type, those written most often first, weighted by rank ** -exponent."""
    order = np.lexsort((-counts, types))
    sizes = np.bincount(types, minlength=len(load_product_types()))
    first = np.concatenate(([0], np.cumsum(sizes)))
    rank = np.arange(len(types)) - first[types[order]] + 1
    return WeightedLists(order, rank.astype(np.float64) ** -exponent, sizes)
