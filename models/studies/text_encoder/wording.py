"""The words of queries and products: which queries are the same but for their form, and how many words a pair shares."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Doubles
from models.evaluation.numbered_log import plain_query
from models.text_tuning.query_keys import LeakGuard

# Words that change nothing of what is asked for.
_EMPTY_WORDS = frozenset(
    ["a", "an", "and", "at", "by", "for", "from", "in", "my", "of", "on", "or", "the", "to", "with"]
)
_WORD = re.compile(r"[^\W_]+")
_MIN_MISSPELT = 5  # characters of a form; of shorter ones a letter makes another word ("mat", "mats", "map")
_BLOCK = 2_048


@cache
def _stemmer() -> Any:
    import Stemmer  # type: ignore[import-not-found]

    return Stemmer.Stemmer("english")


def stems(text: str) -> list[str]:
    """English stems of the words that say something, in their order."""
    words = [word for word in _WORD.findall(plain_query(text)) if word not in _EMPTY_WORDS]
    return list(_stemmer().stemWords(words))


def form_of(query: str) -> str:
    """What is left of a query without case, punctuation, empty words, plurals, repetition and order: "sofas for the garden" and
    "Garden Sofa" have one form."""
    return " ".join(sorted(set(stems(query)))) or plain_query(query)


def near_duplicates(queries: Sequence[str], others: Collection[str]) -> Bools:
    """Which of `queries` (n,) are those of `others` but for their form, by `form_of` or by the guard that keeps test queries out of
    training, or have a form that is one letter, or two that are swapped, away, as misspelt ones have."""
    from rapidfuzz.distance import OSA
    from rapidfuzz.process import cdist

    guard = LeakGuard(others)
    forms = [form_of(query) for query in queries]
    known = sorted({form_of(query) for query in others})
    seen = set(known)
    near = np.array([form in seen or query in guard for form, query in zip(forms, queries, strict=True)], np.bool_)
    long = [form for form in known if len(form) >= _MIN_MISSPELT]
    rest = [row for row, form in enumerate(forms) if not near[row] and len(form) >= _MIN_MISSPELT]
    for start in range(0, len(rest) if long else 0, _BLOCK):
        rows = rest[start : start + _BLOCK]
        distances = cdist([forms[row] for row in rows], long, scorer=OSA.distance, score_cutoff=1, dtype=np.uint8)
        near[rows] = (distances <= 1).any(axis=1)
    return near


class SharedWords:
    """How many of a query's words a product's text holds."""

    def __init__(self, queries: Sequence[str], products: Sequence[str]) -> None:
        self._queries = [frozenset(stems(query)) for query in queries]
        self._products = products
        self._stems: dict[int, frozenset[str]] = {}

    def shares(self, query_rows: npt.NDArray[np.integer], product_rows: npt.NDArray[np.integer]) -> Doubles:
        """(pairs,) from 0 to 1; 0 for a query without a word."""
        found = np.zeros(len(query_rows))
        for at, (query, product) in enumerate(zip(query_rows.tolist(), product_rows.tolist(), strict=True)):
            words = self._queries[query]
            found[at] = len(words & self._words(product)) / max(1, len(words))
        return found

    def _words(self, product: int) -> frozenset[str]:
        found = self._stems.get(product)
        if found is None:
            found = self._stems[product] = frozenset(stems(self._products[product]))
        return found
