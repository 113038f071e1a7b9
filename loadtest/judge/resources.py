"""CPU, memory and open files of the processes of a service on this machine."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from serving.run_folder import live_owners

EVERY_S = 1.0
_NAMES = (
    (re.compile(r"serving\.edge"), "edge"),
    (re.compile(r"ray::ServeReplica:[^:]*:(\w+)"), ""),
    (re.compile(r"ray::(\w+)"), ""),
    (re.compile(r"raylet/raylet|raylet --"), "raylet"),
    (re.compile(r"gcs_server"), "gcs_server"),
    (re.compile(r"serving\.cli.* serve|aisle serve"), "aisle serve"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Usage:
    """One process at one time, in seconds since the start of the watch; `cpu` is in cores since the last look."""

    at_s: float
    pid: int
    name: str
    cpu: float
    rss: int
    files: int


@dataclass(slots=True)
class Watch:
    """What was seen. `started` is a time of `time.perf_counter`."""

    started: float
    seen: list[Usage] = field(default_factory=list)  # of the service
    looks: int = 0
    generator: list[float] = field(default_factory=list)  # cores of each process of the load test, look by look
    others: float = 0.0  # cores of everything else, summed over the looks

    @property
    def other_cores(self) -> float:
        """The mean cores that neither the service nor the load test used."""
        return self.others / self.looks if self.looks else float("nan")

    @property
    def generator_cores(self) -> float:
        return sum(self.generator) / self.looks if self.looks else float("nan")

    def totals(self) -> list[tuple[float, int, int]]:
        """Returns the time, resident bytes and open files of all processes together, look by look."""
        sums: dict[float, tuple[int, int]] = {}
        for usage in self.seen:
            rss, files = sums.get(usage.at_s, (0, 0))
            sums[usage.at_s] = (rss + usage.rss, files + usage.files)
        return [(at, rss, files) for at, (rss, files) in sorted(sums.items())]

    def by_name(self, since: float = 0.0, until: float = float("inf")) -> dict[str, tuple[float, float]]:
        """Returns the mean cores and the largest resident bytes of the processes of each name, in a span of time."""
        looks = {usage.at_s for usage in self.seen if since <= usage.at_s <= until}
        cores: dict[str, float] = {}
        most: dict[str, dict[float, int]] = {}
        for usage in self.seen:
            if usage.at_s in looks:
                cores[usage.name] = cores.get(usage.name, 0.0) + usage.cpu / len(looks)
                at = most.setdefault(usage.name, {})
                at[usage.at_s] = at.get(usage.at_s, 0) + usage.rss
        return {name: (cores[name], float(max(most[name].values()))) for name in cores}


@contextmanager
def watched(address: str, root: int | None) -> Iterator[Watch]:
    """Looks every second, until the block ends, at the processes of the service at an address of this machine, at those of this load test,
    and at what else the machine does. `root` is the first process of the service, if this one has started it."""
    watch, over = Watch(time.perf_counter()), threading.Event()
    thread = threading.Thread(target=_look, args=(address, root, watch, over), daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def _look(address: str, root: int | None, watch: Watch, over: threading.Event) -> None:
    known: dict[int, psutil.Process] = {}
    psutil.cpu_percent()
    while not over.wait(EVERY_S):
        at, ours = time.perf_counter() - watch.started, 0.0
        service = _service(address, root)
        for process in [*service, *_family(os.getpid())]:
            is_new = process.pid not in known
            process = known.setdefault(process.pid, process)  # noqa: PLW2901 - it remembers its last look
            with contextlib.suppress(psutil.Error):
                cpu, files = process.cpu_percent() / 100, process.num_fds()
                if is_new:
                    continue
                ours += cpu
                if process in service:
                    watch.seen.append(Usage(at, process.pid, _name(process), cpu, process.memory_info().rss, files))
                else:
                    watch.generator.append(cpu)
        watch.looks += 1
        watch.others += max(0.0, psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1) - ours)


def _service(address: str, root: int | None) -> list[psutil.Process]:
    """Returns the processes of a service: all that its first process started, and who listens on its port, which outlives who started it.
    Nothing of a service on another machine."""
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost", "[::1]", "::1"):
        return []
    found: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr.port == int(port) and one.pid:
                found[one.pid] = psutil.Process(one.pid)
    roots = [root] if root else [owner.pid for owner in live_owners() if owner.port == int(port)]
    for first in roots:
        found |= {process.pid: process for process in _family(first)}
    return list(found.values())


def _family(root: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    return []


def _name(process: psutil.Process) -> str:
    command = _command(process)
    for pattern, name in _NAMES:
        if found := pattern.search(command):
            return name or found.group(1)
    return "others of Ray"


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
