"""Kinds of events as small integers: a kind's code is its place in KINDS, so that a stronger interest has a higher code."""

from __future__ import annotations

from models.events.event import EventKind

KINDS = tuple(EventKind)
IMPRESSION, CLICK, CART, PURCHASE = range(len(KINDS))
