"""The response of a simulated shopper to an examined product: the true probabilities of a click, a cart and a purchase.

This is the one of the family "additive": what counts is added up in logits."""

from __future__ import annotations

import numpy as np

from models.arrays import Doubles, Ints
from models.sample_store.assortment import Assortment
from models.sample_store.family import Chances
from models.sample_store.intents import Intents
from models.sample_store.parameters import LogParameters
from models.sample_store.preferences import columns_of
from models.sample_store.query_fit import is_other_type, num_violated
from models.sample_store.shoppers import Shoppers


class Engagement:
    """The model of shoppers' behaviour, whose numbers are those of LogParameters."""

    def __init__(self, assortment: Assortment, shoppers: Shoppers, intents: Intents, parameters: LogParameters) -> None:
        self._assortment, self._shoppers, self._intents, self._parameters = assortment, shoppers, intents, parameters
        self._columns = columns_of(assortment.latents)
        weights = (parameters.brand_liking, parameters.colour_liking, parameters.style_liking)
        self._weights = np.array((*weights, parameters.audience_liking), np.float32)

    def chances(self, intents: Ints, shoppers: Ints, products: Ints, time_ms: Ints) -> Chances:
        """Returns the probabilities for each (intent, shopper, product, time); the arguments broadcast together."""
        p = self._parameters
        relevance = self.relevance(intents, products)
        preference = self.preference(shoppers, products, time_ms)
        quality = p.quality_weight * self._assortment.quality[products]

        def chance(bias: float, weights: tuple[float, float, float]) -> Doubles:
            utility = bias + weights[0] * relevance + weights[1] * preference + weights[2] * quality
            return np.asarray(1 / (1 + np.exp(-utility)), np.float64)

        return Chances(
            click=chance(p.click_bias, p.click_weights),
            cart=chance(p.cart_bias, p.cart_weights),
            purchase=chance(p.purchase_bias, p.purchase_weights),
        )

    def relevance(self, intents: Ints, products: Ints) -> Doubles:
        """Returns the relevance of products: 0 if they satisfy type and constraints, less for each violation."""
        violated = num_violated(self._intents, self._assortment, intents, products)
        wrong_type = is_other_type(self._intents, self._assortment, intents, products)
        return -self._parameters.unasked_penalty * violated - self._parameters.wrong_type_penalty * wrong_type

    def preference(self, shoppers: Ints, products: Ints, time_ms: Ints) -> Doubles:
        """Returns how much shoppers prefer products, whatever the query."""
        latents, p = self._assortment.latents, self._parameters
        preference = self._shoppers.preference(shoppers[..., None], self._columns[products], time_ms[..., None])
        distance = np.abs(latents.price_band[products] - self._shoppers.price_band(shoppers, time_ms))
        fits = self._shoppers.fits(shoppers, latents.type[products], latents.size[products])
        return self._shoppers.strength[shoppers] * (
            preference @ self._weights - p.price_dislike * distance + p.size_liking * fits
        )
