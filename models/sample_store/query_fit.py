"""How products fit a query: the constraints that they violate, and whether they are of its type."""

from __future__ import annotations

import numpy as np

from models.arrays import Bools, Ints
from models.sample_store.assortment import Assortment
from models.sample_store.intents import Intents


def num_violated(targets: Intents, assortment: Assortment, intents: Ints, products: Ints) -> Ints:
    """Returns how many constraints of each intent its product violates; the arguments broadcast together."""
    violated = np.zeros(np.broadcast(intents, products).shape, np.int64)
    for at in range(targets.fields.shape[1]):
        field, value = targets.fields[intents, at], targets.values[intents, at]
        violated += (field >= 0) & (assortment.attributes[products, field] != value)
    return violated


def is_other_type(targets: Intents, assortment: Assortment, intents: Ints, products: Ints) -> Bools:
    """Returns whether each product is of another type than its intent asks for; the arguments broadcast together."""
    return np.asarray(targets.types[intents] != assortment.latents.type[products])
