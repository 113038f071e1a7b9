"""Encodes the products of a build on the machines of a Ray cluster.

A block of texts is the unit: blocks are sent out while earlier ones are encoded, and their vectors come back in order, so that the build
appends them and resumes as it does on one machine. Ray core is enough for that; Ray Data would add pandas to every installation.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ObjectLostError, OwnerDiedError, RayActorError, RayError, RayTaskError

from models.arrays import Floats
from models.text_encoder.embed_products import EncodeBlocks
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import EncoderError, Text
from serving.ray_address import ClusterError, check_answers

BLOCKS_AHEAD = 2  # for each worker: one that it encodes, and one that waits
START_S = 300.0  # for the first worker to begin: a cluster may have to grow first


@contextmanager
def encoding_on_ray(address: str, num_workers: int | None = None) -> Iterator[EncodeBlocks]:
    """Joins the cluster at `address` and yields what encodes on it: by `num_workers`, or by one worker a GPU, or a machine if there is no
    GPU. Raises ClusterError if no cluster answers there."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    check_answers(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise ClusterError(f"the Ray cluster at {address} cannot be joined: {_first_line(error)}") from None
    try:
        yield partial(_encode, num_workers=num_workers)
    finally:
        ray.shutdown()


def _encode(folder: Path, blocks: Iterator[list[Text]], num_workers: int | None) -> Iterator[Floats]:
    """Yields the vectors (texts, dim) of each block, in order. Raises EncoderError if a worker fails, or all are lost."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    machines = sum(node["Alive"] and node["Resources"].get("CPU", 0) >= 1 for node in ray.nodes())
    files = ray.put({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
    # One processor is reserved, and all of the machine are used: workers are spread before two share a machine.
    worker = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, scheduling_strategy="SPREAD")(_Worker)
    version = importlib.metadata.version("aisle")
    workers = [worker.remote(files, version) for _ in range(num_workers or gpus or max(1, machines))]
    crew = _Crew(workers)
    try:
        for block in blocks:
            crew.send(block)
            if crew.is_busy:
                yield crew.receive()
        while crew.sent:
            yield crew.receive()
    finally:
        for one in workers:
            with suppress(RayError):
                ray.kill(one)


@dataclass(slots=True)
class _Sent:
    """A block on its way."""

    block: list[Text]
    worker: Any
    vectors: Any  # reference to them


class _Crew:
    """The workers that have begun, and the blocks that they were sent, in order. A worker for which the cluster has no processor gets none.
    What a lost one had is sent to another: to start it anew would wait for a machine that may never come back."""

    def __init__(self, workers: list[Any]) -> None:
        self._starting = {worker.begin.remote(): worker for worker in workers}
        self._alive: list[Any] = []
        self.sent: deque[_Sent] = deque()
        self._welcome(START_S)
        if not self._alive:
            raise EncoderError(
                f"no worker has begun after {START_S:.0f} s: the cluster has no free processor (or GPU, where there are any)"
            )

    def _welcome(self, wait_s: float) -> None:
        """Takes the workers that have begun; waits for the first."""
        while self._starting:
            begun, _ = ray.wait(list(self._starting), timeout=wait_s)
            for ref in begun:
                worker = self._starting.pop(ref)
                try:
                    ray.get(ref)
                    self._alive.append(worker)
                except RayTaskError as error:
                    raise EncoderError(f"a worker failed: {_first_line(error.cause)}") from None
                except RayActorError as error:
                    if not self._starting and not self._alive:
                        raise _all_lost(error) from None
            if not begun:
                return
            wait_s = 0.0 if self._alive else wait_s

    @property
    def is_busy(self) -> bool:
        return len(self.sent) >= BLOCKS_AHEAD * len(self._alive)

    def send(self, block: list[Text]) -> None:
        self._welcome(0.0)
        self.sent.append(self._sent(block))

    def receive(self) -> Floats:
        """Waits for the vectors of the earliest block."""
        first = self.sent[0]
        while True:
            try:
                vectors: Floats = ray.get(first.vectors)
            except RayTaskError as error:
                raise EncoderError(f"a worker failed: {_first_line(error.cause)}") from None
            except (RayActorError, ObjectLostError, OwnerDiedError) as error:
                self._alive = [worker for worker in self._alive if worker is not first.worker]
                if not self._alive:
                    self._welcome(START_S)
                if not self._alive:
                    raise _all_lost(error) from None
                first = self._sent(first.block)
            else:
                self.sent.popleft()
                return vectors

    def _sent(self, block: list[Text]) -> _Sent:
        """Sends a block to the worker that has the fewest."""
        load = Counter(id(one.worker) for one in self.sent)
        worker = min(self._alive, key=lambda one: load[id(one)])
        return _Sent(block, worker, worker.encode.remote(block))


def _all_lost(error: BaseException) -> EncoderError:
    version = importlib.metadata.version("aisle")
    return EncoderError(
        f"all workers of the cluster are lost ({_last_line(error)}). Each machine needs aisle {version}. What is encoded is kept: the same "
        "command resumes"
    )


class _Worker:
    """Encodes blocks with an encoder that it got as files."""

    def __init__(self, files: dict[str, bytes], version: str) -> None:
        found = importlib.metadata.version("aisle")
        if found != version:
            raise EncoderError(f"a worker has aisle {found}, and the build is of {version}; install the same version")
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                (Path(folder) / name).write_bytes(data)
            self._encoder = TextEncoder(Path(folder))

    def begin(self) -> None:
        """Returns once the encoder is loaded."""

    def encode(self, texts: Sequence[Text]) -> Floats:
        return self._encoder.encode(texts)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _last_line(error: BaseException) -> str:
    """Returns the last line that says something: Ray writes the cause after the traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
