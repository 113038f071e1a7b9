"""How a simulated shopper responds to a product that was looked at: the true chances of a click, a cart, a purchase."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Ints
from models.sample_store.assortment import Assortment
from models.sample_store.intents import Intents
from models.sample_store.parameters import LogParameters
from models.sample_store.product_types import PRODUCT_TYPES
from models.sample_store.shoppers import FIRST_COLUMNS, NOTHING, Shoppers


@dataclass(frozen=True, slots=True)
class Chances:
    """Probabilities, each of the shape that was asked for."""

    click: Doubles  # of a product that is looked at
    cart: Doubles  # of one that was clicked
    purchase: Doubles  # of one that is in the cart


class Engagement:
    """The model of what shoppers do. It is simulated: all numbers are those of LogParameters."""

    def __init__(self, assortment: Assortment, shoppers: Shoppers, intents: Intents, parameters: LogParameters) -> None:
        self._assortment, self._shoppers, self._intents, self._parameters = assortment, shoppers, intents, parameters
        latents = assortment.latents
        columns = [
            np.where((values := getattr(latents, name)) >= 0, first + values, NOTHING)
            for name, first in FIRST_COLUMNS.items()
        ]
        self._columns = np.stack(columns, axis=1).astype(np.int16)  # (num_products, 4) in the table of likings
        likings = (parameters.brand_liking, parameters.colour_liking, parameters.style_liking)
        self._likings = np.array((*likings, parameters.audience_liking), np.float32)
        self._num_sizes = np.array([len(kind.sizes) if kind.kind == "wear" else 0 for kind in PRODUCT_TYPES])

    def chances(self, intents: Ints, shoppers: Ints, products: Ints, time_ms: Ints) -> Chances:
        """For each (intent, shopper, product, time); the arguments broadcast together."""
        p = self._parameters
        fit = self.fit(intents, products)
        taste = self.taste(shoppers, products, time_ms)
        quality = p.quality_weight * self._assortment.quality[products]

        def chance(bias: float, weights: tuple[float, float, float]) -> Doubles:
            utility = bias + weights[0] * fit + weights[1] * taste + weights[2] * quality
            return np.asarray(1 / (1 + np.exp(-utility)), np.float64)

        return Chances(
            click=chance(p.click_bias, p.click_weights),
            cart=chance(p.cart_bias, p.cart_weights),
            purchase=chance(p.purchase_bias, p.purchase_weights),
        )

    def fit(self, intents: Ints, products: Ints) -> Doubles:
        """How well products are what is asked for: 0 if they are, below 0 if not."""
        asked = self._intents
        missed = np.zeros(np.broadcast(intents, products).shape)
        for at in range(asked.fields.shape[1]):
            field, value = asked.fields[intents, at], asked.values[intents, at]
            missed += (field >= 0) & (self._assortment.attributes[products, field] != value)
        wrong_type = asked.types[intents] != self._assortment.latents.type[products]
        return -self._parameters.unasked_penalty * missed - self._parameters.wrong_type_penalty * wrong_type

    def taste(self, shoppers: Ints, products: Ints, time_ms: Ints) -> Doubles:
        """How much shoppers like products, whatever was asked for."""
        latents, p = self._assortment.latents, self._parameters
        liked = self._shoppers.liking(shoppers[..., None], self._columns[products], time_ms[..., None]) @ self._likings
        distance = np.abs(latents.price_band[products] - self._shoppers.price_band(shoppers, time_ms))
        num_sizes = self._num_sizes[latents.type[products]]
        own_size = (self._shoppers.body_size[shoppers] * num_sizes).astype(np.int64)
        fits = (num_sizes > 0) & (latents.size[products] == own_size)
        return self._shoppers.strength[shoppers] * (liked - p.price_dislike * distance + p.size_liking * fits)
