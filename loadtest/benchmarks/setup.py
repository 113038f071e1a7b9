"""What all benchmarks share."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from aisle.v1 import info_pb2, info_pb2_grpc
from loadtest.benchmarks.figures import Figures
from loadtest.benchmarks.service import free_port

QUIET = '[log]\nrequests = "off"\n'


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
    say: Callable[[str], None]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: both sides of a round ran under the same conditions."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def differences(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round, as `ratios`."""
    return [a - b for a, b in zip(ours, theirs, strict=True)]


def encoder_stats(address: str) -> info_pb2.StageStats:
    return stats_of(address).stages[0]


def search_calls(address: str) -> dict[str, int]:
    return {count.code: count.count for count in stats_of(address).calls if count.method == "Search"}


def stats_of(address: str) -> info_pb2.GetStatsResponse:
    with grpc.insecure_channel(address) as channel:
        stub = info_pb2_grpc.InfoServiceStub(channel)
        answer: info_pb2.GetStatsResponse = stub.GetStats(info_pb2.GetStatsRequest(), timeout=10)
        return answer


@contextmanager
def module_server(module: str, arguments: Sequence[str]) -> Iterator[str]:
    """A server process of this package; it gets its port as the last argument and is ready when its port is open."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-m", module, *arguments, str(port)], stdout=log, stderr=log)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=120)
            yield f"127.0.0.1:{port}"
        except grpc.FutureTimeoutError:
            log.seek(0)
            raise RuntimeError(f"{module} did not start:\n{log.read()[-2000:].decode(errors='replace')}") from None
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
