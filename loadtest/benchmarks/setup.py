"""What all benchmarks share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from aisle.v1 import info_pb2, info_pb2_grpc
from loadtest.benchmarks.figures import Figures

QUIET = '[log]\nrequests = "off"\n'
# A service that refuses nobody: h2load takes a refusal for an answer, and its callers wait for each other however slow the machine is.
PATIENT = QUIET + "".join(
    f"[{stage}]\nmax_wait_ms = 60000\n"
    for stage in ("encoder", "retriever", "shopper_encoder", "product_encoder", "types", "teacher")
)


@dataclass(frozen=True, slots=True)
class Setup:
    """What to measure on, how long, and where the figures go."""

    bundle: Path
    rounds: int
    seconds: float  # of one measurement
    vectors: Path | None
    personal: Path | None  # a bundle of the unified model
    quick: bool
    figures: Figures
    folder: Path  # of the figures, and of plots
    say: Callable[[str], None]  # the step in progress, on a line that is overwritten
    leave_out: Callable[[str], None]  # prints why something is not measured

    @property
    def bundles(self) -> dict[str, Path]:
        """Returns the bundles to serve, by the names of their figures."""
        return {"text": self.bundle, **({"personal": self.personal} if self.personal else {})}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: both sides of a round ran under the same conditions."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def differences(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round, as `ratios`."""
    return [a - b for a, b in zip(ours, theirs, strict=True)]


def mean_batch(before: info_pb2.GetStatsResponse, after: info_pb2.GetStatsResponse, stage: str) -> float:
    """Items of a batch of a stage, such as encoder, between two answers of a service."""
    first, last = (next(s for s in stats.stages if s.stage == stage) for stats in (before, after))
    return (last.items - first.items) / max(1, last.batches - first.batches)


def ended_calls(address: str, method: str) -> Counter[str]:
    """How many calls of a method, such as Search, ended since the start, by code."""
    return Counter({count.code: count.count for count in stats_of(address).calls if count.method == method})


def stats_of(address: str) -> info_pb2.GetStatsResponse:
    with grpc.insecure_channel(address) as channel:
        stub = info_pb2_grpc.InfoServiceStub(channel)
        answer: info_pb2.GetStatsResponse = stub.GetStats(info_pb2.GetStatsRequest(), timeout=60)
        return answer
