"""`aisle load`: finds the highest rate that keeps the target, proves the generator, runs a profile, and judges."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console

from loadtest.benchmarks.figures import machine
from loadtest.benchmarks.service import Service as StartedService
from loadtest.benchmarks.service import bundle_queries, served
from loadtest.errors import LoadError
from loadtest.faults import FAULTS
from loadtest.generator.connection import Target as Server
from loadtest.generator.plan import Plan, Stage
from loadtest.generator.tally import StageTally, Tally
from loadtest.generator.workers import Workers, joined
from loadtest.judge.compare import Comparison, check_comparable, compare, read_report
from loadtest.judge.measures import REFUSED, window
from loadtest.judge.prepare import Prepared, Service, forget, prepare
from loadtest.judge.proof import Proof, prove
from loadtest.judge.resources import Watch, watched
from loadtest.judge.scenario import FaultSpec, Scenario, StageSpec, profile, read_scenario
from loadtest.judge.search_rate import Found, Target, Window, search_rate
from loadtest.traffic import read_queries, write_queries
from models.bundles.extend import link_folder

LEAD_S = 0.5  # of load before a window, which is not measured
PROBE_S, PROBE_CALLERS = 2.0, 16  # the closed loop that says where the search begins
START_SHARE = 0.6  # of what it reaches
NUM_QUERIES = 5000
MAX_OTHERS = 0.25  # of the cores, that others may use beside service and generator
PASSED, MISSED, WORSE, VOID = 0, 3, 4, 5  # exit codes; 1 is an error, 2 wrong usage


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadSettings:
    """What the command was asked for. One of `server` and `bundle` is served by somebody else and by this run."""

    server: Server
    bundle: Path | None
    config: Path | None
    queries: Path | None
    profile: str
    scenario: Path | None
    faults: tuple[str, ...]
    seconds: float | None
    target: Target
    rate: float | None  # instead of the search
    at_least: float | None
    before: Path | None
    margin: float
    window_s: float
    turns: int
    workers: int
    remote_workers: int
    listen: str
    locust_users: int
    seed: int
    out: Path
    command: str

    def plan(self) -> Scenario:
        """Returns the stages, the mix and the faults. Raises LoadError."""
        if self.scenario:
            if self.faults:
                raise LoadError("--fault and --scenario do not go together: name the faults in the file")
            return read_scenario(self.scenario)
        return profile(self.profile, self.seconds, self.faults)


@dataclass(slots=True)
class FaultSeen:
    """One fault: when it began and when the service said that it was over, in seconds since the start; `error` if it did not."""

    kind: str
    at_s: float
    over_s: float = math.nan
    error: str = ""


@dataclass(slots=True)
class Outcome:
    """Everything that a run measured."""

    settings: LoadSettings
    scenario: Scenario
    prepared: Prepared
    found: Found | None  # None with --rate
    proof: Proof
    stages: list[Stage]
    tally: Tally
    watch: Watch
    spans: list[tuple[float, float]]  # of the stages in the time of the watch
    faults: list[FaultSeen]
    comparison: Comparison | None
    load_average: tuple[float, float]  # of the machine, before and after
    void: str = ""

    @property
    def rate(self) -> float:
        return self.found.rate if self.found else self.settings.rate or math.nan

    @property
    def exit_code(self) -> int:
        if self.void:
            return VOID
        if self.settings.at_least and not self.reaches_goal:
            return MISSED
        if self.comparison and self.comparison.finding == "worse":
            return WORSE
        return PASSED

    @property
    def reaches_goal(self) -> bool:
        """Whether the rate is at least the one asked for: it is missed if the whole interval lies below."""
        return bool(self.found and self.found.high >= (self.settings.at_least or 0.0))

    def environment(self) -> dict[str, Any]:
        info = self.prepared.info
        return {
            "command": self.settings.command,
            "machine": machine(),
            "load_average": list(self.load_average),
            "other_cores": self.watch.other_cores,
            "generator_cores": self.watch.generator_cores,
            "bundle_version": self.prepared.bundle_version,
            "catalogue": info.catalogue.name if info else "",
            "products": info.catalogue.products if info else 0,
            "server_version": info.server_version if info else "",
            "encoder": info.encoder.backend if info else "",
            "left_out": self.prepared.left_out,
        }

    def compared_settings(self) -> dict[str, Any]:
        return comparable(self.settings, self.scenario)


def comparable(settings: LoadSettings, scenario: Scenario) -> dict[str, Any]:
    """Returns what must be equal for two rates to compare."""
    return {
        "p99_ms": settings.target.p99_ms,
        "max_errors": settings.target.max_errors,
        "deadline_ms": 1000 * settings.server.deadline_s,
        "mix": scenario.mix.model_dump(),
        "traffic": scenario.traffic.model_dump(),
        "retries": settings.server.retries,
    }


def measure_load(settings: LoadSettings, console: Console) -> Outcome:
    """Runs everything but the report. Raises LoadError."""
    scenario = settings.plan()
    if scenario.faults and settings.bundle is None:
        raise LoadError("faults are for a service that this command starts: give --bundle")
    before = read_report(settings.before) if settings.before else None
    if before:
        check_comparable(before, comparable(settings, scenario), machine())
    queries = _queries(settings)
    average = os.getloadavg()[0]
    with ExitStack() as running, console.status("starts") as status:
        started = running.enter_context(_started(settings, scenario)) if settings.bundle else None
        server = dataclasses.replace(settings.server, address=started.address) if started else settings.server
        tell = _teller(console)
        workers = running.enter_context(joined(settings.workers, settings.remote_workers, settings.listen, tell))
        service = running.enter_context(Service(server))
        status.update("prepares calls")
        strict = settings.scenario is not None
        prepared = prepare(
            service, queries, scenario.mix, scenario.traffic, settings.seed, strict=strict, writes=started is not None
        )
        running.callback(forget, service, prepared.calls.shoppers)
        workers.load(prepared.calls)
        meter = _Meter(workers, server, started, settings.seed)
        found, rate = None, settings.rate or math.nan
        with watched(server.address, started.process.pid if started else None) as watch:
            if settings.rate is None:
                found = meter.search(settings, status.update)
                rate = found.rate
            if not (math.isfinite(rate) and rate > 0):  # there is nothing to take parts of
                rate = min((one.rate for one in found.windows), default=1.0) if found else 1.0
                scenario = scenario.model_copy(update={"stages": scenario.stages[:1], "faults": ()})
            stages = [_stage(spec, rate) for spec in scenario.stages]
            tally, spans, faults = meter.play(stages, scenario, watch, status.update)
        status.update("proves the generator")
        proof = prove(workers, server, rate, settings.seed, settings.listen.rpartition(":")[0])
        check_alive(service, queries[0], bool(scenario.faults))
        outcome = Outcome(
            settings, scenario, prepared, found, proof, stages, tally, watch, spans, faults, None,
            (average, os.getloadavg()[0]),
        )  # fmt: skip
        outcome.void = (found.void if found else "") or proof.void or _disturbed(watch)
        if found and before and not outcome.void:
            outcome.comparison = compare(before, found, settings.margin)
        if settings.locust_users:
            status.update("runs Locust's users")
            try:
                run_locust(settings, server, queries)
            except LoadError as error:  # what was measured stays
                prepared.left_out.append(str(error))
        return outcome


def _stage(spec: StageSpec, rate: float) -> Stage:
    return Stage(spec.name, spec.seconds, spec.rate * rate, None if spec.to is None else spec.to * rate)


def _disturbed(watch: Watch) -> str:
    """Says that others used the cores of the service; empty if they did not, or it has other cores than these."""
    cores = os.cpu_count() or 1
    if not watch.seen or not watch.other_cores > MAX_OTHERS * cores:
        return ""
    return f"other processes used {watch.other_cores:.1f} of the {cores} cores; the limit is {MAX_OTHERS:.0%}"


def check_alive(service: Service, query: str, had_faults: bool) -> None:
    """Raises LoadError if the service does not answer after the load."""
    from aisle.v1 import search_pb2, search_pb2_grpc

    stub = search_pb2_grpc.SearchServiceStub(service.channel)
    what = (
        "after its faults the service does not answer" if had_faults else "after the load the service does not answer"
    )
    service.call(stub.Search, search_pb2.SearchRequest(query=query), what)


def run_locust(settings: LoadSettings, server: Server, queries: Sequence[str]) -> Path:
    """Runs Locust's users headless, in a process of its own since gevent patches all of it, and returns its report. Raises LoadError."""
    report = settings.out / "locust.html"
    settings.out.mkdir(parents=True, exist_ok=True)
    seconds = round(settings.seconds or 30)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "queries.txt"
        write_queries(file, queries)
        given = {"AISLE_QUERIES": str(file), "AISLE_API_KEY": server.api_key}
        for name, content in (("ca", server.ca), ("cert", server.certificate), ("cert_key", server.key)):
            if content:
                path = Path(folder) / name
                path.touch(0o600)
                path.write_bytes(content)
                given[f"AISLE_{name.upper()}"] = str(path)
        command = [
            sys.executable,
            "-m",
            "locust",
            "--locustfile",
            str(Path(__file__).parents[1] / "locustfile.py"),
            "--headless",
        ]
        command += [
            "--host",
            server.address,
            "--users",
            str(settings.locust_users),
            "--spawn-rate",
            str(settings.locust_users),
        ]
        command += ["--run-time", f"{seconds}s", "--html", str(report), "--only-summary", "--exit-code-on-error", "0"]  # fmt: skip
        done = subprocess.run(
            command, env={**os.environ, **given}, capture_output=True, text=True, check=False, timeout=seconds + 240
        )
    if done.returncode or not report.exists():
        raise LoadError(f"Locust failed: {done.stderr[-2000:]}")
    return report


@contextmanager
def _started(settings: LoadSettings, scenario: Scenario) -> Iterator[StartedService]:
    """Serves the bundle. If calls change the catalogue, that of a copy."""
    assert settings.bundle is not None  # noqa: S101 - the caller has looked
    text = settings.config.read_text(encoding="utf-8") if settings.config else '[log]\nrequests = "off"\n'
    with tempfile.TemporaryDirectory(prefix="aisle-load-") as folder:
        bundle = settings.bundle
        if scenario.mix.upserts:
            bundle = Path(folder) / settings.bundle.resolve().name
            link_folder(settings.bundle, bundle)
        server = settings.server
        credentials = grpc.ssl_channel_credentials(server.ca, server.key, server.certificate) if server.ca else None
        with served(bundle, text, credentials) as service:
            yield service


def _queries(settings: LoadSettings) -> list[str]:
    if settings.queries:
        queries = read_queries(settings.queries)
        if not queries:
            raise LoadError(f"--queries {settings.queries} holds no query: give one a line, the most popular first")
        return queries
    if settings.bundle is None:
        raise LoadError(
            "give --queries, a file with one query a line, the most popular first; only with --bundle are they made of its titles"
        )
    return bundle_queries(settings.bundle, NUM_QUERIES, settings.seed)


def _teller(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(text, highlight=False, soft_wrap=True, markup=False)


@dataclass(slots=True)
class _Meter:
    """Sends plans and turns what came of them into windows and tallies."""

    workers: Workers
    server: Server
    started: StartedService | None
    seed: int
    runs: int = field(default=0)

    def search(self, settings: LoadSettings, say: Callable[[str], None]) -> Found:
        say("looks for the rate: a closed loop")
        probe = self._run(Plan((Stage("probe", PROBE_S, 0.0),), PROBE_CALLERS))
        reached = self._answered(probe.stages[0], "a closed loop") / PROBE_S

        def measure(rate: float, seconds: float) -> Window:
            say(f"looks for the rate: {rate:.0f} calls/s, window {self.runs}")
            tally = self._run(Plan((Stage("lead", LEAD_S, rate), Stage("window", seconds, rate))))
            self._answered(tally.stages[1], f"{rate:.0f} calls/s")
            return window(rate, seconds, tally.stages[1], tally.busiest_cpu)

        return search_rate(
            measure, START_SHARE * reached, settings.target, turns=settings.turns, window_s=settings.window_s
        )

    def play(
        self, stages: Sequence[Stage], scenario: Scenario, watch: Watch, say: Callable[[str], None]
    ) -> tuple[Tally, list[tuple[float, float]], list[FaultSeen]]:
        """Sends the stages of a scenario. Returns the tally, when the stages were in the time of the watch, and the faults."""
        if scenario.apart:
            tally, spans = self._levels(stages, watch, say)
            return tally, spans, []
        say(f"plays {', '.join(stage.name for stage in stages)}: {scenario.seconds:.0f} s")
        begin = time.perf_counter() - watch.started
        seen: list[FaultSeen] = []
        drill = threading.Thread(target=self._inject, args=(scenario.faults, seen), daemon=True)
        if scenario.faults:
            drill.start()
        tally = self._run(Plan(tuple(stages)))
        if scenario.faults:
            drill.join(1.0)
        ends, spans = begin, []
        for stage in stages:
            spans.append((ends, ends + stage.seconds))
            ends += stage.seconds
        return tally, spans, seen

    def _levels(
        self, stages: Sequence[Stage], watch: Watch, say: Callable[[str], None]
    ) -> tuple[Tally, list[tuple[float, float]]]:
        total = Tally([])
        spans, offset = [], 0
        for stage in stages:
            say(f"sweeps: {stage.name}, {stage.rate:.0f} calls/s")
            begin = time.perf_counter() - watch.started
            tally = self._run(Plan((Stage("lead", LEAD_S, stage.rate), stage)))
            spans.append((begin, time.perf_counter() - watch.started))
            total.stages.append(tally.stages[1])
            for number, second in tally.seconds.items():
                total.seconds[offset + number] = second
            offset += max(tally.seconds, default=0) + 1
            total.busiest_cpu = max(total.busiest_cpu, tally.busiest_cpu)
            total.unfinished += tally.unfinished
        return total, spans

    def _inject(self, faults: Sequence[FaultSpec], seen: list[FaultSeen]) -> None:
        start = time.perf_counter()
        for fault in sorted(faults, key=lambda one: one.at_s):
            time.sleep(max(0.0, fault.at_s - (time.perf_counter() - start)))
            one = FaultSeen(fault.kind, time.perf_counter() - start)
            seen.append(one)
            try:
                assert self.started is not None  # noqa: S101 - the caller has looked
                FAULTS[fault.kind](self.started)
                one.over_s = time.perf_counter() - start
            except (LoadError, OSError, ValueError) as error:
                one.error = str(error).splitlines()[0]

    def _run(self, plan: Plan) -> Tally:
        self.runs += 1
        return self.workers.run(self.server, plan, self.seed * 100_003 + self.runs)

    def _answered(self, stage: StageTally, what: str) -> int:
        """Returns how many calls were answered. Raises LoadError if none was, and not because there was too much to do."""
        codes = stage.by_code()
        if self.started and self.started.process.poll() is not None:
            raise LoadError(f"the service has died at {what}: exit code {self.started.process.returncode}")
        if not codes["OK"] and stage.sent and codes[REFUSED] + codes["DEADLINE_EXCEEDED"] < stage.sent:
            raise LoadError(
                f"at {what} no call was answered: {'; '.join(f'{n} x {error}' for error, n in stage.errors.most_common(2))}"
            )
        return codes["OK"]
