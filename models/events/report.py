"""The report on a shopping log that was read: how many rows were kept, why others were lost, and the first of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum

from models.products.product import MAX_ID_CHARS
from models.products.report import MAX_EXAMPLES


class BadEvent(StrEnum):
    """Why a row was lost. A row counts for the first of these that applies."""

    UNREADABLE = "cannot be read"
    NO_ID = "no id"
    LONG_ID = f"id over {MAX_ID_CHARS} characters"
    NO_PRODUCT = "no product id"
    NO_TIME = "no time"
    TIME_UNCLEAR = "time not understood"
    EARLY_TIME = "time before 2000 (is time_unit right?)"
    FUTURE_TIME = "time in the future"
    UNKNOWN_KIND = "unknown kind"
    FLAG_UNCLEAR = "flag is neither true nor false"
    PRICE_UNCLEAR = "price not understood"
    NEGATIVE_PRICE = "negative price"
    BAD_POSITION = "position is not a whole number from 1"
    UNKNOWN_PRODUCT = "product not in the catalogue"
    UNKNOWN_LOCALE = "unknown locale"
    DUPLICATE_ID = "duplicate id"


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """One row that was lost."""

    file: str
    row: int  # the line on which it starts (CSV, JSON lines), or the row from 1 (Parquet)
    reason: BadEvent
    value: str  # the offending value, "" if the problem is not one value


@dataclass(slots=True, kw_only=True)
class EventReport:
    """Counts of rows and events: `rows == kept + sum(bad)`. A kept row is one event, or up to four if the log has flags."""

    rows: int = 0
    kept: int = 0
    events: int = 0
    out_of_order: int = 0  # events that are earlier than the one before; they are kept
    bad: Counter[BadEvent] = field(default_factory=Counter)
    examples: list[BadRow] = field(default_factory=list)  # the first MAX_EXAMPLES bad rows

    def room(self) -> int:
        """Returns how many more examples are kept."""
        return MAX_EXAMPLES - len(self.examples)

    def add(self, row: BadRow) -> None:
        """Counts a bad row, and keeps it as an example while there is room."""
        self.bad[row.reason] += 1
        if self.room() > 0:
            self.examples.append(replace(row, value=row.value[:MAX_ID_CHARS]))

    def as_json(self) -> dict[str, object]:
        """Returns plain dicts, lists, strings and numbers."""
        return {
            "rows": self.rows,
            "kept": self.kept,
            "events": self.events,
            "out_of_order": self.out_of_order,
            "bad": {str(reason): count for reason, count in self.bad.most_common()},
            "examples": [
                {"file": row.file, "row": row.row, "reason": str(row.reason), "value": row.value}
                for row in self.examples
            ],
        }

    def __str__(self) -> str:
        lines = [f"{self.rows:,} rows read, {self.kept:,} kept, {self.events:,} events"]
        lines += [f"  bad {count:,}: {reason}{self._first(reason)}" for reason, count in self.bad.most_common()]
        if self.out_of_order:
            lines.append(f"  out of order {self.out_of_order:,} (kept)")
        return "\n".join(lines)

    def _first(self, reason: BadEvent) -> str:
        for bad in self.examples:
            if bad.reason == reason:
                return f", first at {bad.file}:{bad.row}" + (f" ({bad.value[:60]!r})" if bad.value else "")
        return ""
