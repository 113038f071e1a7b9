"""The response of a simulated shopper to an examined product: the true probabilities of a click, a cart and a purchase."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Ints
from models.sample_store.assortment import Assortment
from models.sample_store.intents import Intents
from models.sample_store.parameters import LogParameters
from models.sample_store.preferences import preference_columns
from models.sample_store.product_types import load_product_types
from models.sample_store.shoppers import Shoppers


@dataclass(frozen=True, slots=True)
class Chances:
    """Conditional probabilities, all of the shape of the arguments."""

    click: Doubles  # of an examined product
    cart: Doubles  # of a clicked product
    purchase: Doubles  # of a product in the cart


class Engagement:
    """The model of shoppers' behaviour, whose numbers are those of LogParameters."""

    def __init__(self, assortment: Assortment, shoppers: Shoppers, intents: Intents, parameters: LogParameters) -> None:
        self._assortment, self._shoppers, self._intents, self._parameters = assortment, shoppers, intents, parameters
        latents = assortment.latents
        columns = [
            np.where((values := getattr(latents, name)) >= 0, first + values, preference_columns().neutral)
            for name, first in preference_columns().first.items()
        ]
        self._columns = np.stack(columns, axis=1).astype(np.int16)  # (num_products, 4) of preference_columns
        weights = (parameters.brand_liking, parameters.colour_liking, parameters.style_liking)
        self._weights = np.array((*weights, parameters.audience_liking), np.float32)
        self._num_sizes = np.array([len(kind.sizes) if kind.kind == "wear" else 0 for kind in load_product_types()])

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
        targets = self._intents
        violated = np.zeros(np.broadcast(intents, products).shape)
        for at in range(targets.fields.shape[1]):
            field, value = targets.fields[intents, at], targets.values[intents, at]
            violated += (field >= 0) & (self._assortment.attributes[products, field] != value)
        wrong_type = targets.types[intents] != self._assortment.latents.type[products]
        return -self._parameters.unasked_penalty * violated - self._parameters.wrong_type_penalty * wrong_type

    def preference(self, shoppers: Ints, products: Ints, time_ms: Ints) -> Doubles:
        """Returns how much shoppers prefer products, whatever the query."""
        latents, p = self._assortment.latents, self._parameters
        preference = self._shoppers.preference(shoppers[..., None], self._columns[products], time_ms[..., None])
        distance = np.abs(latents.price_band[products] - self._shoppers.price_band(shoppers, time_ms))
        num_sizes = self._num_sizes[latents.type[products]]
        own_size = (self._shoppers.body_size[shoppers] * num_sizes).astype(np.int64)
        fits = (num_sizes > 0) & (latents.size[products] == own_size)
        return self._shoppers.strength[shoppers] * (
            preference @ self._weights - p.price_dislike * distance + p.size_liking * fits
        )
