"""A remote stage through a step of its load, up and down: the replicas of Serve, the gateways' `RemoteStage`, planned Poisson arrivals.

The device of the first scenarios is simulated: it sleeps, so that two cores can hold eight of them. The encoder computes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from ray import serve

from loadtest.benchmarks.scaling_plot import scaling_plot
from loadtest.benchmarks.service import bundle_queries
from loadtest.benchmarks.setup import Setup
from loadtest.generator.plan import Stage, planned_times
from models.bundles.bundle import Bundle
from models.text_encoder.spec import Text
from serving import cluster
from serving.app import plan_stages
from serving.config import AisleConfig, LightStageConfig, LogConfig, StageConfig
from serving.errors import DeadlineExceeded, Overloaded
from serving.run_folder import run_folder
from serving.search.readers import TOKEN_BYTES
from serving.stages.remote import RemoteStage, num_running, stage_app, stage_app_name
from serving.stages.stage import StagePlan

VERSION = "bench"
DEVICE_S, DEVICE_BATCH = 0.04, 16  # simulated: 400 items a second
DEADLINE_S = 1.0
SAMPLE_S = 0.25
BASE = 0.85  # of what one replica can do
UP, DOWN, LEAST = "step up", "step down", "least"
SCALE_DOWN_AFTER_S = 10.0
TEXT_QUERIES = 10  # in one text
CALLERS = 64
GOOD_SECONDS = 3  # in a row, and the p99 is back


class SimulatedDevice:
    """Takes the same time for every batch, as an accelerator far from full does, and no processor."""

    max_batch_cost = DEVICE_BATCH
    backend = "simulated"

    def warm_up(self) -> None:
        """Is always warm."""

    def compute(self, items: Sequence[float]) -> Sequence[float]:
        time.sleep(DEVICE_S)
        return items


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Loads are in parts of the capacity of one replica. `goal` is the number of replicas that the step asks for."""

    name: str
    plan: StagePlan[Any, Any]
    items: Sequence[tuple[Any, int]]  # with their costs
    gateways: int
    capacity: float  # items a second of one replica
    step: float  # times the load before
    goal: int
    target_ms: float  # of the p99
    seconds: tuple[float, float, float, float]  # before, up, down again, and nearly idle

    def stages(self) -> tuple[Stage, ...]:
        base = BASE * self.capacity
        rates = (base, self.step * base, base, 0.3 * self.capacity)
        names = ("before", UP, DOWN, LEAST)
        return tuple(Stage(name, s, rate) for name, s, rate in zip(names, self.seconds, rates, strict=True))

    def start_of(self, name: str) -> float:
        stages = self.stages()
        place = [stage.name for stage in stages].index(name)
        return sum(stage.seconds for stage in stages[:place])


@dataclass(frozen=True, slots=True)
class Sample:
    """What was so at a time, in seconds from the start."""

    at: float
    asked: int  # replicas that run or start
    running: int
    known: int  # to the first gateway
    age_ms: float  # of the oldest item in any gateway's queue


@dataclass(frozen=True, slots=True)
class Second:
    """The calls that were planned in a second, and how they ended. `lost` ones failed in another way than by refusal or deadline."""

    second: int
    offered: int
    answered: int
    refused: int
    late: int
    lost: int
    p99_ms: float | None  # from the planned time


@dataclass(slots=True)
class Trace:
    samples: list[Sample] = field(default_factory=list)
    ends: list[tuple[float, str, float]] = field(default_factory=list)  # planned, how it ended, seconds it took

    def by_second(self) -> list[Second]:
        seconds: dict[int, list[tuple[str, float]]] = {}
        for planned, how, took in self.ends:
            seconds.setdefault(int(planned), []).append((how, took))
        return [_second(number, ends) for number, ends in sorted(seconds.items())]


def _second(number: int, ends: Sequence[tuple[str, float]]) -> Second:
    hows = [how for how, _ in ends]
    answered = [took for how, took in ends if how == "answered"]
    p99 = 1000 * float(np.quantile(answered, 0.99)) if answered else None
    return Second(number, len(ends), len(answered), hows.count("refused"), hows.count("late"), hows.count("lost"), p99)


def bench_scaling(setup: Setup) -> None:
    """How fast replicas come and go, and what it costs the calls."""
    with run_folder() as folder:
        cluster.start_ray(folder)
        try:
            for scenario in _scenarios(setup):
                setup.say(scenario.name)
                with _deployed(scenario.plan):
                    trace = asyncio.run(_driven(scenario))
                _report(setup, scenario, trace)
        finally:
            cluster.stop(is_own=True)


def _scenarios(setup: Setup) -> Iterator[Scenario]:
    seconds = (8.0, 20.0, 15.0, 12.0) if setup.quick else (10.0, 25.0, 25.0, 15.0)
    for name, gateways, step, goal in (("1 gateway", 1, 3.0, 4), ("2 gateways", 2, 3.0, 4), ("1 to 8", 1, 7.0, 8)):
        yield Scenario(
            name=f"simulated device, {name}",
            plan=StagePlan(
                name="simulated",
                config=LightStageConfig(
                    placement="remote",
                    num_cpus=0.1,
                    max_replicas=goal + 2,
                    target_queue_ms=1000 * DEVICE_S,
                    scale_down_after_s=SCALE_DOWN_AFTER_S,
                ),
                load=SimulatedDevice,
                max_batch_cost=DEVICE_BATCH,
            ),
            items=[(0.0, 1)],
            gateways=gateways,
            capacity=DEVICE_BATCH / DEVICE_S,
            step=step,
            goal=goal,
            target_ms=1000 * DEVICE_S * (3 + 2 * gateways),
            seconds=seconds,
        )

    yield _encoder_scenario(setup, seconds)


def _encoder_scenario(setup: Setup, seconds: tuple[float, float, float, float]) -> Scenario:
    """The bundle's text encoder on one thread each. Its texts have a few hundred letters: they cost the replicas more than their caller."""
    plan, alone = (
        plan_stages(Bundle(setup.bundle), AisleConfig(encoder=StageConfig(**_encoder(most))))[0] for most in (2, 1)
    )
    queries = bundle_queries(setup.bundle, 2000)
    texts = [Text(" ".join(queries[at : at + TEXT_QUERIES]), side="product") for at in range(0, 2000, TEXT_QUERIES)]
    items = [(text, 2 + len(text.text) // TOKEN_BYTES) for text in texts]
    setup.say("encoder, computed: what one replica can do")
    with _deployed(alone):
        capacity = asyncio.run(_saturated(alone, items))
    return Scenario(
        name="encoder, computed",
        plan=plan,
        items=items,
        gateways=1,
        capacity=capacity,
        step=1.5,
        goal=2,
        target_ms=500,
        seconds=seconds,
    )


def _encoder(most: int) -> dict[str, Any]:
    scaling = {"max_replicas": most, "target_queue_ms": 50, "scale_down_after_s": SCALE_DOWN_AFTER_S}
    return {"placement": "remote", "num_cpus": 0.1, "threads": 1, "device": "cpu", **scaling}


async def _saturated(plan: StagePlan[Any, Any], items: Sequence[tuple[Any, int]]) -> float:
    """Returns the items that one replica computes in a second while a queue stands."""
    gateway = await RemoteStage.start(plan, VERSION)
    rotating = itertools.cycle(items)

    async def ask(until: float) -> int:
        count = 0
        while time.monotonic() < until:
            item, cost = next(rotating)
            await gateway(item, cost=cost, deadline=math.inf, admitted=True)
            count += 1
        return count

    async def together(seconds: float) -> float:
        until = time.monotonic() + seconds
        return sum(await asyncio.gather(*(ask(until) for _ in range(CALLERS)))) / seconds

    await together(1.0)
    rate = await together(5.0)
    await gateway.close()
    return rate


@contextmanager
def _deployed(plan: StagePlan[Any, Any]) -> Iterator[None]:
    name = stage_app_name(plan, VERSION)
    serve.run(stage_app(plan, LogConfig(), ""), name=name, route_prefix=None)
    try:
        yield
    finally:
        serve.delete(name)


async def _driven(scenario: Scenario) -> Trace:
    """Sends the scenario's items to its gateways in turn."""
    gateways = [await RemoteStage.start(scenario.plan, VERSION) for _ in range(scenario.gateways)]
    trace, calls = Trace(), set()
    start = time.monotonic() + 1.0
    sampling = asyncio.ensure_future(_sampled(scenario, gateways, trace, start))
    for number, (planned, _) in enumerate(planned_times(scenario.stages(), 0)):
        if (wait_s := start + planned - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        item, cost = scenario.items[number % len(scenario.items)]
        call = asyncio.ensure_future(_call(gateways[number % len(gateways)], item, cost, start, planned, trace))
        calls.add(call)
        call.add_done_callback(calls.discard)
    await asyncio.gather(*calls)
    sampling.cancel()
    await asyncio.gather(*(gateway.close() for gateway in gateways))
    return trace


async def _call(
    gateway: RemoteStage[Any, Any], item: Any, cost: int, start: float, planned: float, trace: Trace
) -> None:
    how = "answered"
    try:
        await gateway(item, cost=cost, deadline=start + planned + DEADLINE_S)
    except Overloaded:
        how = "refused"
    except DeadlineExceeded:
        how = "late"
    except Exception:
        how = "lost"
    trace.ends.append((planned, how, time.monotonic() - start - planned))


async def _sampled(scenario: Scenario, gateways: Sequence[RemoteStage[Any, Any]], trace: Trace, start: float) -> None:
    handle = serve.get_app_handle(stage_app_name(scenario.plan, VERSION))
    while True:
        status = await asyncio.to_thread(serve.status)
        states = status.applications[handle.app_name].deployments[handle.deployment_name].replica_states
        running = num_running(status, handle)
        trace.samples.append(
            Sample(
                round(time.monotonic() - start, 2),
                running + states.get("STARTING", 0),
                running,
                gateways[0].replicas(),
                1000 * max(gateway.batcher.oldest_wait_s() for gateway in gateways),
            )
        )
        await asyncio.sleep(SAMPLE_S)


def _report(setup: Setup, scenario: Scenario, trace: Trace) -> None:
    seconds, up, down = trace.by_second(), scenario.start_of(UP), scenario.start_of(DOWN)
    starts = [scenario.start_of(stage.name) for stage in scenario.stages()]
    before = [sample for sample in trace.samples if 0 <= sample.at < up]
    while_up = [sample for sample in trace.samples if up <= sample.at < down]
    after = [sample for sample in trace.samples if sample.at >= down]
    is_full = next((sample.at for sample in while_up if sample.running >= scenario.goal), math.inf)
    is_good = good_from(seconds, math.floor(min(is_full, down)), down, scenario.target_ms)

    def add(name: str, unit: str, value: float, goal: str = "") -> None:
        setup.figures.add("scaling", f"{scenario.name}: {name}", unit, [value], goal=goal)

    add("replicas before the step", "replicas", before[-1].running)
    reacted = next((sample.at - up for sample in while_up if sample.asked > before[-1].asked), math.inf)
    add("step up until more replicas are asked for", "s", reacted)
    add(f"... until {scenario.goal} run", "s", is_full - up, "<= 10")
    back_s = max(0.0, is_good - is_full) if is_full < math.inf else math.inf
    add("... then until the p99 is within its target", "s", back_s, "<= 15")
    add("most replicas", "replicas", max(sample.asked for sample in while_up), f"{scenario.goal}")
    add("step down until fewer are asked for", "s", first_fall(after) - down)
    add("replicas at the end", "replicas", after[-1].running)
    for name, goal in (("lost", "0"), ("late", ""), ("refused", "")):
        add(f"calls {name}", f"of {len(trace.ends):,}", sum(getattr(second, name) for second in seconds), goal)
    add("turns of the number at constant load", "turns", turns(trace.samples, starts), "0")
    name = "scaling-" + scenario.name.replace(",", "").replace(" ", "-")
    marks = {stage.name: scenario.start_of(stage.name) for stage in scenario.stages()[1:]}
    rows = [asdict(second) for second in seconds]
    samples = [asdict(sample) for sample in trace.samples]
    svg = scaling_plot(samples, rows, scenario.target_ms, marks)
    (setup.folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    values = {"target_ms": scenario.target_ms, "marks": marks, "samples": samples, "seconds": rows}
    (setup.folder / f"{name}.json").write_text(json.dumps(values, indent=1), encoding="utf-8")


def good_from(seconds: Sequence[Second], start: float, end: float, target_ms: float) -> float:
    """Returns the first second between `start` and `end` with which GOOD_SECONDS begin: a p99 within the target, and every call answered.
    Infinity if there is none."""
    row = 0
    for second in seconds:
        if start <= second.second < end:
            is_good = second.p99_ms is not None and second.p99_ms <= target_ms and second.answered == second.offered
            row = row + 1 if is_good else 0
            if row == GOOD_SECONDS:
                return second.second - row + 1
    return math.inf


def first_fall(samples: Sequence[Sample]) -> float:
    """Returns when fewer replicas were asked for than in the sample before; infinity if never."""
    pairs = itertools.pairwise(samples)
    return next((later.at for earlier, later in pairs if later.asked < earlier.asked), math.inf)


def turns(samples: Sequence[Sample], starts: Sequence[float]) -> int:
    """Returns how often the number turned around within one load: fell after it had risen, or rose after it had fallen. `starts` are the
    times at which the loads begin."""
    count = 0
    for start, end in itertools.pairwise([*starts, math.inf]):
        asked = [sample.asked for sample in samples if start <= sample.at < end]
        signs = [later > earlier for earlier, later in itertools.pairwise(asked) if later != earlier]
        count += sum(one != other for one, other in itertools.pairwise(signs))
    return count
