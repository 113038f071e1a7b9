"""The search tower on NumPy alone, for serving on a CPU: it encodes queries and histories.

Its vectors equal those of the trained network to 1e-4. Safe to call from several threads: its only state is the cache of words, whose
entries are the same whichever thread computes them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from models.arrays import Bools, Floats, Ints
from models.errors import InputError
from models.unified.history import HistoryBlocks, HistoryItem, block_items, query_words
from models.unified.model_files import FORMAT_VERSION, LOCALE_WORDS, SEARCH_FILE, SPEC_FILE, VOCABULARY_FILE
from models.unified.numpy_layers import Layers, silu, unit
from models.unified.word_vectors import WordVectors
from models.unified.words import WordHashing, locale_tokens

__all__ = ["SPEC_FILE", "LightSpec", "LightTower", "ModelError", "log_words", "read_spec"]


class ModelError(InputError):
    """The folder holds no usable model; the message says why."""


@dataclass(frozen=True, slots=True)
class LightSpec:
    """The settings of the search tower."""

    dim: int
    prefixes: tuple[int, ...]
    hashing: WordHashing
    history: HistoryBlocks
    heads: int
    most_taste: float
    locales: tuple[str, ...]
    threshold: float  # products with a lower score can be pruned

    @classmethod
    def load(cls, folder: Path) -> LightSpec:
        values = read_spec(folder)
        recipe = values["recipe"]
        return cls(
            dim=recipe["sizes"]["dim"],
            prefixes=tuple(recipe["sizes"]["prefixes"]),
            hashing=WordHashing(**recipe["hashing"]),
            history=HistoryBlocks(**recipe["history"]),
            heads=recipe["sizes"]["heads"],
            most_taste=recipe["sizes"]["most_taste"],
            locales=tuple(values["locales"]),
            threshold=values["threshold"],
        )


def read_spec(folder: Path) -> dict[str, Any]:
    """Reads spec.json. Raises ModelError if it is missing or of another format."""
    try:
        values: dict[str, Any] = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(f"{folder.name} holds no unified model: {error}") from error
    if values.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"format version {values.get('format_version')} is not {FORMAT_VERSION}; train the model again"
        )
    return values


class LightTower:
    """Encodes queries, shoppers, and both together. Texts may have any length and language."""

    def __init__(self, folder: Path) -> None:
        self.spec = LightSpec.load(folder)
        weights = load_file(folder / SEARCH_FILE)
        self.tokens = weights.pop("tokens.weight")  # (buckets, token_dim) of words, which the product tower shares
        self._words = WordVectors(self.tokens, self.spec.hashing)
        self._locale_words = _LocaleWords(weights.pop(LOCALE_WORDS)) if LOCALE_WORDS in weights else None
        self._layers = Layers(weights)
        self._locale = {name.casefold(): at for at, name in enumerate(self.spec.locales)}

    def encode_queries(self, queries: Sequence[tuple[str, str]]) -> Floats:
        """Maps (text, locale) to unit vectors (queries, dim). A locale that was not trained counts as "other"."""
        words = [query_words(text) for text, _ in queries]
        bags = self._words.bags(words)
        numbers = [self._locale.get(name.casefold(), len(self.spec.locales)) for _, name in queries]
        if self._locale_words is not None:
            bags += self._locale_words.bags(words, [(*self.spec.locales, None)[number] for number in numbers])
        locale = self._layers.weight("search.query.locale.weight").T[numbers]
        inputs = np.concatenate([bags, locale], axis=1)
        return unit(self._layers.dense("search.query.dense", inputs))

    def encode_shoppers(self, histories: Sequence[Sequence[HistoryItem]]) -> Floats:
        """Maps histories (items in any order) to vectors (shoppers, dim) of any length; an empty history gives 0.

        A shopper's vector does not depend on the query and can be cached until the shopper's next event.
        """
        blocks = self.spec.history
        texts: dict[tuple[str, ...], int] = {}  # each once: histories without one event in turn share the others
        slots = np.full((len(histories), blocks.total), -1, np.int64)
        for row, history in enumerate(histories):
            first = 0
            for name, tokens in block_items(history, blocks).items() if history else ():
                for place, words in enumerate(tokens):
                    if words:
                        slots[row, first + place] = texts.setdefault(tuple(words), len(texts))
                first += blocks.sizes()[name]
        known = (slots >= 0).any(axis=1)
        vectors = np.zeros((len(histories), self.spec.dim), np.float32)
        if known.any():
            vectors[known] = self._attend(self._words.bags(list(texts)), slots[known])
        return vectors

    def personalise(self, queries: Floats, shoppers: Floats, strength: float | Floats = 1.0) -> Floats:
        """Combines encoded queries and shoppers (batch, dim) into unit vectors (batch, dim) to search with.

        Strength, a number or (batch,), is 0 for an anonymous search and 1 as trained. A shopper with the vector 0 counts as anonymous.
        """
        strengths = np.broadcast_to(np.asarray(strength, np.float32), len(queries))[:, np.newaxis]
        known: Bools = np.any(shoppers != 0, axis=1) & (strengths[:, 0] != 0)
        if not known.any():
            return queries
        mixed = self._layers.dense("search.mix", np.concatenate([queries, shoppers], axis=1))
        taste = mixed - (mixed * queries).sum(axis=1, keepdims=True) * queries
        most = np.float32(self.spec.most_taste)
        taste *= most / np.maximum(np.linalg.norm(taste, axis=1, keepdims=True), most)
        return np.where(known[:, np.newaxis], unit(queries + strengths * taste), queries)

    def _attend(self, items: Floats, slots: Ints) -> Floats:
        """Maps items (items, token_dim) and slots (shoppers, slots), at least one filled for each shopper, to (shoppers, dim)."""
        normed = self._layers.norm("search.shopper.norm", items)
        at = np.maximum(slots, 0)
        scores = self._scores(self._layers.linear("search.shopper.keys", normed))[at]
        scores = scores + self._scores(
            self._layers.weight("search.shopper.slot_keys")
        )  # (shoppers, slots, heads, readouts)
        scores = np.where((slots >= 0)[:, :, None, None], scores, np.float32(-np.inf))
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = (shares / shares.sum(axis=1, keepdims=True)).transpose(0, 2, 3, 1)
        values = self._layers.linear("search.shopper.values", normed)[at] + self._layers.weight(
            "search.shopper.slot_values"
        )
        values = values.reshape(*slots.shape, self.spec.heads, -1).transpose(0, 2, 1, 3)
        read = (shares @ values).transpose(0, 2, 1, 3)  # (shoppers, readouts, heads, head_dim)
        read = read.reshape(*read.shape[:2], -1)
        states = self._layers.weight("search.shopper.readouts") + self._layers.linear("search.shopper.joined", read)
        wide = self._layers.linear("search.shopper.widen", self._layers.norm("search.shopper.read_norm", states))
        states = states + self._layers.linear("search.shopper.narrow", silu(wide))
        return self._layers.linear("search.shopper.out", states.reshape(len(slots), -1))

    def _scores(self, keys: Floats) -> Floats:
        """Maps keys (n, token_dim) to attention scores of each head of each read-out (n, heads, readouts)."""
        by_head = keys.reshape(len(keys), self.spec.heads, -1)
        readouts = self._layers.weight("search.shopper.readouts")
        readouts = readouts.reshape(len(readouts), self.spec.heads, -1)
        return np.einsum("nhd,rhd->nhr", by_head, readouts) / np.float32(by_head.shape[-1] ** 0.5)


class _LocaleWords:
    """What words mean in one locale, as `models.unified.towers.LocaleWords` learned it."""

    def __init__(self, table: Floats) -> None:
        self._table = table  # (2**bits, token_dim)
        self._hashing = WordHashing(bits=len(table).bit_length() - 1)

    def bags(self, texts: Sequence[Sequence[str]], locales: Sequence[str | None]) -> Floats:
        """Returns (texts, token_dim) the means of the words of each text in its locale; 0 for None."""
        means = np.zeros((len(texts), self._table.shape[1]), np.float32)
        for row, (words, locale) in enumerate(zip(texts, locales, strict=True)):
            if words and locale is not None:
                buckets = [self._hashing.bucket(token) for token in locale_tokens(words, locale)]
                means[row] = self._table[buckets].mean(axis=0)
        return means


def log_words(folder: Path) -> set[str]:
    """Returns the frequent words of the log that the model was trained on, which are hardly typing errors."""
    return set(json.loads((folder / VOCABULARY_FILE).read_text(encoding="utf-8"))["words"])
