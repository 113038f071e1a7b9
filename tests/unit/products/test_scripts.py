"""Which queries a catalogue can understand at all, by their letters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.products.scripts import KnownScripts

ENGLISH = KnownScripts({"sofa": 5000, "lamp": 4999, "лампа": 1}, ["en-US"])


@pytest.mark.parametrize(
    "query", ["sofa", "canapé", "75", "ﬁre", "\uff33\uff2f\uff26\uff21", "مصباح lamp", "x!", "лампа 5"]
)
def test_a_letter_or_digit_of_the_catalogue_is_enough(query: str) -> None:
    assert ENGLISH.knows(query)


@pytest.mark.parametrize("query", ["مصباح", "!!!", "🛋️", "ソファ", "沙发", "диван", "…", "₿", "\u200b", ""])
def test_nothing_that_the_catalogue_has(query: str) -> None:
    assert not ENGLISH.knows(query)


def test_the_languages_of_the_locales_are_known() -> None:
    known = KnownScripts({"sofa": 500}, ["en-US", "ja-JP", "ru"])
    assert known.knows("ソファ")
    assert known.knows("диван")
    assert not known.knows("مصباح")


def test_a_catalogue_in_another_script_need_not_know_latin_letters() -> None:
    known = KnownScripts({"диван": 500}, ["ru-RU"])
    assert known.knows("диван")
    assert not known.knows("sofa")


@given(st.text(max_size=40))
def test_any_text_is_judged(text: str) -> None:
    assert ENGLISH.knows(text) in (True, False)
    assert ENGLISH.knows(f"{text} sofa")
