"""Compounds are split by the words of the catalogue, and by no others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from models.lexical.analysis import Analyzer
from models.lexical.compounds import split_compound


def counter(locale: str, counts: dict[str, int]) -> tuple[Analyzer, Callable[[str], int]]:
    analyzer = Analyzer(locale)
    stems = {analyzer.stem(word): count for word, count in counts.items()}
    return analyzer, lambda term: stems.get(term, 0)


@pytest.mark.parametrize(
    ("locale", "word", "counts", "expected"),
    [
        ("de", "lederhandschuhe", {"leder": 9, "handschuhe": 9}, ["leder", "handschuhe"]),
        ("de", "arbeitshandschuhe", {"arbeit": 9, "handschuhe": 9}, ["arbeit", "handschuhe"]),
        ("de", "kinderschuhe", {"kind": 9, "schuhe": 9, "kinderschuhe": 2}, ["kind", "schuhe"]),
        ("de", "lederarbeitshandschuhe", {"leder": 9, "arbeit": 9, "handschuhe": 9}, ["leder", "arbeit", "handschuhe"]),
        ("nl", "leerhandschoenen", {"leer": 9, "handschoenen": 9}, ["leer", "handschoenen"]),
        ("sv", "läderhandskar", {"läder": 9, "handskar": 9}, ["läder", "handskar"]),
        ("da", "læderhandsker", {"læder": 9, "handsker": 9}, ["læder", "handsker"]),
        ("en", "powerbank", {"power": 9, "bank": 9}, ["power", "bank"]),
    ],
)
def test_a_compound_is_split(locale: str, word: str, counts: dict[str, int], expected: list[str]) -> None:
    analyzer, count = counter(locale, counts)
    assert split_compound(word, analyzer.language, analyzer.stem, count) == tuple(map(analyzer.stem, expected))


@pytest.mark.parametrize(
    ("word", "counts"),
    [
        ("lederhandschuhe", {"leder": 9}),  # the catalogue lacks the other part
        ("lederhandschuhe", {"leder": 2, "handschuhe": 2, "lederhandschuhe": 500}),  # the whole is far more frequent
        ("schuh", {"schuh": 9}),
        ("handschuhe", {"hand": 1, "schuhe": 1}),  # words of one product may be errors
    ],
)
def test_a_word_is_left_whole(word: str, counts: dict[str, int]) -> None:
    analyzer, count = counter("de", counts)
    assert split_compound(word, "de", analyzer.stem, count) == ()
