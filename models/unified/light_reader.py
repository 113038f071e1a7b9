"""The text block of the product tower on NumPy alone: a small transformer over the words of a product."""

from __future__ import annotations

import numpy as np

from models.arrays import Bools, Codes, Floats
from models.unified.numpy_layers import Layers, gelu
from models.unified.recipe import QueryGeneration
from models.unified.vocabulary import PAD


def multiplications(spec: QueryGeneration) -> int:
    """Returns how many multiplications it takes at most to read one word of a product."""
    # Queries, keys, values and their output are 4 matrices of dim x dim; the two dense layers are `wide` each.
    return spec.layers * (4 + 2 * spec.wide) * spec.dim**2


class LightReader:
    """Reads what `models.unified.query_generation.TextReader` reads, from its weights."""

    def __init__(self, weights: dict[str, Floats], spec: QueryGeneration) -> None:
        self._spec = spec
        self._tokens = weights["tokens.weight"]
        self._layers = Layers({name: value for name, value in weights.items() if name != "tokens.weight"})

    def read(self, tokens: Codes) -> Floats:
        """Maps tokens (products, words), filled up with PAD, to vectors (products, dim)."""
        longest = max(1, int((tokens != PAD).sum(axis=1).max(initial=0)))
        tokens = tokens[:, :longest]
        present: Bools = tokens != PAD
        # Of a text without words every token is read, which avoids a division by 0, and none counts.
        hidden = ~(present | ~present.any(axis=1, keepdims=True))[:, None, None, :]
        states = self._tokens[tokens] + self._layers.weight("places")[:longest]
        for number in range(self._spec.layers):
            states = self._layer(f"layers.{number}", states, hidden)
        states = self._layers.norm("norm", states)
        return (states * present[:, :, None]).sum(axis=1) / np.maximum(present.sum(axis=1), 1)[:, None].astype(
            np.float32
        )

    def _layer(self, name: str, states: Floats, hidden: Bools) -> Floats:
        layers = self._layers
        queries, keys, values = np.split(
            layers.linear(f"{name}.own", layers.norm(f"{name}.norms.0", states)), 3, axis=2
        )
        scores = self._by_head(queries) @ self._by_head(keys).swapaxes(2, 3)
        scores *= np.float32((self._spec.dim // self._spec.heads) ** -0.5)
        scores = np.where(hidden, np.float32(-np.inf), scores)
        shares = np.exp(scores - scores.max(axis=3, keepdims=True))
        shares /= shares.sum(axis=3, keepdims=True)
        read = (shares @ self._by_head(values)).transpose(0, 2, 1, 3).reshape(states.shape)
        states = states + layers.linear(f"{name}.own_out", read)
        wide = layers.linear(f"{name}.widen", layers.norm(f"{name}.norms.1", states))
        return states + layers.linear(f"{name}.narrow", gelu(wide))

    def _by_head(self, states: Floats) -> Floats:
        return states.reshape(*states.shape[:2], self._spec.heads, -1).transpose(0, 2, 1, 3)
