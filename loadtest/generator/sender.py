"""One process's share of the load: it sends at planned times whether or not earlier calls were answered, so that queueing shows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from aisle.v1 import search_pb2
from loadtest.errors import LoadError
from loadtest.generator.calls import Call, Calls
from loadtest.generator.connection import CODES, Connection, Target
from loadtest.generator.plan import Plan, planned_times
from loadtest.generator.tally import SIDE_BY_SIDE, SecondTally, StageTally, Tally

READ_S = (
    200  # answers that are read, a second, beside those that are compared: reading one costs as much as half a call
)
GRACE_S = 2.0  # after its deadline, in which a call must end
MAX_ERROR = 200  # characters of an error's message
COMPARED = 10  # first hits


def send(target: Target, calls: Calls, plan: Plan, *, seed: int = 0, start_in_s: float = 0.0) -> Tally:
    """Sends a plan and returns what came of it when the last call has ended. Raises LoadError if nobody listens."""
    connection = Connection(target)
    try:
        if not connection.wait_until_connected():
            raise LoadError(f"nothing that speaks gRPC answers on {target.address}; with TLS give --ca")
        return _Sending(connection, target, calls, plan, seed).run(start_in_s)
    finally:
        connection.close()


class _Sending:
    """One run. The sending thread counts what is sent, the connection's thread what ended."""

    def __init__(self, connection: Connection, target: Target, calls: Calls, plan: Plan, seed: int) -> None:
        self._connection, self._plan, self._seed = connection, plan, seed
        self._deadline_s = target.deadline_s
        self._calls = calls
        self._stages = [StageTally() for _ in plan.stages]
        self._seconds: dict[int, SecondTally] = {}
        self._every = max(1, round(plan.max_rate / READ_S)) if not plan.concurrency else 8
        self._ended = self._searches = 0
        self._free = threading.Semaphore(plan.concurrency or 1)

    def run(self, start_in_s: float) -> Tally:
        calls = self._calls.endless(self._seed)
        time.sleep(start_in_s)
        cpu, start = time.process_time(), time.perf_counter()
        sent = self._send_closed(start, calls) if self._plan.concurrency else self._send_open(start, calls)
        give_up = time.perf_counter() + self._deadline_s + GRACE_S
        while self._ended < sent and time.perf_counter() < give_up:
            time.sleep(0.005)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        tally = Tally(self._stages, wall_s=wall, cpu_s=cpu, busiest_cpu=cpu / wall, unfinished=sent - self._ended)
        tally.seconds.update(self._seconds)
        return tally

    def _send_open(self, start: float, calls: Iterator[Call]) -> int:
        sent = 0
        for at, stage in planned_times(self._plan.stages, self._seed):
            planned = start + at
            wait = planned - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            self._start(next(calls), planned, at, stage)
            sent += 1
        return sent

    def _send_closed(self, start: float, calls: Iterator[Call]) -> int:
        sent = 0
        while (now := time.perf_counter()) < start + self._plan.seconds:
            if self._free.acquire(timeout=0.1):
                self._start(next(calls), now, now - start, 0)
                sent += 1
        return sent

    def _start(self, call: Call, planned: float, at: float, number: int) -> None:
        stage = self._stages[number]
        second = self._seconds.setdefault(int(at), SecondTally())
        sent = time.perf_counter()
        stage.sent += 1
        second.sent += 1
        stage.slip.record(sent - planned)
        self._connection.start(
            call.method,
            call.message,
            lambda code, details, answer: self._end(call, stage, second, planned, sent, code, details, answer),
        )

    def _end(
        self,
        call: Call,
        stage: StageTally,
        second: SecondTally,
        planned: float,
        sent: float,
        code: int,
        details: str,
        answer: bytes | None,
    ) -> None:
        now = time.perf_counter()
        name = CODES.get(code, "UNKNOWN")
        stage.codes[call.kind, name] += 1
        second.codes[name] += 1
        if code == 0:
            latency = now - planned
            stage.latency[call.kind].record(latency)
            second.latency.record(latency)
            stage.service.record(now - sent)
            stage.late += latency > self._deadline_s
            if call.kind == "search" and answer is not None:
                self._searches += 1
                if call.sample >= 0 or self._searches % self._every == 0:
                    self._read(call, stage, answer, 1000 * (sent - planned), 1000 * (now - sent))
        else:
            if name == "RESOURCE_EXHAUSTED":
                stage.refusal.record(now - sent)
            stage.errors[f"{call.kind}: {name}: {details[:MAX_ERROR]}"] += 1
        self._ended += 1
        self._free.release()

    def _read(self, call: Call, stage: StageTally, answer: bytes, slip_ms: float, service_ms: float) -> None:
        response = search_pb2.SearchResponse.FromString(answer)
        quality = stage.quality
        quality["read"] += 1
        quality["ranked as asked"] += response.ranked_by == self._calls.ranked_by
        if call.is_known:
            quality["known"] += 1
            quality["personalised as asked"] += (
                response.personalisation.source == search_pb2.PERSONALISATION_SOURCE_STORED
                and response.personalisation.strength > 0
            )
        quality["degraded"] += bool(response.degradations)
        for degradation in response.degradations:
            quality[f"degraded: {degradation.part}"] += 1
        if call.sample >= 0:
            ours, idle = [hit.product_id for hit in response.hits[:COMPARED]], self._calls.idle[call.sample]
            quality["compared"] += 1
            quality["as when idle"] += tuple(ours) == idle
            quality["hits"] += len(idle)
            quality["hits as when idle"] += len(set(ours) & set(idle))
        parallel: dict[str, float] = {}
        timing, sequential = stage.timing, 0.0
        for phase in response.timing.phases:
            sums = timing.phases[phase.name]
            sums.answers += 1
            sums.queue_ms += phase.queue_ms
            sums.compute_ms += phase.compute_ms
            sums.batch += phase.batch_size
            took = phase.queue_ms + phase.compute_ms
            if phase.name in SIDE_BY_SIDE:
                parallel[phase.name] = parallel.get(phase.name, 0.0) + took
            else:
                sequential += took
        longest = max(parallel.values(), default=0.0)
        timing.answers += 1
        timing.slip_ms += slip_ms
        timing.outside_ms += service_ms - response.timing.total_ms
        timing.server_ms += response.timing.total_ms
        timing.side_by_side_ms += sum(parallel.values()) - longest
        timing.rest_ms += response.timing.total_ms - longest - sequential
