"""A typing error changes one word, and only a little."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.draws import Draws
from models.typing_errors import misspell


@given(text=st.text(st.sampled_from("abcdefgo -'6"), min_size=1), seed=st.integers(0, 2**32))
def test_misspelling_changes_one_word_a_little(text: str, seed: int) -> None:
    if not text.strip():
        return
    wrong = misspell(text, Draws(seed))
    assert wrong != text
    assert abs(len(wrong) - len(text)) <= 1
    assert sum(a != b for a, b in zip(wrong.split(" "), text.split(" "), strict=True)) == 1
