"""CPU, memory and open files of the processes of a service on this machine."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

EVERY_S = 1.0
_FAMILY = re.compile(
    r"serving\.cli|aisle|raylet|ray::|default_worker|serving\.edge"
)  # a service's processes, by command line
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
    seen: list[Usage] = field(default_factory=list)

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
def watched(root: int | None) -> Iterator[Watch]:
    """Looks at a process and all that it started, every second until the block ends; at nothing for None."""
    watch, over = Watch(time.perf_counter()), threading.Event()
    thread = threading.Thread(target=_look, args=(root, watch, over), daemon=True)
    if root is not None:
        thread.start()
    try:
        yield watch
    finally:
        over.set()
        if root is not None:
            thread.join()


def service_on(address: str) -> int | None:
    """Returns the first process of a service that listens on this machine; None if it is elsewhere or may not be seen."""
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost", "[::1]", "::1"):
        return None
    with contextlib.suppress(psutil.Error, OSError):
        listening = [
            one.pid
            for one in psutil.net_connections("tcp")
            if one.status == psutil.CONN_LISTEN and one.laddr.port == int(port) and one.pid
        ]
        if listening:
            process = psutil.Process(listening[0])
            while (parent := process.parent()) and _FAMILY.search(_command(parent)):
                process = parent
            return int(process.pid)
    return None


def _look(root: int, watch: Watch, over: threading.Event) -> None:
    known: dict[int, psutil.Process] = {}
    while not over.wait(EVERY_S):
        at = time.perf_counter() - watch.started
        for process in _family(root):
            is_new = process.pid not in known
            process = known.setdefault(process.pid, process)  # noqa: PLW2901 - it remembers its last look
            with contextlib.suppress(psutil.Error):
                cpu = process.cpu_percent() / 100
                files = process.num_fds()
                if not is_new:
                    watch.seen.append(Usage(at, process.pid, _name(process), cpu, process.memory_info().rss, files))


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
