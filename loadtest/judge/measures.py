"""Figures of a tally: windows of the search, rows of stages, recovery, quality, where the time went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtest.generator.plan import Stage
from loadtest.generator.tally import SecondTally, StageTally, Tally
from loadtest.judge.search_rate import Target, Window

WELL = 0.95  # of a second's calls are answered where a service is at its full capacity
WELL_SECONDS = 2  # in a row
REFUSED = "RESOURCE_EXHAUSTED"
SLIP = "waiting to be sent (generator)"
OUTSIDE = "network, gRPC, edge"
REST = "unexplained in the gateway"


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage. Latencies of answers in milliseconds, from the planned time; `goodput` are answers in time a second. `refused_ms` is the
    median time of a refusal."""

    name: str
    seconds: float
    offered: float  # calls a second, as planned
    sent: float
    goodput: float
    p50: float
    p95: float
    p99: float
    p999: float
    service_p99: float
    refused: float  # share
    failed: float  # share, refusals apart
    refused_ms: float
    slip_ms: float  # p99.9
    codes: dict[str, int]


def window(rate: float, seconds: float, stage: StageTally, busiest_cpu: float) -> Window:
    codes, latencies = stage.by_code(), stage.latencies()
    return Window(
        rate=rate,
        seconds=seconds,
        calls=stage.sent,
        p50_ms=latencies.percentile(50),
        p99_ms=latencies.percentile(99) if latencies.count else math.inf,
        service_p99_ms=stage.service.percentile(99) if latencies.count else math.inf,
        errors=1 - codes["OK"] / max(1, stage.sent),
        slip_ms=stage.slip.percentile(99.9),
        cpu=busiest_cpu,
    )


def stage_row(stage: Stage, tally: StageTally) -> StageRow:
    codes, latencies, sent = tally.by_code(), tally.latencies(), max(1, tally.sent)
    return StageRow(
        name=stage.name,
        seconds=stage.seconds,
        offered=stage.expected_calls / stage.seconds,
        sent=tally.sent / stage.seconds,
        goodput=(codes["OK"] - tally.late) / stage.seconds,
        p50=latencies.percentile(50),
        p95=latencies.percentile(95),
        p99=latencies.percentile(99),
        p999=latencies.percentile(99.9),
        service_p99=tally.service.percentile(99),
        refused=codes[REFUSED] / sent,
        failed=1 - (codes["OK"] + codes[REFUSED]) / sent,
        refused_ms=tally.refusal.percentile(50),
        slip_ms=tally.slip.percentile(99.9),
        codes=dict(codes),
    )


def kind_rows(tally: StageTally) -> dict[str, dict[str, float]]:
    """Returns calls, share of answers and percentiles by kind of call."""
    rows = {}
    for kind in sorted({kind for kind, _ in tally.codes}):
        calls = sum(count for (other, _), count in tally.codes.items() if other == kind)
        times = tally.latency[kind]
        rows[kind] = {
            "calls": float(calls),
            "answered": tally.codes[kind, "OK"] / calls,
            **{f"p{q}": times.percentile(q) for q in (50, 95, 99)},
        }
    return rows


def time_parts(tally: StageTally) -> dict[str, float]:
    """Returns the mean milliseconds of each part of the latency of the answered searches that were read. The parts add up to "latency"."""
    timing = tally.timing
    if not timing.answers:
        return {}
    parts = {SLIP: timing.slip_ms, OUTSIDE: timing.outside_ms}
    for name, sums in timing.phases.items():
        parts[f"{name}: queue"], parts[f"{name}: compute"] = sums.queue_ms, sums.compute_ms
    parts["side by side (saved)"] = -timing.side_by_side_ms
    parts[REST] = timing.rest_ms
    means = {name: value / timing.answers for name, value in parts.items()}
    return {**means, "latency": sum(means.values())}


def mean_batches(tally: StageTally) -> dict[str, float]:
    """Returns the mean batch that a call was computed in, by phase."""
    return {name: sums.batch / sums.answers for name, sums in tally.timing.phases.items() if sums.answers}


def quality_shares(tally: Tally) -> dict[str, float]:
    """Returns shares of the answers that were read; not a number for what was not asked."""
    total: dict[str, int] = {}
    for stage in tally.stages:
        for name, count in stage.quality.items():
            total[name] = total.get(name, 0) + count

    def share(name: str, of: str) -> float:
        return total.get(name, 0) / total[of] if total.get(of) else math.nan

    shares = {
        "ranked as asked": share("ranked as asked", "read"),
        "personalised as asked": share("personalised as asked", "known"),
        "the same ten products as when idle": share("as when idle", "compared"),
        "first ten products that are there when idle": share("hits as when idle", "hits"),
        "degraded": share("degraded", "read"),
    }
    return {**shares, **{name: share(name, "read") for name in sorted(total) if name.startswith("degraded: ")}}


def recovery_s(seconds: Mapping[int, SecondTally], since: float, until: float, target: Target) -> float:
    """Returns the seconds from `since` until the service answers as it should, and goes on so; infinity if it does not by `until`."""
    first, last = math.ceil(since), math.floor(until)
    good = 0
    for number in range(first, last):
        good = good + 1 if _is_well(seconds.get(number), target) else 0
        if good == min(WELL_SECONDS, max(1, last - first)):
            return max(0.0, number + 1 - good - since)
    return math.inf


def _is_well(second: SecondTally | None, target: Target) -> bool:
    if second is None or not second.sent:
        return True  # nobody asked
    return second.codes["OK"] >= WELL * second.sent and second.latency.percentile(99) <= target.p99_ms


def second_rows(tally: Tally) -> list[dict[str, Any]]:
    """Returns sent, codes and percentiles, second by second."""
    return [
        {
            "second": number,
            "sent": second.sent,
            "codes": dict(second.codes),
            "p50": second.latency.percentile(50),
            "p99": second.latency.percentile(99),
        }
        for number, second in sorted(tally.seconds.items())
    ]


def failed_by_second(tally: Tally, since: float, until: float) -> list[tuple[int, str, int]]:
    """Returns the calls that were neither answered nor refused: second, code, count."""
    return [
        (number, code, count)
        for number, second in sorted(tally.seconds.items())
        if math.floor(since) <= number < until
        for code, count in sorted(second.codes.items())
        if code not in ("OK", REFUSED)
    ]


def as_json(rows: Sequence[StageRow]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]
