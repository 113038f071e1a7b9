"""The highest rate that keeps a target, by the up-and-down method (Dixon and Mood, 1948).

Each window of load either keeps the target or does not; the next one goes a step up or down. Big steps find the neighbourhood, small ones
walk around the rate at which a window keeps the target as often as not. That rate, with its interval, is estimated from all windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

STEPS = (1.5, 1.2, 1.08, 1.04)  # ratios of neighbouring rates; the next is taken when the walk turns
MAX_WINDOWS = 60
LEAST_RATE = 0.5  # calls a second
LEAST_CALLS = 200  # of a window: fewer say little of a p99
MAX_WINDOW_S = 10.0
VOID_TRIES = 3
# How evenly windows go from keeping to missing the target: scales of a logistic function of the log of the rate.
_SCALES = np.exp(np.linspace(math.log(0.005), math.log(0.3), 24))
_AROUND, _PLACES = 0.3, 1201  # the rates that are thought possible reach so far (log) beyond those that were tried


@dataclass(frozen=True, slots=True)
class Target:
    """What a rate must keep: the 99th percentile of latency, and the share of calls that fail or are refused."""

    p99_ms: float
    max_errors: float


@dataclass(frozen=True, slots=True)
class Window:
    """What was measured at one rate. `service_p99_ms` counts from the sending, `p99_ms` from the planned time."""

    rate: float
    seconds: float
    calls: int
    p50_ms: float
    p99_ms: float
    service_p99_ms: float
    errors: float
    slip_ms: float  # 99.9th percentile
    cpu: float  # of the busiest worker, as a share of a core

    def keeps(self, target: Target) -> bool:
        return self.calls > 0 and self.p99_ms <= target.p99_ms and self.errors <= target.max_errors

    def is_void(self, target: Target) -> bool:
        """Says whether it is the generator that missed the target: from the sending on, the calls kept it. A window that keeps the target
        with the generator's own delay in its latency keeps it all the more without."""
        return not self.keeps(target) and self.service_p99_ms <= target.p99_ms and self.errors <= target.max_errors


@dataclass(slots=True)
class Found:
    """The rate with its 95 % interval, in calls a second. `turns` are the rates at which the walk turned; `void` says why they mean
    nothing, and is empty if they do."""

    rate: float
    low: float
    high: float
    turns: list[float]
    windows: list[Window] = field(default_factory=list)
    void: str = ""


def search_rate(
    measure: Callable[[float, float], Window], start: float, target: Target, *, turns: int, window_s: float
) -> Found:
    """Walks until it has turned `turns` times with the smallest step. `measure` takes a rate and seconds.

    The rate is 0 if not even LEAST_RATE keeps the target.
    """
    rate, step = max(LEAST_RATE, start), 0
    windows: list[Window] = []
    turned: list[float] = []
    before: Window | None = None
    while len(turned) < turns and len(windows) < MAX_WINDOWS:
        window = _measured(measure, rate, target, window_s, windows)
        if window.is_void(target):
            void = (
                f"at {rate:.0f} calls/s the generator was late (slip p99.9 {window.slip_ms:.1f} ms), not the service; "
                "give it cores of its own or more --workers"
            )
            return Found(math.nan, math.nan, math.nan, turned, windows, void)
        keeps = window.keeps(target)
        if before is not None and before.keeps(target) != keeps:
            if step == len(STEPS) - 1:
                turned.append(math.sqrt(before.rate * rate))
            step = min(step + 1, len(STEPS) - 1)
        if not keeps and rate <= LEAST_RATE:
            return Found(0.0, 0.0, 0.0, turned, windows)
        before = window
        rate = max(LEAST_RATE, rate * STEPS[step] if keeps else rate / STEPS[step])
    if len(turned) < turns:
        return Found(
            math.nan,
            math.nan,
            math.nan,
            turned,
            windows,
            f"no end after {len(windows)} windows: the service changes as it is measured",
        )
    return Found(*estimate([one for one in windows if not one.is_void(target)], target), turned, windows)


def estimate(windows: Sequence[Window], target: Target) -> tuple[float, float, float]:
    """Returns the rate at which a window keeps the target as often as not, and its 95 % interval: the mean and the quantiles of its
    distribution given all windows, if the chance to keep the target is a logistic function of the log of the rate (flat priors)."""
    rates = np.log([window.rate for window in windows])
    kept = np.where([window.keeps(target) for window in windows], 1.0, -1.0)
    places = np.linspace(rates.min() - _AROUND, rates.max() + _AROUND, _PLACES)
    margins = kept * (places[:, None, None] - rates) / _SCALES[:, None]  # (places, scales, windows)
    likelihood = -np.logaddexp(0.0, -margins).sum(axis=2)
    chances = np.exp(likelihood - likelihood.max()).sum(axis=1)
    chances /= chances.sum()
    low, high = places[np.searchsorted(chances.cumsum(), (0.025, 0.975))]
    return math.exp(float(chances @ places)), math.exp(low), math.exp(high)


def _measured(
    measure: Callable[[float, float], Window], rate: float, target: Target, window_s: float, windows: list[Window]
) -> Window:
    """Measures a window, and again if the generator spoilt it."""
    seconds = max(window_s, min(MAX_WINDOW_S, LEAST_CALLS / rate))
    for _ in range(VOID_TRIES):
        windows.append(measure(rate, seconds))
        if not windows[-1].is_void(target):
            break
    return windows[-1]
