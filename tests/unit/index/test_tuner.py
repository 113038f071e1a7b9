"""The tuner chooses exact search while that is fast enough, and otherwise lists that reach the target recall."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest

from models.index import tuner as index_tuner
from models.index.neighbours import Neighbours
from models.index.spec import IndexSpec, num_columns
from models.index.tuner import IndexTarget, TuneReport, num_lists_for, recall_of, tune, with_random_weights
from models.index.vector_index import VectorIndex

DIM = 32


def clustered(size: int, seed: int) -> npt.NDArray[np.float16]:
    centres = np.random.default_rng(99).standard_normal((100, DIM))
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(100, size=size)] + 0.7 * rng.standard_normal((size, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


QUERIES = clustered(60, seed=2).astype(np.float32)


@pytest.fixture(scope="module")
def report() -> TuneReport:
    return tune(clustered(40_000, seed=1), QUERIES, IndexTarget(recall=0.9, at=50, latency_ms=0.0))


def neighbours(*scores: float) -> Neighbours:
    row = np.array([scores], np.float32)
    return Neighbours(np.where(row > -np.inf, np.arange(row.shape[1]), -1), row)


def test_recall_counts_products_as_near_as_the_true_neighbours() -> None:
    truth = neighbours(0.9, 0.8, 0.7, 0.6)
    assert recall_of(truth, truth) == 1.0
    assert recall_of(neighbours(0.9, 0.8, 0.5, 0.4), truth) == 0.5
    assert recall_of(neighbours(0.9, 0.6, 0.6, 0.6), truth) == 1.0  # duplicates of the last true one
    assert recall_of(neighbours(0.9, -np.inf), neighbours(0.9, -np.inf)) == 1.0
    assert recall_of(neighbours(-np.inf, -np.inf), neighbours(0.9, 0.8)) == 0.0


def test_exact_search_is_chosen_while_it_is_fast_enough() -> None:
    report = tune(clustered(12_000, seed=1), QUERIES, IndexTarget(latency_ms=1e9))
    assert report.index.spec.kind == report.chosen.spec.kind == "exact"
    assert [point.spec.kind for point in report.tried] == ["exact"]
    assert report.chosen.recall == 1.0


def test_a_small_catalogue_is_exact_whatever_the_latency() -> None:
    assert tune(clustered(50, seed=1), QUERIES, IndexTarget(latency_ms=0.0)).index.spec.kind == "exact"


def test_lists_are_tried_when_exact_is_too_slow(report: TuneReport) -> None:
    points = [point for point in report.tried if point.spec.kind == "ivf"]
    assert points
    assert max(point.recall for point in points) >= 0.9
    assert report.chosen.recall >= 0.9
    assert report.index.spec == report.chosen.spec
    assert report.chosen == min((p for p in report.tried if p.recall >= 0.9), key=lambda point: point.p50_ms)


def test_a_wider_margin_raises_recall(report: TuneReport) -> None:
    recalls = [point.recall for point in report.tried if point.spec.kind == "ivf" and point.spec.k_factor == 4]
    assert recalls == sorted(recalls)
    assert recalls[0] < recalls[-1]


def test_the_chosen_recall_holds_for_other_queries(report: TuneReport) -> None:
    vectors = clustered(40_000, seed=1)
    others = clustered(60, seed=3).astype(np.float32)
    truth = VectorIndex.build(vectors, IndexSpec("exact")).search(others, 50)
    assert recall_of(report.index.search(others, 50), truth) >= 0.85


def test_a_recall_out_of_reach_falls_back_to_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_tuner, "MARGINS", (0.01,))
    report = tune(clustered(12_000, seed=1), QUERIES, IndexTarget(recall=1.0, latency_ms=0.0))
    assert report.index.spec.kind == "exact"
    assert len(report.tried) == 1 + len(index_tuner.K_FACTORS)


def test_the_report_is_json_and_holds_the_spec(report: TuneReport) -> None:
    values = json.loads(json.dumps(report.to_json()))
    assert IndexSpec.from_json(values["spec"]) == report.index.spec
    assert values["recall"] == report.chosen.recall
    assert values["bytes_per_product"] == report.index.bytes_per_product
    assert len(values["tried"]) == len(report.tried)


def test_lists_grow_with_the_root_of_the_catalogue() -> None:
    sizes = (10_000, 45_000, 200_000, 1_000_000, 10_000_000)
    assert [num_lists_for(size) for size in sizes] == [256, 512, 1024, 2048, 8192]


def test_recall_is_reached_with_features_weighed_and_without() -> None:
    rng = np.random.default_rng(4)
    width = num_columns(DIM, 4)
    vectors = np.zeros((40_000, width), np.float16)
    vectors[:, :DIM] = clustered(40_000, seed=1)
    vectors[:, DIM : DIM + 4] = rng.random((40_000, 4))
    report = tune(vectors, QUERIES, IndexTarget(recall=0.9, at=50, latency_ms=0.0), num_features=4)
    assert report.chosen.spec.num_static == width - DIM
    plain = np.pad(QUERIES, ((0, 0), (0, width - DIM)))
    exact = VectorIndex.build(vectors, IndexSpec("exact", num_static=width - DIM))
    recalls = [
        recall_of(report.index.search(queries, 50), exact.search(queries, 50))
        for queries in (plain, with_random_weights(plain, width - DIM, 4))
    ]
    assert min(recalls) == report.chosen.recall >= 0.9
