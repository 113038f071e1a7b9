"""What the generator can do by itself: the same calls against a server that answers at once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from loadtest.benchmarks.service import module_server
from loadtest.generator.connection import Target
from loadtest.generator.plan import Plan, Stage
from loadtest.generator.workers import Workers

LOCAL, ANY_ADDRESS = "127.0.0.1", "0.0.0.0"  # noqa: S104 - for the time of the proof
SECONDS, CEILING_S = 4.0, 1.0
CEILING_CALLERS = 64
# Of the p99.9 of the slip. On two cores that others use as well, the slip of one worker is 0.2 ms at the median and 1.5 to 5 ms at p99.9,
# whatever the rate up to 3,000 calls/s: that is the scheduler's time slice and not the generator's work.
MAX_SLIP_MS = 5.0
MAX_CPU = 0.7  # of a core, of the busiest worker
LEAST_CEILING = 2.0  # times the rate of the verdict


@dataclass(frozen=True, slots=True)
class Proof:
    """Times in milliseconds. `ceiling` is in calls a second, `call_us` the processor time of a call, `cpu` a share of one core."""

    rate: float
    slip_p50: float
    slip_p999: float
    p50: float
    p99: float
    cpu: float
    ceiling: float
    call_us: float
    workers: int
    raised: bool

    @property
    def void(self) -> str:
        """Says why nothing that this generator measured is to be believed; empty if it is."""
        at = f"at {self.rate:.0f} calls/s against an empty server"
        if self.slip_p999 > MAX_SLIP_MS:
            return f"the generator sends late: slip p99.9 {self.slip_p999:.1f} ms {at}; the limit is {MAX_SLIP_MS:g}"
        if self.cpu > MAX_CPU:
            return (
                f"the generator has too little processor: its busiest worker uses {self.cpu:.0%} of a core {at}; "
                f"the limit is {MAX_CPU:.0%}, give it more --workers"
            )
        if self.ceiling < LEAST_CEILING * self.rate:
            return (
                f"the generator can send {self.ceiling:.0f} calls/s at most, less than {LEAST_CEILING:g} times the "
                f"{self.rate:.0f} that it measured; give it more --workers"
            )
        return ""


def prove(workers: Workers, target: Target, rate: float, seed: int, host: str = "") -> Proof:
    """Sends `rate` calls a second to an empty server on this machine, and as many as the workers can. `host` is this machine's address, if
    some of them are on others. Raises LoadError."""
    with module_server("loadtest.generator.empty_server", [ANY_ADDRESS if host else LOCAL]) as server:
        address = server.address.replace(LOCAL, host or LOCAL)
        empty = dataclasses.replace(target, address=address, ca=None, certificate=None, key=None)
        most = workers.run(empty, Plan((Stage("ceiling", CEILING_S, 0.0),), CEILING_CALLERS), seed)
        tally = workers.run(empty, Plan((Stage("lead", 0.5, rate), Stage("proof", SECONDS, rate))), seed)
    stage, answered = tally.stages[1], most.stages[0].by_code()["OK"]
    times = stage.latencies()
    return Proof(
        rate=rate,
        slip_p50=stage.slip.percentile(50),
        slip_p999=stage.slip.percentile(99.9),
        p50=times.percentile(50),
        p99=times.percentile(99),
        cpu=tally.busiest_cpu,
        ceiling=answered / CEILING_S,
        call_us=1e6 * most.cpu_s / max(1, answered),
        workers=len(workers.connections),
        raised=workers.raised,
    )
