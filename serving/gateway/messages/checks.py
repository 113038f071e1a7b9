"""Checks of single fields that the requests of several services share. Each appends what it refuses to `violations`."""

from __future__ import annotations

import unicodedata

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from serving.errors import Violation

MAX_SHOPPER_ID_CHARS = 128
MAX_NAMED = 32  # fields or values that one refusal names


def refuse_unknown(message: Message, path: str, violations: list[Violation]) -> None:
    """Refuses field numbers that this server does not know. One may be a filter: ignoring it would answer another question."""
    unknown = UnknownFieldSet(message)
    numbers = sorted({unknown[n].field_number for n in range(len(unknown))})
    violations.extend(
        Violation(f"{path}{number}", "is a field number that this server does not know; it may be newer here")
        for number in numbers[:MAX_NAMED]
    )


def read_query(
    text: str, field: str, max_chars: int, violations: list[Violation], *, may_be_empty: bool = False
) -> str:
    """Returns the query in NFC without surrounding blanks, tabs and line ends replaced by blanks; "" if it is refused.

    Searches and events read their queries here, so that the same words are the same text to the model.
    """
    text = text.strip()
    if len(text) > max_chars:
        violations.append(Violation(field, f"has {len(text)} characters; at most {max_chars}"))
        return ""
    if not text.isprintable():  # rare
        text = text.replace("\t", " ").replace("\n", " ").replace("\r", " ")
        # Only control characters are refused: what this Python takes for unassigned may be an emoji of next year.
        bad = next((c for c in text if unicodedata.category(c) == "Cc"), "")
        if bad:
            violations.append(Violation(field, f"holds the control character U+{ord(bad):04X}"))
            return ""
    if not text and not may_be_empty:
        violations.append(Violation(field, "must not be empty"))
    return unicodedata.normalize("NFC", text)


def check_id(text: str, field: str, min_chars: int, max_chars: int, violations: list[Violation]) -> None:
    if not min_chars <= len(text) <= max_chars or not text.isprintable():
        violations.append(Violation(field, f"must have {min_chars} to {max_chars} printable characters"))


def check_optional_shopper(shopper_id: str, violations: list[Violation]) -> None:
    """Refuses an id that no shopper can have. An empty one is an anonymous shopper."""
    if len(shopper_id) > MAX_SHOPPER_ID_CHARS or not shopper_id.isprintable():
        violations.append(Violation("shopper_id", f"must be at most {MAX_SHOPPER_ID_CHARS} printable characters"))
