"""The queries of a simulated storefront: a pool with Zipf's popularity, each written when it is first drawn."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Ints
from models.draws import Draws, draw_uniforms, mix
from models.sample_store.assortment import FIELDS, Assortment
from models.sample_store.locales.language import Locale
from models.sample_store.locales.locale_queries import write_locale_query
from models.sample_store.words import ABSENT

NUM_QUERIES = 65_536  # of a locale: more than the searches of most, so that new queries never end


class QueryPool:
    """The queries of a locale, numbered from the most popular. A query depends on the store, the seed, the locale and its number."""

    def __init__(self, assortment: Assortment, locale: Locale, seed: int, zipf_exponent: float) -> None:
        self.seed = mix(
            mix(seed) ^ int.from_bytes(hashlib.blake2b(locale.name.encode(), digest_size=8).digest(), "big")
        )
        self._assortment, self._locale = assortment, locale
        weights = np.arange(1.0, NUM_QUERIES + 1) ** -zipf_exponent
        self._below = np.cumsum(weights) / weights.sum()
        draws = draw_uniforms(self.seed ^ 1, np.arange(NUM_QUERIES), 1)[:, 0]
        self._products = (draws * assortment.num_products).astype(np.int64)
        self._texts = np.full(NUM_QUERIES, "", object)
        self.types: Ints = assortment.latents.type[self._products]  # (NUM_QUERIES,) indexes of load_product_types()
        # Lists of the products that satisfy a query's constraint; of queries that are written.
        self.word_lists: Ints = np.full(NUM_QUERIES, ABSENT)

    def draw(self, uniforms: Doubles) -> Ints:
        """Draws queries by popularity."""
        return np.searchsorted(self._below[:-1], uniforms, side="right")

    def texts(self, queries: Ints) -> npt.NDArray[np.object_]:
        """Returns the text of each query, and writes those that are new."""
        for number in np.unique(queries[self._texts[queries] == ""]).tolist():
            self._write(number)
        return self._texts[queries]

    def _write(self, number: int) -> None:
        product = int(self._products[number])
        latent = self._assortment.latents.row(product)
        query = write_locale_query(self._locale, latent, Draws(mix(self.seed ^ 2) + number))
        self._texts[number] = query.text
        if query.field:
            self.word_lists[number] = self._assortment.list_of_word(product, FIELDS.index(query.field))
