"""Text of catalogue cells: any cell as text, cleaned of markup and control characters, and shortened for a report."""

from __future__ import annotations

import html
import json
import math
import re
import unicodedata

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Elements that descriptions are marked up with. "<M>" and "a < b" are no markup.
_ELEMENTS = (
    "a|abbr|address|article|aside|b|big|blockquote|body|br|button|center|cite|code|dd|div|dl|dt|em|embed|figcaption|figure|font|footer|form|"
    "h[1-6]|head|header|hr|html|i|iframe|img|input|label|li|link|main|mark|meta|nav|object|ol|option|p|picture|pre|s|section|select|small|"
    "source|span|strike|strong|sub|sup|svg|table|tbody|td|tfoot|th|thead|title|tr|tt|u|ul|video|wbr"
)
_MARKUP = re.compile(
    rf"<!--.*?-->|<!\[CDATA\[|\]\]>|<(?P<raw>script|style)\b[^>]*>.*?</(?P=raw)\s*>|</?(?:{_ELEMENTS})(?:\s[^<>]*)?/?>",
    re.IGNORECASE | re.DOTALL,
)
_INLINE = re.compile(
    r"</?(?:a|abbr|b|big|cite|code|em|font|i|mark|s|small|span|strike|strong|sub|sup|tt|u|wbr)\b", re.IGNORECASE
)
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: JSON can write it, UTF-8 cannot


def clean_text(text: str, unescape: bool = True) -> str:
    """Returns NFC text on one line: HTML entities unescaped and its tags removed, control characters and runs of blanks as one blank,
    ends trimmed. Without `unescape` entities and tags stay."""
    if unescape:
        if "&" in text:
            text = html.unescape(text)
        if "<" in text:
            text = without_markup(text)
    if text.isascii() and text.isprintable():
        return " ".join(text.split()) if "  " in text else text.strip()
    text = _SURROGATE.sub("\ufffd", _CONTROL.sub(" ", text))
    return " ".join(unicodedata.normalize("NFC", text).split())


def without_markup(text: str) -> str:
    """Returns text without HTML tags, comments, scripts and styles. A tag that starts a block leaves a blank."""
    while True:  # what is left of "<<b>b>" is a tag again
        stripped = _MARKUP.sub(lambda tag: "" if _INLINE.match(tag[0]) else " ", text)
        if stripped == text:
            return text
        text = html.unescape(stripped) if "&" in stripped else stripped  # entities inside the tags of an escaped text


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
