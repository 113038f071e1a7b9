"""What is searched for in a simulated storefront: a pool of wishes with Zipf's popularity, each written when it is first asked."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Ints
from models.draws import Draws, draw_uniforms, mix
from models.sample_store.assortment import FIELDS, Assortment
from models.sample_store.latents import ABSENT, LatentColumns, ProductLatent
from models.sample_store.locales.locale_queries import write_locale_query
from models.sample_store.locales.spoken import Locale

NUM_WISHES = 65_536  # of a locale: more than the searches of most, so that new queries never end


class Wishes:
    """The wishes of a locale, numbered from the most popular on. A wish depends on the store, seed, locale and its number."""

    def __init__(self, assortment: Assortment, locale: Locale, seed: int, zipf_exponent: float) -> None:
        self.seed = mix(
            mix(seed) ^ int.from_bytes(hashlib.blake2b(locale.name.encode(), digest_size=8).digest(), "big")
        )
        self._assortment, self._locale = assortment, locale
        weights = np.arange(1.0, NUM_WISHES + 1) ** -zipf_exponent
        self._below = np.cumsum(weights) / weights.sum()
        draws = draw_uniforms(self.seed ^ 1, np.arange(NUM_WISHES), 1)[:, 0]
        self._products = (draws * assortment.num_products).astype(np.int64)
        self._texts = np.full(NUM_WISHES, "", object)
        self.types: Ints = assortment.latents.type[self._products]  # (NUM_WISHES,) of PRODUCT_TYPES
        self.word_lists: Ints = np.full(
            NUM_WISHES, ABSENT
        )  # lists of products that have what is named; once it is written

    def draw(self, uniforms: Doubles) -> Ints:
        """Wishes by popularity."""
        return np.searchsorted(self._below[:-1], uniforms, side="right")

    def texts(self, wishes: Ints) -> npt.NDArray[np.object_]:
        """The query of each wish."""
        for wish in np.unique(wishes[self._texts[wishes] == ""]).tolist():
            self._write(wish)
        return self._texts[wishes]

    def _write(self, wish: int) -> None:
        product = int(self._products[wish])
        query = write_locale_query(self._locale, self._latent(product), Draws(mix(self.seed ^ 2) + wish))
        self._texts[wish] = query.text
        if query.field:
            self.word_lists[wish] = self._assortment.list_of_word(product, FIELDS.index(query.field))

    def _latent(self, product: int) -> ProductLatent:
        columns = self._assortment.latents
        return ProductLatent(*(getattr(columns, field.name)[product].item() for field in fields(LatentColumns)))
