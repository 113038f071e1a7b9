"""Words of queries and products: near-duplicate queries, and the share of words that a query and a product have in common."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Doubles
from models.events.searches import plain_query
from models.text_tuning.query_keys import LeakGuard

# Words without effect on the meaning of a query.
_STOP_WORDS = frozenset(
    ["a", "an", "and", "at", "by", "for", "from", "in", "my", "of", "on", "or", "the", "to", "with"]
)
_WORD = re.compile(r"[^\W_]+")
_MIN_MISSPELT = 5  # characters of a form; in shorter ones a letter makes another word ("mat", "map")
_BLOCK = 2_048


@cache
def _stemmer() -> Any:
    import Stemmer  # type: ignore[import-not-found]

    return Stemmer.Stemmer("english")


def stems(text: str) -> list[str]:
    """Returns the English stems of all words except stop words, in order."""
    words = [word for word in _WORD.findall(plain_query(text)) if word not in _STOP_WORDS]
    return list(_stemmer().stemWords(words))


def form_of(query: str) -> str:
    """Returns the form of a query, which ignores case, punctuation, stop words, plurals, repetition and order.

    "sofas for the garden" and "Garden Sofa" have the same form.
    """
    return " ".join(sorted(set(stems(query)))) or plain_query(query)


def near_duplicates(queries: Sequence[str], others: Collection[str]) -> Bools:
    """Returns (n,) which of `queries` are near-duplicates of one of `others`.

    A near-duplicate has the same form (`form_of`), or is caught by the guard that keeps test queries out of training, or has a form that
    differs by one letter or one swap of neighbouring letters, as a misspelling does.
    """
    from rapidfuzz.distance import OSA
    from rapidfuzz.process import cdist

    guard = LeakGuard(others)
    forms = [form_of(query) for query in queries]
    other_forms = sorted({form_of(query) for query in others})
    seen = set(other_forms)
    near = np.array([form in seen or query in guard for form, query in zip(forms, queries, strict=True)], np.bool_)
    long = [form for form in other_forms if len(form) >= _MIN_MISSPELT]
    rest = [row for row, form in enumerate(forms) if not near[row] and len(form) >= _MIN_MISSPELT]
    for start in range(0, len(rest) if long else 0, _BLOCK):
        rows = rest[start : start + _BLOCK]
        distances = cdist([forms[row] for row in rows], long, scorer=OSA.distance, score_cutoff=1, dtype=np.uint8)
        near[rows] = (distances <= 1).any(axis=1)
    return near


class SharedWords:
    """Computes the share of a query's words that a product's text contains."""

    def __init__(self, queries: Sequence[str], products: Sequence[str]) -> None:
        self._queries = [frozenset(stems(query)) for query in queries]
        self._products = products
        self._stems: dict[int, frozenset[str]] = {}

    def shares(self, query_rows: npt.NDArray[np.integer], product_rows: npt.NDArray[np.integer]) -> Doubles:
        """Returns (pairs,) from 0 to 1; 0 for a query without a word."""
        shares = np.zeros(len(query_rows))
        for at, (query, product) in enumerate(zip(query_rows.tolist(), product_rows.tolist(), strict=True)):
            words = self._queries[query]
            shares[at] = len(words & self._words(product)) / max(1, len(words))
        return shares

    def _words(self, product: int) -> frozenset[str]:
        words = self._stems.get(product)
        if words is None:
            words = self._stems[product] = frozenset(stems(self._products[product]))
        return words
