"""The responses of the family "cascade": chances are products of what fits, and what was bought before counts.

Interest is the fit with the query times the taste, each 0 to 1. One miss spoils a product, which no sum of merits makes up for.
"""

from __future__ import annotations

import numpy as np

from models.arrays import Doubles, Ints
from models.sample_store.assortment import Assortment
from models.sample_store.family import Chances
from models.sample_store.intents import Intents
from models.sample_store.parameters import DAY_MS, CascadeParameters
from models.sample_store.preferences import columns_of, preference_columns
from models.sample_store.product_types import load_product_types
from models.sample_store.purchase_memory import PurchaseMemory
from models.sample_store.query_fit import is_other_type, num_violated
from models.sample_store.shoppers import Shoppers


class CascadeTaste:
    """See `Responses`. `memory` holds what was bought so far."""

    def __init__(
        self,
        assortment: Assortment,
        shoppers: Shoppers,
        intents: Intents,
        parameters: CascadeParameters,
        memory: PurchaseMemory,
    ) -> None:
        self._assortment, self._shoppers, self._intents, self._parameters = assortment, shoppers, intents, parameters
        self._memory = memory
        self._columns = columns_of(assortment.latents)
        misses = (parameters.other_brand, parameters.other_colour, parameters.other_style, parameters.other_audience)
        self._misses = np.array(misses)
        self._sold_in_sizes = np.array([kind.kind == "wear" and len(kind.sizes) > 0 for kind in load_product_types()])

    def chances(self, intents: Ints, shoppers: Ints, products: Ints, time_ms: Ints) -> Chances:
        p = self._parameters
        violated = num_violated(self._intents, self._assortment, intents, products)
        other_type = is_other_type(self._intents, self._assortment, intents, products)
        fit = p.unasked_fit**violated * np.where(other_type, p.wrong_type_fit, 1.0)
        taste = self.preference(shoppers, products, time_ms)
        quality = p.poor_quality ** np.clip(1 - self._assortment.quality[products], 0, 2) / p.poor_quality
        click = fit * (p.click_without_taste + (1 - p.click_without_taste) * taste)
        cart = np.minimum(quality, 1.0) * (p.cart_without_taste + (1 - p.cart_without_taste) * taste)
        return Chances(
            click=p.click_most * click,
            cart=np.broadcast_to(p.cart_most * cart, click.shape),
            purchase=np.broadcast_to(p.purchase_most * np.sqrt(fit), click.shape),
        )

    def relevance(self, intents: Ints, products: Ints) -> Doubles:
        """Returns minus the number of constraints that products violate, another type counting as two."""
        violated = num_violated(self._intents, self._assortment, intents, products)
        return -1.0 * violated - 2.0 * is_other_type(self._intents, self._assortment, intents, products)

    def preference(self, shoppers: Ints, products: Ints, time_ms: Ints) -> Doubles:
        """Returns the taste for products, 0 to 1, or more where they are due or go with the last purchase."""
        p, latents = self._parameters, self._assortment.latents
        columns = self._columns[products]
        level = self._shoppers.preference(shoppers[..., None], columns, time_ms[..., None])
        level = np.where(columns == preference_columns().neutral, 1.0, level)  # it has no colour that could be a miss
        distance = np.abs(latents.price_band[products] - self._shoppers.price_band(shoppers, time_ms))
        sized = self._sold_in_sizes[latents.type[products]]
        fits = self._shoppers.fits(shoppers, latents.type[products], latents.size[products])
        matches = np.stack(
            [
                *np.moveaxis(self._misses + (1 - self._misses) * level, -1, 0),
                p.other_price**distance,
                np.where(sized & ~fits, p.other_size, 1.0),
            ]
        )
        taste = matches.prod(axis=0) if p.taste == "product" else matches.min(axis=0)
        taste = taste ** self._shoppers.strength[shoppers]
        return np.maximum(taste, self._remembered(shoppers, products, time_ms))

    def _remembered(self, shoppers: Ints, products: Ints, time_ms: Ints) -> Doubles:
        """Returns the least taste for products because of what was bought before."""
        p, memory = self._parameters, self._memory
        shoppers, products, time_ms = np.broadcast_arrays(shoppers, products, time_ms)
        least = np.zeros(products.shape)
        if memory.is_empty:
            return least
        if p.repeat_rate:
            is_due = memory.bought_within(shoppers, products, time_ms, _ms(p.repeat_days))
            least = np.where(is_due, p.repeat_interest, least)
        if p.complement_rate:
            bought = memory.last_bought(shoppers, time_ms, _ms(p.complement_days))
            latents = self._assortment.latents
            goes_with = (bought >= 0) & (self._assortment.accessory_of[latents.type[products]] == latents.type[bought])
            goes_with &= latents.brand[products] == latents.brand[bought]
            least = np.where(goes_with, np.maximum(least, p.complement_interest), least)
        return least


def _ms(days: tuple[float, float]) -> tuple[int, int]:
    return round(days[0] * DAY_MS), round(days[1] * DAY_MS)
