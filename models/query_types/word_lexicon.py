"""Words of other languages with the words of paths that they stand for, counted in a dictionary of names.

A dictionary holds texts of many languages, each with the path that it names in one language. "Orecchini a cerchio" beside "Hoop Earrings"
and "Orecchini" beside "Earrings" say that "orecchini" is "earrings": a pair of words that come together in most of their names.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles
from models.query_types.path_table import Path
from models.query_types.tokens import fold_accents, tokens_of

NUM_FEATURES = 4
_LEAST = 0.25  # of the Dice coefficient of two words
_MOST = 3  # words that one word stands for
_UNKNOWN = 0.5  # weight of a word without translation, which may be a name


@dataclass(frozen=True, slots=True)
class WordLexicon:
    words: Mapping[str, Sequence[tuple[str, float]]]  # word -> words of paths, with their Dice coefficient

    @classmethod
    def count(cls, entries: Sequence[tuple[str, Path]]) -> WordLexicon:
        together: Counter[tuple[str, str]] = Counter()
        own: Counter[str] = Counter()
        named: Counter[str] = Counter()
        for text, path in dict.fromkeys(entries):
            texts, names = set(_words(text)), _named(path[-1])
            own.update(texts)
            named.update(names)
            together.update((word, name) for word in texts for name in names)
        # A name has an entry in every language, a word mostly in its own alone.
        rounds = max(len(entries) / max(len({path for _, path in entries}), 1), 1.0)
        words: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for (word, name), count in together.items():
            dice = 2 * count / (own[word] + named[name] / rounds)
            if dice >= _LEAST:
                words[word].append((name, min(dice, 1.0)))
        return cls({word: sorted(found, key=lambda one: -one[1])[:_MOST] for word, found in words.items()})

    def features(self, queries: Sequence[str], paths: Sequence[Path]) -> Doubles:
        """Returns (pairs, NUM_FEATURES): the share of the query's words that the path, its last and its first step have, translated or
        not; and the mean weight of the words, low where they are unknown."""
        known = {query: self._translated(query) for query in set(queries)}
        steps = {step: _named(step) for path in set(paths) for step in path}
        return np.array(
            [_shares(known[query], [steps[step] for step in path]) for query, path in zip(queries, paths, strict=True)],
            np.float64,
        ).reshape(len(queries), NUM_FEATURES)

    def names(self, query: str) -> list[str]:
        """Returns the likeliest word of paths for each word of the query; the word itself if it is unknown."""
        return [self.words[word][0][0] if word in self.words else _singular(word) for word in _words(query)]

    def _translated(self, query: str) -> list[tuple[float, dict[str, float]]]:
        """Returns the weight of each word, and the words of paths that it may be."""
        found: list[tuple[float, dict[str, float]]] = []
        for word in _words(query):
            names = dict(self.words.get(word, ()))
            found.append((max(names.values(), default=_UNKNOWN), {_singular(word): _UNKNOWN, **names}))
        return found


def _shares(words: list[tuple[float, dict[str, float]]], steps: list[set[str]]) -> list[float]:
    total = sum(weight for weight, _ in words)
    if not total:
        return [0.0] * NUM_FEATURES
    parts = (set().union(*steps), steps[-1], steps[0])
    found = [
        sum(max((names[name] for name in names.keys() & part), default=0.0) for _, names in words) for part in parts
    ]
    return [*(share / total for share in found), total / len(words)]


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(fold_accents(word) for word in tokens_of(text, pairs=False)))


def _named(step: str) -> set[str]:
    return {_singular(word) for word in _words(step)}


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
