"""What simulated shoppers search for: a pool of queries for each product type, with Zipf's popularity."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from models.arrays import Doubles, Ints
from models.draws import Draws, mix
from models.sample_store.assortment import FIELDS, Assortment
from models.sample_store.latents import ABSENT, LatentColumns
from models.sample_store.parameters import LogParameters
from models.sample_store.product_types import PRODUCT_TYPES
from models.sample_store.queries import SampleQuery, write_query
from models.sample_store.weighted_lists import WeightedLists

MAX_ASKS = 2  # things that a query asks for beside its type
MAX_INTENTS = 200_000


@dataclass(frozen=True, slots=True)
class Intents:
    """Queries and what each of them asks for. The same text can stand for more than one intent."""

    texts: list[str]
    types: Ints  # (num_intents,) of PRODUCT_TYPES
    fields: Ints  # (num_intents, MAX_ASKS) places in FIELDS, or ABSENT
    values: Ints  # (num_intents, MAX_ASKS) of Assortment.attributes
    word_lists: Ints  # (num_intents, MAX_ASKS) lists of products that hold the word as it was typed, or ABSENT
    exact: Ints  # (num_intents,) the product whose model number was typed, or ABSENT
    by_type: WeightedLists  # the intents of each type with their popularity

    def __len__(self) -> int:
        return len(self.texts)

    def probabilities(self) -> Doubles:
        """How likely each intent is among those of its type."""
        chances = np.zeros(len(self))
        for kind in range(len(PRODUCT_TYPES)):
            items, probabilities = self.by_type.of(kind)
            chances[items] = probabilities
        return chances


def draw_intents(assortment: Assortment, num_draws: int, parameters: LogParameters, seed: int) -> Intents:
    """Writes `num_draws` queries for products drawn evenly. What is written more than once is more popular."""
    draws = Draws(mix(seed) ^ 5)
    products = np.array([draws.below(assortment.num_products) for _ in range(num_draws)])
    latents = LatentColumns(*(getattr(assortment.latents, field.name)[products] for field in fields(LatentColumns)))
    counts: dict[tuple[str, int, tuple[tuple[str, str], ...]], int] = {}
    queries: list[SampleQuery] = []
    places: list[int] = []
    for product, latent in zip(products.tolist(), latents.rows(), strict=True):
        query = write_query(product, latent, draws)
        key = (query.text, query.type, tuple(sorted(query.asks.items())))
        if key not in counts:
            places.append(len(queries))
            queries.append(query)
        counts[key] = counts.get(key, 0) + 1
    return _as_arrays(assortment, queries, np.array(list(counts.values())), parameters)


def _as_arrays(assortment: Assortment, queries: list[SampleQuery], counts: Ints, parameters: LogParameters) -> Intents:
    asked = np.full((len(queries), MAX_ASKS), ABSENT)
    values, lists = asked.copy(), asked.copy()
    exact = np.full(len(queries), ABSENT)
    for row, query in enumerate(queries):
        for at, (name, said) in enumerate(query.asks.items()):
            field = FIELDS.index(name)
            asked[row, at], values[row, at] = field, assortment.attributes[query.product, field]
            if name == "model":
                exact[row] = query.product
            elif f" {said.lower()} " in f" {query.text} ":
                lists[row, at] = assortment.list_of_word(query.product, field)
    types = np.array([query.type for query in queries])
    return Intents(
        texts=[query.text for query in queries],
        types=types,
        fields=asked,
        values=values,
        word_lists=lists,
        exact=exact,
        by_type=_zipf(types, counts, parameters.zipf_exponent),
    )


def _zipf(types: Ints, counts: Ints, exponent: float) -> WeightedLists:
    """Intents by type, those written most often first, weighted by rank ** -exponent."""
    order = np.lexsort((-counts, types))
    sizes = np.bincount(types, minlength=len(PRODUCT_TYPES))
    first = np.concatenate(([0], np.cumsum(sizes)))
    rank = np.arange(len(types)) - first[types[order]] + 1
    return WeightedLists(order, rank.astype(np.float64) ** -exponent, sizes)
