"""Splits compounds by the words of a catalogue: "Lederhandschuhe" where it has "Leder" and "Handschuhe" (Koehn and Knight, 2003)."""

from __future__ import annotations

import math
from collections.abc import Callable

from models.lexical.languages import LINKS

MIN_PART = 3  # letters
MIN_TAIL = 4  # of the last part: shorter ones are endings
MAX_PARTS = 3


def split_compound(
    word: str, language: str, stem: Callable[[str], str], count: Callable[[str], int]
) -> tuple[str, ...]:
    """Returns the terms of the parts, or () for a word that is none or that is better left whole.

    `word` is folded, not stemmed. `count` gives the number of products that hold a term. The best split has the highest geometric mean of
    its parts' counts; it must be above the count of the whole.
    """
    if len(word) < MIN_PART + MIN_TAIL:
        return ()
    best, parts = max(_splits(word, language, stem, count, MAX_PARTS), default=(0.0, ()))
    return parts if len(parts) > 1 and best > math.log(max(1, count(stem(word)))) else ()


def _splits(
    word: str, language: str, stem: Callable[[str], str], count: Callable[[str], int], max_parts: int
) -> list[tuple[float, tuple[str, ...]]]:
    """Returns the mean logarithm of the counts, and the parts, of every split."""
    splits: list[tuple[float, tuple[str, ...]]] = []
    if len(word) >= MIN_TAIL and (number := count(term := stem(word))) > 1:
        splits.append((math.log(number), (term,)))
    if max_parts == 1:
        return splits
    links = LINKS.get(language, ())
    for at in range(MIN_PART, len(word) - MIN_TAIL + 1):
        head = word[:at]
        # Most heads end in no link, and stemming takes longest: each form is stemmed once.
        heads = {head, *(head.removesuffix(link) for link in links if at - len(link) >= MIN_PART)}
        number, term = max((count(form), form) for form in map(stem, heads))
        if number < 2:
            continue
        for mean, parts in _splits(word[at:], language, stem, count, max_parts - 1):
            splits.append(((math.log(number) + mean * len(parts)) / (1 + len(parts)), (term, *parts)))
    return splits
