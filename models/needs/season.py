"""Whether what sells changes with time: a log whose newest events are told better by what was bought lately than by all that was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Codes, Ints
from models.events.kinds import CLICK
from models.unified.shopping_log import UNKNOWN, ShoppingLog
from models.unified.window_signals import recency

HALF_LIVES = (80.0, 40.0, 20.0, 10.0, 5.0)  # days
LEAST_EVENTS = 1_000  # clicks, carts and purchases, to say anything
# Nats an event. A shop that sells by season gave 0.12 to 0.21, a simulated one without seasons 0.002 at most.
LEAST_GAIN = 0.02
_TOLD = 0.1  # the newest share of the events, which the others have to tell
# Of the best gain: the longest half-life that has it is taken, since retrieval also learns from the events that it weighs down.
_ENOUGH = 0.9
_AVERAGE = 1.0  # engagements at the average rate that are added to those of each product


@dataclass(frozen=True, kw_only=True, slots=True)
class Season:
    """The longest half-life by which older events tell the newest ones about as well as can be."""

    half_life_days: float
    gain: float  # of the mean log likelihood of an event, over all events counting alike


def find_season(log: ShoppingLog, until_ms: int | None) -> Season | None:
    """Returns the half-life of the events before a time; None where all events alike tell as well, or there are too few."""
    engaged = (log.kind >= CLICK) & (log.product != UNKNOWN)
    events = np.flatnonzero(engaged if until_ms is None else engaged & (log.time_ms < until_ms))
    if len(events) < LEAST_EVENTS:
        return None
    first = events[int(len(events) * (1 - _TOLD))]
    cut_ms = int(log.time_ms[first])
    older, newer = events[log.time_ms[events] < cut_ms], log.product[events[log.time_ms[events] >= cut_ms]]
    if not len(older):
        return None
    alike = _likelihood(log, older, newer, cut_ms, 0.0)
    gains = {days: _likelihood(log, older, newer, cut_ms, days) - alike for days in HALF_LIVES}
    best = max(gains.values())
    if best < LEAST_GAIN:
        return None
    chosen = next(days for days, gain in gains.items() if gain >= _ENOUGH * best)
    return Season(half_life_days=chosen, gain=gains[chosen])


def _likelihood(log: ShoppingLog, older: Ints, newer: Codes, cut_ms: int, half_life_days: float) -> float:
    """Returns the mean log probability of the products `newer` (n,) by the counts of `older` (events,), smoothed by as many events as the
    weights are worth."""
    weights = recency(log.time_ms[older], cut_ms, half_life_days)
    counts = np.bincount(log.product[older], weights, log.num_products)
    smoothed = counts + _AVERAGE * counts.mean()
    return float(np.log(smoothed[newer] / smoothed.sum()).mean())
