"""Maps the columns of a file to the fields of events."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from models.events.errors import EventLogError
from models.events.event import EventKind

FIELDS = ("id", "time", "shopper_id", "session_id", "locale", "kind", "product_id", "query", "position", "price")
FLAGS = {"clicked": EventKind.CLICK, "carted": EventKind.CART, "purchased": EventKind.PURCHASE}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventMapping:
    """The column that holds each field. None: the file does not have the field. A log has one of two shapes:

    - One event per row: `kind` is the column that holds its kind. `kinds` adds names to those of EventKind, as
      {"view": EventKind.IMPRESSION, "add_to_cart": EventKind.CART}; case does not matter.
    - One impression per row: `kind` is None, and `clicked`, `carted` and `purchased` are boolean columns, at least one of
      them. Each true flag is an event of its own at the time of the row. Its id is the row's followed by "-click", "-cart" or
      "-purchase".
    """

    time: str = "time"  # a timestamp (UTC if it has no zone), ISO 8601 text, or a number since 1970 in time_unit
    product_id: str = "product_id"
    id: str | None = "id"  # None: events are numbered by file and row, and repeated ones are not detected
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
    default_locale: str = ""  # of a row without a locale
    time_unit: Literal["s", "ms", "us"] = "ms"
    price_digits: int = 0  # a unit of the price has 10**price_digits minor units; 0: the price is in minor units

    @classmethod
    def by_name(cls, columns: Collection[str]) -> EventMapping:
        """Maps each column that is named like a field of EVENT_SCHEMA. `time`, `product_id`, `id` and `kind` are always mapped."""
        optional = ("shopper_id", "session_id", "locale", "query", "position", "price_minor")
        shopper_id, session_id, locale, query, position, price = (
            name if name in columns else None for name in optional
        )
        return cls(
            shopper_id=shopper_id, session_id=session_id, locale=locale, query=query, position=position, price=price
        )

    def field_columns(self) -> dict[str, str]:
        """Returns field -> column for the fields that have a column, flags among them."""
        columns = {name: getattr(self, name) for name in (*FIELDS, *FLAGS)}
        return {name: column for name, column in columns.items() if column is not None}

    def flag_columns(self) -> dict[EventKind, str]:
        """Returns kind -> column of its flag."""
        columns = {kind: getattr(self, name) for name, kind in FLAGS.items()}
        return {kind: column for kind, column in columns.items() if column is not None}

    def check(self, columns: Sequence[str], file: str) -> None:
        """Raises one EventLogError that names everything wrong with the mapping for a file of these columns."""
        violations = []
        if (self.kind is None) != bool(self.flag_columns()):
            violations.append("map either kind, or some of clicked, carted and purchased")
        if self.time_unit not in {"s", "ms", "us"}:
            violations.append(f"time_unit is s, ms or us, not {self.time_unit!r}")
        if not 0 <= self.price_digits <= 6:
            violations.append(f"price_digits is 0 to 6, not {self.price_digits}")
        violations += [
            _violation(column, name, columns)
            for name, column in self.field_columns().items()
            if columns.count(column) != 1
        ]
        if violations:
            raise EventLogError(f"{file}: {'; '.join(violations)}. Its columns are: {', '.join(columns)}")


def _violation(column: str, name: str, columns: Sequence[str]) -> str:
    if column in columns:
        return f"column {column!r} (mapped as {name}) is there more than once; rename one"
    near = difflib.get_close_matches(column, columns, n=1)
    return f"no column {column!r} (mapped as {name})" + (f", did you mean {near[0]!r}?" if near else "")
