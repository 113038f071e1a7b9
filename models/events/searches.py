"""What a search is, for training and evaluation alike: one query in one session. Spellings that `plain_query` equates are one query."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from models.arrays import Codes


def plain_query(text: str) -> str:
    """Normalises a query for comparison: NFC, case folding, single blanks."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


class PlainQueries(NamedTuple):
    """Distinct normalised queries, and (queries,) the place in `names` of each query as typed."""

    names: list[str]
    code: Codes


def plain_queries(typed: Iterable[str], normalise: Callable[[str], str] = plain_query) -> PlainQueries:
    """Normalises the queries of a log; `names` are in order of appearance."""
    number: dict[str, int] = {}
    code = np.array([number.setdefault(normalise(text), len(number)) for text in typed], np.int32)
    return PlainQueries(list(number), code)
