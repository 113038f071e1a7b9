"""Prices and negations of a query are read; hyphens of names are no negations; nothing raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.query_words.language_rules import LANGUAGES
from models.query_words.parts import Part, QueryParts
from models.query_words.read_query import read_query


def read(query: str, locale: str = "en") -> QueryParts:
    return read_query(query, locale, "EUR")


@pytest.mark.parametrize(
    ("locale", "query", "negated", "rest"),
    [
        ("en", "dress without sleeves", ["sleeves"], "dress"),
        ("en", "dress without long sleeves for a party", ["long sleeves"], "dress for a party"),
        ("en", "dress without any sleeves", ["sleeves"], "dress"),
        ("en", "dress without sleeves or collar", ["sleeves", "collar"], "dress"),
        ("en", "dress w/o sleeves", ["sleeves"], "dress"),
        ("en", "mouse -wireless", ["wireless"], "mouse"),
        ("en", "-wireless mouse -bluetooth", ["wireless", "bluetooth"], "mouse"),
        ("en", "mouse \u2212wireless", ["wireless"], "mouse"),
        ("en", "cookies no gluten", ["gluten"], "cookies"),
        ("en", "no gluten", ["gluten"], ""),
        ("en", "without sugar cookies", ["sugar"], "cookies"),
        ("en", "laptop, not refurbished, 16 gb", ["refurbished"], "laptop, 16 gb"),
        ("en", "dress without sleeves under 50 euro", ["sleeves"], "dress"),
        ("de", "Kleid ohne Ärmel", ["Ärmel"], "Kleid"),
        ("de", "Kleid ohne die Ärmel mit Kragen", ["Ärmel"], "Kleid mit Kragen"),
        ("de", "Kekse kein Zucker", ["Zucker"], "Kekse"),
        ("fr", "robe sans manches", ["manches"], "robe"),
        ("fr", "robe sans manches noir", ["manches"], "robe noir"),
        ("fr", "robe sans manches pour femme", ["manches"], "robe pour femme"),
        ("en", "dress without sleeves red", ["sleeves"], "dress red"),
        ("es", "vestido sin mangas", ["mangas"], "vestido"),
        ("it", "vestito senza maniche", ["maniche"], "vestito"),
        ("nl", "jurk zonder mouwen", ["mouwen"], "jurk"),
        ("ja", "袖なし ワンピース", ["袖"], "ワンピース"),
        ("ja", "砂糖不使用 クッキー", [], "砂糖不使用 クッキー"),
    ],
)
def test_what_is_not_wanted(locale: str, query: str, negated: list[str], rest: str) -> None:
    parts = read(query, locale)
    assert [negation.words for negation in parts.negations if negation.is_certain] == negated
    assert parts.rest == rest


@pytest.mark.parametrize(
    "query",
    [
        "C-3PO",
        "usb-c",
        "t-shirt",
        "usb-c cable - black",
        "HX-4210 -",
        "-40 degree bag",
        "a -b",
        "not",
        "no",
        "-",
        "- -- -",
        "without",
        "without, sleeves",
        "chanel no 5",
        "no. 7 serum",
        "non-stick pan",
        "knot norway",
        "👗",
        "👗 without 👗",
        "",
        "   ",
    ],
)
def test_hyphens_in_names_and_lone_words_are_no_negations(query: str) -> None:
    parts = read(query)
    assert parts.negations == ()
    assert parts.rest == query.strip()


@pytest.mark.parametrize(
    "query",
    ["no show socks", "ankle no show socks", "no country for old men", "no name brand tea", "cookies no added sugar"],
)
def test_a_no_that_may_belong_to_a_name_is_not_certain_and_stays(query: str) -> None:
    parts = read(query)
    assert [negation.is_certain for negation in parts.negations] == [False]
    assert parts.rest == query


@pytest.mark.parametrize("query", ["robe sans manches longues", "casquette sans visière homme"])
def test_of_two_words_after_the_noun_the_second_may_be_wanted(query: str) -> None:
    parts = read(query, "fr")
    assert [(negation.words, negation.is_certain) for negation in parts.negations] == [
        (query[query.index("sans") + 5 :], False)
    ]
    assert parts.rest == query


def test_no_condition_is_read_in_a_name_that_the_query_was_found_to_hold() -> None:
    query = "dvd Tell No Lies without extras"
    spared = read_query(query, "en", "USD", [(4, 16)])
    assert [negation.words for negation in spared.negations] == ["extras"]
    assert [negation.words for negation in read_query(query, "en", "USD").negations] == ["Lies", "extras"]
    assert read_query("Under 50 euro", "en", "EUR", [(0, 13)]).rest == "Under 50 euro"


def test_a_query_of_conditions_alone_leaves_nothing() -> None:
    parts = read("under 50 euro without sleeves -red")
    assert parts.rest == ""
    assert len(parts.prices) + len(parts.negations) == 3


PIECES = [
    "under",
    "-red",
    "no",
    "without",
    "€",
    "$50",
    "20-30",
    "1.299,00",
    '12"',
    "1/0 in",
    "size",
    "für",
    "用",
    "なし",
    "円以下",
    "İ",
    "ß",
]
queries = st.one_of(
    st.text(max_size=512),
    st.lists(st.sampled_from([*PIECES, "x", "9" * 30, "-", ",", "\u2013", "'", "\ud800"]), max_size=60).map(" ".join),
    st.lists(st.sampled_from(PIECES), max_size=60).map("".join),
)


@given(queries, st.sampled_from([*LANGUAGES, "", "xx", "pt-BR"]), st.sampled_from(["EUR", "JPY", "KWD", "GBP"]))
def test_any_query_is_read_and_every_part_lies_where_it_says(query: str, locale: str, currency: str) -> None:
    query = query[:512]
    parts = read_query(query, locale, currency)
    conditions: list[Part] = [*parts.prices, *parts.negations]
    for part in conditions:
        assert 0 <= part.start < part.end <= len(query)
        assert query[part.start : part.end] == part.text
    stated = [price for price in parts.prices if price.is_stated] + [n for n in parts.negations if n.is_certain]
    for part, other in zip(
        sorted(stated, key=lambda one: one.start), sorted(stated, key=lambda one: one.start)[1:], strict=False
    ):
        assert part.end <= other.start
    assert len(parts.rest) <= len(query)
    for price in parts.prices:
        assert price.min_minor is None or price.max_minor is None or price.min_minor <= price.max_minor


@pytest.mark.parametrize("query", ["黒い財布レザーなし", "おもてなし ギフト", "袖なし"])
def test_a_japanese_negation_whose_words_may_begin_before_the_noun_is_not_certain(query: str) -> None:
    assert not [negation for negation in read_query(query, "ja-JP", "JPY").negations if negation.is_certain]
