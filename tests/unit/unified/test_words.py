from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.unified.words import Ragged, WordBook, WordHashing, category_tokens, field_token, word_batch, words_of


def test_words_are_lower_case_without_accents_and_repetitions() -> None:
    assert words_of("Café-Table, CAFE table HX-4210", 10) == ["cafe", "table", "hx", "4210"]
    assert words_of("one two three", 2) == ["one", "two"]
    assert words_of("", 5) == []


@given(st.text(max_size=60))
def test_no_text_makes_a_mark(text: str) -> None:
    assert not any("=" in word for word in words_of(text, 20))


def test_marks_are_whole_values_and_empty_for_none() -> None:
    assert field_token("brand", " Halden ") == field_token("brand", "halden") == "brand=halden"
    assert field_token("brand", "") == ""
    assert category_tokens("Home > Sofas") == ["category=home", "category=home>sofas"]


def test_a_word_shares_ngrams_with_its_misspelling_and_a_mark_has_none() -> None:
    hashing = WordHashing(bits=20)
    own, *ngrams = hashing.buckets("trainers")
    assert own not in ngrams
    assert len(set(ngrams) & set(hashing.buckets("trainerz"))) >= 4
    assert len(hashing.buckets("brand=halden")) == 1


@given(st.text(min_size=1, max_size=40), st.integers(4, 28))
def test_buckets_fit_the_table(word: str, bits: int) -> None:
    assert all(0 <= bucket < 2**bits for bucket in WordHashing(bits=bits).buckets(word))


@pytest.mark.parametrize(("bits", "ngram"), [(3, 4), (29, 4), (16, 1)])
def test_impossible_hashing_is_refused(bits: int, ngram: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        WordHashing(bits, ngram)


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=8), st.data())
def test_taken_rows_are_the_rows(rows: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6))
    taken = Ragged.from_rows(rows).take(np.array(chosen, np.int64))
    assert [taken.row(at).tolist() for at in range(len(taken))] == [rows[at] for at in chosen]


def test_a_batch_looks_each_word_up_once_and_keeps_the_texts() -> None:
    book = WordBook(WordHashing(bits=12))
    queries = Ragged.from_rows([book.numbers(["red", "sofa"]), []])
    products = Ragged.from_rows([book.numbers(["sofa", "brand=nord"])])
    batch = word_batch([queries, products], book.buckets())
    assert len(batch.own) == 3
    assert batch.text_offsets.tolist() == [0, 2, 2]
    hashing = book.hashing
    assert batch.own[batch.texts].tolist() == [hashing.bucket(w) for w in ("red", "sofa", "sofa", "brand=nord")]
    ends = [*batch.ngram_offsets.tolist(), len(batch.ngrams)]
    ngrams = {int(o): batch.ngrams[a:b].tolist() for o, a, b in zip(batch.own, ends[:-1], ends[1:], strict=True)}
    assert ngrams[hashing.bucket("sofa")] == hashing.buckets("sofa")[1:]
    assert ngrams[hashing.bucket("brand=nord")] == []
