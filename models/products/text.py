"""Text of catalogue cells: any cell as text, cleaned, and shortened for a report."""

from __future__ import annotations

import html
import json
import math
import re
import unicodedata

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: JSON can write it, UTF-8 cannot


def clean_text(text: str, unescape: bool = True) -> str:
    """Returns NFC text on one line: HTML entities unescaped, control characters and runs of blanks as one blank, ends trimmed."""
    if unescape and "&" in text:
        text = html.unescape(text)
    if text.isascii() and text.isprintable():
        return " ".join(text.split()) if "  " in text else text.strip()
    text = _SURROGATE.sub("\ufffd", _CONTROL.sub(" ", text))
    return " ".join(unicodedata.normalize("NFC", text).split())


def cell_text(value: object) -> str:
    """Returns any cell as text, "" for an empty one. Raises UnicodeDecodeError for bytes that are not UTF-8."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(cell_text, value)))
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return _scalar_text(value)


def _scalar_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        # An integer column with empty cells is often stored as floats: 42.0 is the id 42.
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else str(value)
    return str(value)


def readable(value: object) -> str:
    """Returns any cell as text, with U+FFFD in place of bytes that are not UTF-8."""
    try:
        return cell_text(value)
    except UnicodeDecodeError:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def without_surrogates(text: str, replacement: str) -> str:
    """Returns text that UTF-8 can encode, with `replacement` for each half of a character."""
    return _SURROGATE.sub(replacement, text)


def shorten(text: str, max_chars: int) -> str:
    """Returns at most `max_chars` characters that UTF-8 can encode, ending in "..." if the text is cut."""
    text = without_surrogates(text, "\ufffd")
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."
