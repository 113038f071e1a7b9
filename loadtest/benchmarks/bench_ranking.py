"""The ranker: by itself, what it adds to a search, RankingService, and the teacher's cost per candidate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from aisle.v1 import ranking_pb2, search_pb2
from loadtest.benchmarks.floor import METHOD as SEARCH
from loadtest.benchmarks.service import bundle_queries, served
from loadtest.benchmarks.setup import PATIENT, Setup, differences, ratios
from loadtest.h2load import h2load
from models.bundles.bundle import Bundle
from models.devices import cuda_is_usable
from models.query_types.bundle_part import TYPES_PART
from models.ranking.bundle_part import RANKER_PART
from models.ranking.click_memory import CatalogueClicks
from models.ranking.feature_names import FEATURES
from models.ranking.features import CandidateFeatures, QueryInput
from models.ranking.ranker import Ranker
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.ranking.teacher.teacher import Teacher
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import LightTower
from models.unified.price_bands import PriceBands
from models.unified.words import Ragged

RANK = "/aisle.v1.RankingService/Rank"
CLIENTS = 32
QUERIES = 8  # of one round
CANDIDATES = 200
TEACHER_CANDIDATES = 32
# Dense bf16, without sparsity, as NVIDIA's data sheets of the two have it.
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0}


def bench_ranking(setup: Setup) -> None:
    """A search with the best 200 candidates ranked against one without, rounds in turn; and the models in this process."""
    if setup.personal is None or not RANKER_PART.is_in(Bundle(setup.personal)):
        setup.leave_out("no --personal bundle with a ranker")
        return
    bundle = Bundle(setup.personal)
    queries = bundle_queries(setup.personal, 2000)
    _bench_alone(setup, bundle, queries)
    _bench_service(setup, bundle, queries)
    if TEACHER_PART.is_in(bundle):
        _bench_teacher(setup, bundle, queries)


def _bench_alone(setup: Setup, bundle: Bundle, queries: Sequence[str]) -> None:
    features, ranker = _student(bundle)
    for stacked in (1, 8):
        spent = []
        for number in range(setup.rounds):
            setup.say(f"in process, {stacked} at once, round {number + 1}")
            round_queries = [queries[(stacked * number + n) % len(queries)] for n in range(stacked)]
            inputs = features.inputs(round_queries, ["en-US"] * stacked, [[]] * stacked)
            rows = [_rows(bundle, number * stacked + n, CANDIDATES) for n in range(stacked)]
            work = _student_work(features, ranker, inputs, rows)
            spent.append(1000 * _seconds(work, setup.seconds / 4) / stacked)
        name = f"student, {CANDIDATES} candidates, {stacked} searches at once, 1 thread"
        setup.figures.add("ranking", name, "ms a search", spent)


def _bench_service(setup: Setup, bundle: Bundle, queries: Sequence[str]) -> None:
    sides = {"none": search_pb2.RANK_MODEL_NONE, "student": search_pb2.RANK_MODEL_STUDENT}
    rates: dict[str, list[float]] = {name: [] for name in (*sides, "rank")}
    p50: dict[str, list[float]] = {name: [] for name in (*sides, "rank")}
    table = bundle.products()
    with served(bundle.folder, PATIENT) as service:
        for number in range(setup.rounds):
            setup.say(f"service, round {number + 1}")
            round_queries = [queries[(QUERIES * number + n) % len(queries)] for n in range(QUERIES)]
            calls = {
                name: [
                    search_pb2.SearchRequest(query=query, rank_model=model, rank_depth=CANDIDATES).SerializeToString()
                    for query in round_queries
                ]
                for name, model in sides.items()
            }
            calls["rank"] = [
                ranking_pb2.RankRequest(
                    query=query, product_ids=[table.id(int(row)) for row in _rows(bundle, at, CANDIDATES)]
                ).SerializeToString()
                for at, query in enumerate(round_queries)
            ]
            for name, messages in calls.items():
                method = RANK if name == "rank" else SEARCH
                many = h2load(service.address, method, messages, clients=CLIENTS, seconds=setup.seconds)
                rates[name].append(many.goodput)
                one = h2load(service.address, method, messages[:1], clients=1, seconds=setup.seconds / 2, warm_up_s=0.5)
                p50[name].append(one.percentile(50))
    add = setup.figures.add
    add("ranking", "p50 of Search without ranking, 1 client", "ms", p50["none"])
    added = differences(p50["student"], p50["none"])
    add("ranking", f"p50 of Search, student over {CANDIDATES} - none, 1 client", "ms", added, goal="< 3")
    add("ranking", f"throughput of Search without ranking, {CLIENTS} clients", "searches/s", rates["none"])
    kept = ratios(rates["student"], rates["none"])
    add("ranking", f"throughput of Search, student / none, {CLIENTS} clients", "ratio", kept, goal=">= 0.75")
    add("ranking", f"p50 of Rank, {CANDIDATES} ids, 1 client", "ms", p50["rank"])
    add("ranking", f"throughput of Rank, {CANDIDATES} ids, {CLIENTS} clients", "calls/s", rates["rank"])


def _bench_teacher(setup: Setup, bundle: Bundle, queries: Sequence[str]) -> None:
    features, _ = _student(bundle)
    table, bands = bundle.products(), PriceBands.load(UNIFIED_PART.open(bundle))
    for device in ("cpu", "cuda") if cuda_is_usable() else ("cpu",):
        teacher = Teacher.load(TEACHER_PART.open(bundle), device, features=FEATURES)
        spent, share = [], []
        for number in range(setup.rounds):
            setup.say(f"teacher on {device}, round {number + 1}")
            query = queries[number % len(queries)]
            rows = _rows(bundle, number, TEACHER_CANDIDATES if device == "cpu" else 16 * TEACHER_CANDIDATES)
            (query_input,) = features.inputs([query], ["en-US"], [[]])
            values, products = features.compute(query_input, rows), teacher.texts.products(table, bands, rows)
            seconds = _seconds(_teacher_work(teacher, query, products, values), setup.seconds / 2)
            spent.append(1000 * seconds / len(rows))
            tokens = products.lengths + teacher.texts.queries([query], ["en-US"]).lengths
            share.append(2 * _num_weights(bundle) * int(tokens.sum()) / seconds / 1e12)
        note = (
            f"{teacher.network.name}, {TEACHER_CANDIDATES if device == 'cpu' else 16 * TEACHER_CANDIDATES} candidates"
        )
        setup.figures.add("ranking", f"teacher on {device}, tokens at hand", "ms a candidate", spent, note=note)
        peak = _peak_tflops() if device == "cuda" else None
        if peak:
            of_peak = [one / peak for one in share]
            setup.figures.add("ranking", "teacher on cuda, of the device's bf16 peak", "ratio", of_peak)
        else:
            setup.figures.add("ranking", f"teacher on {device}, products of weights", "TFLOP/s", share)


def _student(bundle: Bundle) -> tuple[CandidateFeatures, Ranker]:
    types = TYPES_PART.find(bundle)
    ranker = RANKER_PART.open(bundle)
    return CandidateFeatures(
        bundle,
        LightTower(UNIFIED_PART.open(bundle)),
        types,
        query_attributes=ranker.query_attributes,
        clicks=CatalogueClicks(ranker.click_memory, bundle.products()),
    ), ranker


def _rows(bundle: Bundle, seed: int, count: int) -> npt.NDArray[np.int64]:
    """Distinct products at random; which they are does not change the work."""
    size = bundle.manifest.products
    return np.random.default_rng(seed).choice(size, min(count, size), replace=False)


def _student_work(
    features: CandidateFeatures, ranker: Ranker, inputs: Sequence[QueryInput], rows: Sequence[npt.NDArray[np.int64]]
) -> Callable[[], object]:
    return lambda: ranker.probabilities(features.compute_many(inputs, rows))


def _teacher_work(
    teacher: Teacher, query: str, products: Ragged, values: npt.NDArray[np.float32]
) -> Callable[[], object]:
    return lambda: teacher.rerank(query, "en-US", products, values)


def _seconds(work: Callable[[], object], seconds: float) -> float:
    """Returns the seconds of one run: the median of as many as fit into the time, at least three."""
    work()
    spent: list[float] = []
    until = time.perf_counter() + seconds
    while len(spent) < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    return median(spent)


def _num_weights(bundle: Bundle) -> int:
    """Counts the weights of the teacher's layers that multiply every token: all but the embedding tables."""
    count = 0
    for file in sorted(TEACHER_PART.open(bundle).glob("*.safetensors")):
        with safe_open(file, "numpy") as weights:
            for name in weights.keys():  # noqa: SIM118 - no mapping
                if "embeddings" not in name:
                    count += int(np.prod(weights.get_slice(name).get_shape()))
    return count


def _peak_tflops() -> float | None:
    import torch

    name = torch.cuda.get_device_name()
    return next((peak for device, peak in PEAK_TFLOPS.items() if device in name), None)
