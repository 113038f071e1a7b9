"""Load from `h2load` (Debian: nghttp2-client), which costs a fraction of what a Python client does.

It sends one prepared message over and over, so several run side by side with different messages. gRPC errors arrive as HTTP 200
trailers that it does not read: check the service's own count of calls by code.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from loadtest.errors import LoadError
from loadtest.report import LoadReport


def frame(message: bytes) -> bytes:
    """An uncompressed gRPC message with its five-byte prefix."""
    return b"\0" + struct.pack(">I", len(message)) + message


def h2load(
    address: str,
    method: str,
    messages: Sequence[bytes],
    *,
    clients: int,
    seconds: float,
    warm_up_s: float = 1.0,
    rate: float = 0.0,
    deadline_ms: int = 0,
    check_first: bool = True,
) -> LoadReport:
    """Calls `method` ("/package.Service/Method") from `clients` connections, each waiting for its answer (a closed loop).

    Clients are spread over up to eight of the messages. Latencies and rate leave out the warm-up. With a `rate` (calls a second of
    all clients) a client sends at its times, with up to 32 calls open. `deadline_ms` goes to the server as `grpc-timeout`; h2load itself
    waits longer. `check_first` is for a server that answers: one call is made before, as h2load would count refusals as answers.
    Raises LoadError.
    """
    if check_first:
        _check_answer(address, method, messages[0])
    options = [
        f"--max-concurrent-streams={32 if rate else 1}",
        "--header=content-type: application/grpc",
        "--header=te: trailers",
        *([f"--rps={rate / clients:g}"] if rate else []),
        *([f"--header=grpc-timeout: {deadline_ms}m"] if deadline_ms else []),
    ]
    bodies = [frame(message) for message in messages]
    return _generate(f"http://{address}{method}", bodies, options, clients, seconds, warm_up_s)


def http_load(url: str, bodies: Sequence[bytes], *, clients: int, seconds: float, warm_up_s: float = 1.0) -> LoadReport:
    """Posts `bodies` to `url` over HTTP/1.1, as `h2load` calls a gRPC method. Raises LoadError."""
    return _generate(url, bodies, ["--h1"], clients, seconds, warm_up_s)


def _generate(
    url: str, bodies: Sequence[bytes], options: Sequence[str], clients: int, seconds: float, warm_up_s: float
) -> LoadReport:
    if not shutil.which("h2load"):
        raise LoadError("h2load is not installed: apt-get install nghttp2-client")
    chosen = bodies[: min(8, clients, len(bodies))]
    shares = [clients // len(chosen) + (n < clients % len(chosen)) for n in range(len(chosen))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        running = []
        for n, (body, share) in enumerate(zip(chosen, shares, strict=True)):
            (folder / f"{n}.bin").write_bytes(body)
            command = [
                "h2load",
                f"--clients={share}",
                "--threads=1",
                f"--duration={seconds * 1000:.0f}ms",
                f"--warm-up-time={warm_up_s * 1000:.0f}ms",
                f"--log-file={folder / f'{n}.log'}",
                f"--data={folder / f'{n}.bin'}",
                *options,
                url,
            ]
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        for process in running:
            printed, _ = process.communicate(timeout=seconds + warm_up_s + 240)
            if process.returncode:
                raise LoadError(f"h2load failed: {printed[-500:]}")
        return _read_logs([folder / f"{n}.log" for n in range(len(running))], seconds)


def raw_call(channel: grpc.Channel, method: str, message: bytes) -> bytes:
    """One call with a serialised message."""
    call: Any = channel.unary_unary(method)
    answer: bytes = call(message, timeout=60)
    return answer


def _check_answer(address: str, method: str, message: bytes) -> None:
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            answer = raw_call(channel, method, message)
        except grpc.RpcError as error:
            raise LoadError(f"{address} answers {method} with {error.code().name}: {error.details()}") from None
    if not answer:
        raise LoadError(f"{address} answers {method} with an empty message")


def _read_logs(paths: Sequence[Path], seconds: float) -> LoadReport:
    """Lines are: start in microseconds, HTTP status, duration in microseconds. h2load logs the main phase only."""
    report = LoadReport(seconds, codes=Counter())
    for path in paths:
        rows = (
            np.loadtxt(path, dtype=np.int64, ndmin=2)
            if path.exists() and path.stat().st_size
            else np.empty((0, 3), np.int64)
        )
        answered = rows[rows[:, 1] == 200]
        report.latencies_ms.extend((answered[:, 2] / 1000).tolist())
        report.codes["OK"] += len(answered)
        report.codes["failed"] += len(rows) - len(answered)
    return report
