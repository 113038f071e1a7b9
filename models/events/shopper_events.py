"""The events of one shopper, as a store gives them to an export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from models.events.event import Event


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShopperEvents:
    """`name` stands for the shopper in the log; `tag_of` returns the tag that pages of a day since 1970 have, empty for none."""

    name: str
    events: tuple[Event, ...]  # in order of time
    tag_of: Callable[[int], bytes]
