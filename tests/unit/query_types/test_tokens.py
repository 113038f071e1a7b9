from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.query_types.tokens import LocaleRows, QueryHashing, fold_accents, locale_row, normalise, tokens_of


@pytest.mark.parametrize(
    ("query", "tokens"),
    [
        ("Running-Shoes  42", ["running", "shoes", "42", "running shoes", "shoes 42"]),
        ("red 👟\ufe0f", ["red", "👟", "red 👟"]),
        ("靴下", ["靴", "下", "靴下"]),
        ("が", ["が"]),  # one letter with its mark, not the letter without
        ("हिन्दी", ["हिन्दी"]),
        ("nike靴", ["nike", "靴"]),
        ("", []),
        (" - ", []),
    ],
)
def test_tokens_of_every_script(query: str, tokens: list[str]) -> None:
    assert tokens_of(query) == tokens


@pytest.mark.parametrize("letter", ["x", "運", "ท", "👟", "x ", "é", "ﷺ"])
def test_a_long_query_costs_no_more_than_a_few_hundred_tokens(letter: str) -> None:
    assert len(tokens_of(letter * 10_000)) < 300


def test_accents_of_latin_letters_are_left_out_by_ngrams_only() -> None:
    assert (fold_accents("schöne"), fold_accents("が"), fold_accents("हिन्दी")) == ("schone", "が", "हिन्दी")
    hashing = QueryHashing(bits=20)
    own, *ngrams = hashing.buckets("schöne")
    plain, *plain_ngrams = hashing.buckets("schone")
    assert own != plain
    assert ngrams == plain_ngrams


@given(st.text(max_size=50), st.sampled_from(["en-GB", "ja-JP"]))
def test_rows_are_in_their_blocks(query: str, locale: str) -> None:
    hashing, block = QueryHashing(bits=8), LocaleRows(256, 4)
    for token in hashing.tokens(query):
        assert "=" not in token  # which divides a locale from its word
        assert all(0 <= row < 256 for row in hashing.buckets(token))
        assert 256 <= locale_row(locale, token, block) < 272


@given(st.text(max_size=50))
def test_a_normal_query_stays_as_it_is(query: str) -> None:
    once = normalise(query)
    assert normalise(once.upper()) == normalise(normalise(once.upper()))
    assert once == once.strip()


@pytest.mark.parametrize(("bits", "ngrams"), [(3, (3,)), (27, (3,)), (16, ()), (16, (9,))])
def test_impossible_hashing_is_refused(bits: int, ngrams: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        QueryHashing(bits, ngrams)
