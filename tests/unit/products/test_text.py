"""Cell text is cleaned to one printable line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.products.text import clean_text


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Salt &amp; Pepper&#8482;", "Salt & Pepper\u2122"),
        ("  two\t\nlines\x00here  ", "two lines here"),
        ("Cafe\u0301", "Caf\u00e9"),
        ("a\u00a0\u2003b", "a b"),
        ("half \ud83d of one", "half \ufffd of one"),
        ("\u0000", ""),
        ("<p>Soft <b>wool</b>rug.</p><ul><li>Hand-woven<li>160 cm</ul>", "Soft woolrug. Hand-woven 160 cm"),
        ("Line<br/>break &lt;i&gt;kept&lt;/i&gt;", "Line break kept"),
        ("&lt;p&gt;Salt &amp;amp; Pepper&lt;/p&gt;", "Salt & Pepper"),
        ('<a href="x">Link</a><!-- hidden --><script>if (a < b) run()</script>', "Link"),
        ("Size <M>, width < 5 and > 3, I <3 it", "Size <M>, width < 5 and > 3, I <3 it"),
        ("<<b>b>", ""),
    ],
)
def test_text_is_cleaned(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean


@given(st.text(st.characters(exclude_characters="&")) | st.text("<>/bp a=!-", max_size=30))
def test_clean_text_is_one_printable_line_and_stays_so(text: str) -> None:
    clean = clean_text(text)
    assert clean_text(clean) == clean
    assert clean == clean.strip()
    assert "  " not in clean
    assert len(clean.splitlines()) <= 1
    clean.encode()
