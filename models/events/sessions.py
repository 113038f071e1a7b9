"""Sessions of events whose log names none."""

from __future__ import annotations

import numpy as np

from models.arrays import Codes, Ints

SESSION_GAP_MS = 30 * 60_000  # without an event, after which a shopper's next event begins another session


def derived_sessions(shopper: Codes, time_ms: Ints) -> Codes:
    """Returns (events,) the number of each event's session, from 0 in the order of their beginnings: that of the shopper's events before
    it, unless SESSION_GAP_MS passed since the last.

    An anonymous event (shopper -1) is alone: nobody knows whose it is, and one session of them all would be one shopper who likes
    everything.
    """
    order = np.lexsort((time_ms, shopper))
    owner, times = shopper[order], time_ms[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (np.diff(owner) != 0) | (np.diff(times) > SESSION_GAP_MS) | (owner[1:] < 0)
    run = np.empty(len(order), np.int64)
    run[order] = np.cumsum(begins) - 1
    first_of_run = order[np.flatnonzero(begins)]  # the event that begins each
    number = np.empty(len(first_of_run), np.int32)
    number[np.lexsort((first_of_run, time_ms[first_of_run]))] = np.arange(len(first_of_run), dtype=np.int32)
    return number[run]
