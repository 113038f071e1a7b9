"""What callers ask: a list of distinct queries with Zipf popularity, as search logs have it."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

ZIPF_EXPONENT = 1.0


class QueryMix:
    """Draws queries: the n-th of the list comes 1/n times as often as the first."""

    def __init__(self, queries: Sequence[str], seed: int = 0, exponent: float = ZIPF_EXPONENT) -> None:
        if not queries:
            raise ValueError("a query mix needs at least one query")
        self._queries = queries
        self._rng = random.Random(seed)
        self._cumulative = list(itertools.accumulate((n + 1) ** -exponent for n in range(len(queries))))

    def draw(self) -> str:
        at = self._rng.random() * self._cumulative[-1]
        return self._queries[bisect.bisect_left(self._cumulative, at)]

    def __iter__(self) -> Iterator[str]:
        while True:
            yield self.draw()


def queries_from_titles(titles: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Up to `count` distinct queries of one to four neighbouring words of titles, most with two or three, in random order."""
    if not titles:
        raise ValueError("there are no titles to take queries from")
    rng = random.Random(seed)
    distinct: dict[str, None] = {}
    for _ in range(20 * count):
        words = titles[rng.randrange(len(titles))].split()
        length = min(len(words), rng.choices((1, 2, 3, 4), (1, 4, 4, 2))[0])
        start = rng.randrange(len(words) - length + 1)
        query = " ".join(words[start : start + length]).strip(" ,.-&()|/").lower()
        if len(query) > 2 and query.isprintable():
            distinct[query] = None
        if len(distinct) == count:
            break
    queries = list(distinct)
    rng.shuffle(queries)
    return queries


def write_queries(path: Path, queries: Sequence[str]) -> None:
    path.write_text("".join(f"{query}\n" for query in queries), encoding="utf-8")


def read_queries(path: Path) -> list[str]:
    """One query a line, the most popular first."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
