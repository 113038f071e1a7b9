"""Which column of a file is what of a shopping log."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from models.errors import InputError
from models.events.event import EventKind

FIELDS = ("id", "time", "shopper_id", "session_id", "locale", "kind", "product_id", "query", "position", "price")
NEEDED = ("time", "product_id")


class EventLogError(InputError):
    """The log cannot be read at all; the message says what to change."""


@dataclass(frozen=True, slots=True)
class EventMapping:
    """Column names by field; None: the file does not have it. Two shapes of logs are known:

    - A row an event: `kind` names the column that says which. `kinds` adds names to those of EventKind, as
      {"view": EventKind.IMPRESSION, "add_to_cart": EventKind.CART}; case does not matter.
    - A row an impression: `kind` is None, and `clicked`, `carted` and `purchased` name columns of truths (those that there
      are). Each true flag is an event of its own at the time of the row, with the row's id and "-click", "-cart" or
      "-purchase" behind it.
    """

    time: str = "time"  # a timestamp (UTC where it has no zone), ISO 8601 text, or a number since 1970 in time_unit
    product_id: str = "product_id"
    id: str | None = "id"  # None: events are numbered by file and row, and repeated ones are not found
    kind: str | None = "kind"
    shopper_id: str | None = None
    session_id: str | None = None
    locale: str | None = None
    query: str | None = None
    position: str | None = None
    price: str | None = None
    clicked: str | None = None
    carted: str | None = None
    purchased: str | None = None
    kinds: Mapping[str, EventKind] = field(default_factory=dict, hash=False)
    default_locale: str = ""  # where a row has none
    time_unit: Literal["s", "ms", "us"] = "ms"
    price_digits: int = 0  # 0: the price is in minor units; 2: in units of which each has 100

    @classmethod
    def by_name(cls, columns: Collection[str]) -> EventMapping:
        """Maps the columns that are named like the fields of EVENT_SCHEMA. What every log needs is mapped in any case."""
        optional = ("shopper_id", "session_id", "locale", "query", "position", "price_minor")
        shopper_id, session_id, locale, query, position, price = (
            name if name in columns else None for name in optional
        )
        return cls(
            shopper_id=shopper_id, session_id=session_id, locale=locale, query=query, position=position, price=price
        )

    def named(self) -> dict[str, str]:
        """Field -> column for the fields that have one, flags among them."""
        columns = {name: getattr(self, name) for name in (*FIELDS, "clicked", "carted", "purchased")}
        return {name: column for name, column in columns.items() if column is not None}

    def flags(self) -> dict[EventKind, str]:
        """Kind -> column of its flag."""
        columns = {EventKind.CLICK: self.clicked, EventKind.CART: self.carted, EventKind.PURCHASE: self.purchased}
        return {kind: column for kind, column in columns.items() if column is not None}

    def check(self, columns: Sequence[str], file: str) -> None:
        """Raises one EventLogError for all that is wrong with the mapping for a file of these columns."""
        wrong = []
        if (self.kind is None) != bool(self.flags()):
            wrong.append("map either kind, or some of clicked, carted and purchased")
        if self.time_unit not in {"s", "ms", "us"}:
            wrong.append(f"time_unit is s, ms or us, not {self.time_unit!r}")
        if not 0 <= self.price_digits <= 6:
            wrong.append(f"price_digits is 0 to 6, not {self.price_digits}")
        wrong += [
            _complaint(column, name, columns) for name, column in self.named().items() if columns.count(column) != 1
        ]
        if wrong:
            raise EventLogError(f"{file}: {'; '.join(wrong)}. Its columns are: {', '.join(columns)}")


def _complaint(column: str, name: str, columns: Sequence[str]) -> str:
    if column in columns:
        return f"column {column!r} (wanted as {name}) is there more than once; rename one"
    near = difflib.get_close_matches(column, columns, n=1)
    return f"no column {column!r} (wanted as {name})" + (f", did you mean {near[0]!r}?" if near else "")
