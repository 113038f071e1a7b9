"""What an import did: every row that was read is an event, or counted for a reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from models.products.product import MAX_ID_CHARS

MAX_QUERY_CHARS = 512  # the contract's limit: a longer query is never served


class Fault(IntEnum):
    """Why a row became no event: the first of these that applies. Those from LEFT_OUT on are no faults."""

    NONE = 0
    UNREADABLE = 1
    UNKNOWN_KIND = 2
    NO_PRODUCT = 3
    LONG_ID = 4
    NO_TIME = 5
    UNCLEAR_TIME = 6
    EARLY_TIME = 7
    FUTURE_TIME = 8
    UNCLEAR_FLAG = 9
    LEFT_OUT = 100
    RETURNED = 101


FAULTS = {
    Fault.UNREADABLE: "cannot be read",
    Fault.UNKNOWN_KIND: "unknown kind",
    Fault.NO_PRODUCT: "no product",
    Fault.LONG_ID: f"id over {MAX_ID_CHARS} characters",
    Fault.NO_TIME: "no time",
    Fault.UNCLEAR_TIME: "time not understood; --time-format says how times are written",
    Fault.EARLY_TIME: "time before 2000; is the time unit right?",
    Fault.FUTURE_TIME: "time in the future",
    Fault.UNCLEAR_FLAG: "flag is neither true nor false",
}
# What an event lost, by bit.
LOSSES = {
    1: "price not understood: the event has none",
    2: "price in another currency: the event has none",
    4: "position not a whole number from the first: the event has none",
    8: f"query over {MAX_QUERY_CHARS} characters, which no search may have: the event has none",
}


@dataclass(slots=True, kw_only=True)
class Robot:
    """A shopper with an implausible share of the events."""

    shopper: str
    events: int
    kept: int


@dataclass(slots=True, kw_only=True)
class ImportReport:
    """Counts of one import. `rows` is what the files hold; an impression with flags, or a page, is several events."""

    rows: int = 0
    events: int = 0  # in the log
    bad: dict[str, int] = field(default_factory=dict)  # rows by reason
    lost: dict[str, int] = field(default_factory=dict)  # events that lost a value, by reason
    left_out: int = 0  # rows of kinds that are left out on purpose
    returned: int = 0  # purchases with a quantity of 0 or less
    unknown_kinds: dict[str, int] = field(default_factory=dict)  # the most frequent
    duplicates: int = 0
    repeated_files: dict[str, str] = field(default_factory=dict)  # not read: the same as another
    unread_files: list[str] = field(default_factory=list)  # that the mapping has no place for
    duplicate_files: list[str] = field(default_factory=list)  # all of whose events were there before
    out_of_order: int = 0  # events earlier than the one before; they are sorted
    unknown_products: int = 0  # events, kept out
    unknown_product_ids: list[str] = field(default_factory=list)  # the most frequent
    robots: list[Robot] = field(default_factory=list)
    capped: int = 0  # events of robots, kept out
    alone: int = 0  # events with neither shopper nor session
    derived_sessions: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    searched: int = 0  # events with a query
    shown_in_searches: int = 0  # impressions with a query
    shoppers: int = 0
    sessions: int = 0
    products: int = 0
    queries: int = 0
    locales: int = 0
    first_ms: int = 0
    last_ms: int = 0
    lacks: list[str] = field(default_factory=list)  # what the format says that training will miss

    @property
    def num_bad(self) -> int:
        return sum(self.bad.values())

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """Returns what was done, a sentence a line."""
        told = [f"{self.rows:,} rows, {self.events:,} events{self._range()}"]
        if self.events:
            told.append(
                ", ".join(f"{count:,} {kind}s" for kind, count in self.kinds.items() if count)
                + f"; {self.shoppers:,} shoppers, {self.sessions:,} sessions, {self.products:,} products, {self.queries:,} queries"
            )
        told += [f"bad {count:,} rows: {reason}" for reason, count in self.bad.items()]
        if self.unknown_kinds:
            names = ", ".join(f"{name!r} ({count:,})" for name, count in self.unknown_kinds.items())
            told.append(f"unknown kinds: {names}; name each with --kind NAME=KIND, or leave it out with --kind NAME=")
        told += [f"lost {count:,} values: {reason}" for reason, count in self.lost.items()]
        told += [f"{name} was not read: it is the same as {other}" for name, other in self.repeated_files.items()]
        told += [f"{name} was not read: the mapping has no source for it" for name in self.unread_files]
        if self.left_out:
            told.append(f"left out {self.left_out:,} rows of kinds that do not count, as the mapping says")
        if self.returned:
            told.append(f"left out {self.returned:,} rows with a quantity of 0 or less: returns")
        if self.duplicates:
            told.append(f"left out {self.duplicates:,} events that were there before")
        told += [f"all events of {name} were there before" for name in self.duplicate_files]
        if self.out_of_order:
            told.append(f"sorted {self.out_of_order:,} events that were earlier than the one before")
        told += self._products()
        for robot in self.robots:
            told.append(
                f"shopper {robot.shopper!r} has {robot.events:,} events, more than people make: its first {robot.kept:,} are kept; "
                "--max-shopper-events sets another limit"
            )
        if self.alone:
            told.append(
                f"{self.alone:,} events have neither shopper nor session: each is alone, they make no page and no history"
            )
        return told + self.gaps()

    def gaps(self) -> list[str]:
        """Returns what the models will not learn from this log, and why."""
        if not self.events:
            return []
        told = [f"for training: {lack}" for lack in self.lacks]
        if not self.searched:
            told.append(
                "no event has a query: training takes queries from titles, and does not learn shoppers' own words; log the query that "
                "led to an event"
            )
        elif not self.kinds.get("impression"):
            told.append(
                "no impressions: the ranker learns from clicks next to what a search would find, and there is no teacher"
            )
        elif not self.shown_in_searches:
            told.append("no impression has a query: the ranker learns from clicks alone, and there is no teacher")
        engaged = sum(count for kind, count in self.kinds.items() if kind != "impression")
        if not engaged:
            told.append("no clicks, carts or purchases: nothing can be trained")
        return told

    def _range(self) -> str:
        if not self.events:
            return ""
        first, last = (
            f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}" for ms in (self.first_ms, self.last_ms)
        )
        return f" from {first} to {last} UTC"

    def _products(self) -> list[str]:
        if not self.unknown_products:
            return []
        share = self.unknown_products / max(1, self.unknown_products + self.events)
        told = f"left out {self.unknown_products:,} events ({share:.1%}) of products that the catalogue lacks"
        if share > UNKNOWN_SHARE:
            names = ", ".join(map(repr, self.unknown_product_ids))
            told += f", as {names}: is it the right catalogue, and do both write ids in the same way?"
        return [told]


UNKNOWN_SHARE = 0.01  # of events, above which it is a question
