"""What came of the calls of a plan, by stage and by second. Tallies of several workers merge into one."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from loadtest.generator.histogram import Histogram, merged

SECOND_DIGITS = 2  # of the histograms by second, of which there are many
SIDE_BY_SIDE = frozenset({"encode", "shopper", "types"})  # phases of a search that run at the same time


@dataclass(slots=True)
class PhaseSums:
    """Sums over the answers that hold a phase."""

    answers: int = 0
    queue_ms: float = 0.0
    compute_ms: float = 0.0
    batch: int = 0

    def add(self, other: PhaseSums) -> None:
        self.answers += other.answers
        self.queue_ms += other.queue_ms
        self.compute_ms += other.compute_ms
        self.batch += other.batch


@dataclass(slots=True)
class TimingSums:
    """Where the time of answered searches went, in sums of milliseconds over `answers`, so that the parts add up to the latency:
    latency = slip + outside + server, and server = phases - side_by_side + rest."""

    answers: int = 0
    slip_ms: float = 0.0  # from the planned time to the sending
    outside_ms: float = 0.0  # network, gRPC and edge
    server_ms: float = 0.0
    side_by_side_ms: float = 0.0  # of phases that ran beside a longer one
    rest_ms: float = 0.0  # of the server's time that no phase tells of
    phases: defaultdict[str, PhaseSums] = field(default_factory=lambda: defaultdict(PhaseSums))

    def add(self, other: TimingSums) -> None:
        self.answers += other.answers
        self.slip_ms += other.slip_ms
        self.outside_ms += other.outside_ms
        self.server_ms += other.server_ms
        self.side_by_side_ms += other.side_by_side_ms
        self.rest_ms += other.rest_ms
        for name, sums in other.phases.items():
            self.phases[name].add(sums)


@dataclass(slots=True)
class StageTally:
    """What came of the calls that were planned in one stage."""

    sent: int = 0
    codes: Counter[tuple[str, str]] = field(default_factory=Counter)  # (kind of call, code)
    errors: Counter[str] = field(default_factory=Counter)  # "kind: CODE: message"
    latency: defaultdict[str, Histogram] = field(
        default_factory=lambda: defaultdict(Histogram)
    )  # of answers, from the planned time, by kind of call
    service: Histogram = field(default_factory=Histogram)  # of answers, from the sending
    slip: Histogram = field(default_factory=Histogram)  # of all calls
    refusal: Histogram = field(default_factory=Histogram)  # of RESOURCE_EXHAUSTED, from the sending
    late: int = 0  # answers after the deadline, counted from the planned time
    timing: TimingSums = field(default_factory=TimingSums)
    quality: Counter[str] = field(default_factory=Counter)

    def latencies(self) -> Histogram:
        return merged(self.latency.values())

    def by_code(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for (_, code), count in self.codes.items():
            total[code] += count
        return total

    def add(self, other: StageTally) -> None:
        self.sent += other.sent
        self.codes.update(other.codes)
        self.errors.update(other.errors)
        for kind, histogram in other.latency.items():
            self.latency[kind].add(histogram)
        for ours, theirs in ((self.service, other.service), (self.slip, other.slip), (self.refusal, other.refusal)):
            ours.add(theirs)
        self.late += other.late
        self.timing.add(other.timing)
        self.quality.update(other.quality)


@dataclass(slots=True)
class SecondTally:
    """The calls that were planned in one second since the start."""

    sent: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=lambda: Histogram(SECOND_DIGITS))  # of answers, from the planned time

    def add(self, other: SecondTally) -> None:
        self.sent += other.sent
        self.codes.update(other.codes)
        self.latency.add(other.latency)


@dataclass(slots=True)
class Tally:
    """What came of a plan. `busiest_cpu` is the largest share of one core that one worker took."""

    stages: list[StageTally]
    seconds: defaultdict[int, SecondTally] = field(default_factory=lambda: defaultdict(SecondTally))
    wall_s: float = 0.0  # from the start until the last end
    cpu_s: float = 0.0  # of all workers
    busiest_cpu: float = 0.0
    unfinished: int = 0  # calls without an end long after their deadline

    def add(self, other: Tally) -> None:
        for ours, theirs in zip(self.stages, other.stages, strict=True):
            ours.add(theirs)
        for number, second in other.seconds.items():
            self.seconds[number].add(second)
        self.wall_s = max(self.wall_s, other.wall_s)
        self.cpu_s += other.cpu_s
        self.busiest_cpu = max(self.busiest_cpu, other.busiest_cpu)
        self.unfinished += other.unfinished


def all_tallies(tallies: list[Tally]) -> Tally:
    """Returns the tally of all workers together. There is at least one."""
    total = Tally([StageTally() for _ in tallies[0].stages])
    for tally in tallies:
        total.add(tally)
    return total
