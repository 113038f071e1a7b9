"""Updates of a service under load: what its callers see, and what it counted itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from rich.console import Console

from loadtest.benchmarks.service import Service
from loadtest.faults import update
from loadtest.open_loop import open_loop
from loadtest.report import LoadReport
from loadtest.traffic import QueryMix

QUIET_S = 2.0  # of load before the first update, and after the last


@dataclass(frozen=True, slots=True)
class Updated:
    """`served` is the service's own count of how calls ended, refused attempts of retried calls included."""

    updates: int
    report: LoadReport
    served: Counter[str]

    @property
    def lost(self) -> int:
        return failed(self.report.codes)

    def print(self, console: Console) -> None:
        self.report.print(console, f"{self.updates} updates in {self.report.seconds:.0f} s")
        console.print(f"the gateways counted: {counts(self.served)}")
        console.print(
            f"lost: {self.lost} of {self.report.calls:,}; refused: {self.report.codes['RESOURCE_EXHAUSTED']:,}"
        )


async def update_under_load(
    service: Service, queries: QueryMix, *, number: int, rate: float, deadline_s: float
) -> Updated:
    """Sends `rate` searches a second while `number` updates follow each other, then stops the service for its counts."""

    async def roll() -> None:
        await asyncio.sleep(QUIET_S)
        for _ in range(number):
            await asyncio.to_thread(update, service)
        await asyncio.sleep(QUIET_S)

    rolling = asyncio.ensure_future(roll())
    report = await open_loop(
        service.address, queries, rate=rate, seconds=0, deadline_s=deadline_s, retries=True, during=rolling
    )
    await rolling
    await asyncio.to_thread(service.stop)
    return Updated(number, report, served_codes(service))


def served_codes(service: Service) -> Counter[str]:
    """Returns how calls ended at the gateways that have stopped."""
    total: Counter[str] = Counter()
    for line in service.events("gateway stopped"):
        total.update(line["calls"])
    return total


def failed(codes: Counter[str]) -> int:
    """Counts the calls that were neither answered nor refused for overload."""
    return codes.total() - codes["OK"] - codes["RESOURCE_EXHAUSTED"]


def counts(codes: Counter[str]) -> str:
    return ", ".join(f"{code} {count:,}" for code, count in codes.most_common()) or "nothing"
