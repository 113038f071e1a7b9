"""What a GPU would answer, computed by the same code on the processor: PyTorch's, and indexes of FAISS that GPUs have too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.arrays import Bools, Float16s, Floats
from models.errors import InputError
from models.index.gpu_search import RECALL, GpuSearch
from models.index.gpu_ways import IndexSearch, has_graphs, lists_of
from models.index.top_rows import BLOCK, top_rows
from models.index.tuner import recall_of
from tests.unit.index.test_vector_index import brute_force, clustered

torch = pytest.importorskip("torch")
SIZE, DIM, K = 20_000, 64, 50


@pytest.fixture(scope="module")
def vectors() -> Float16s:
    return np.pad(clustered(SIZE, seed=1), ((0, 0), (0, 16)))


@pytest.fixture(scope="module")
def queries() -> Floats:
    return np.pad(clustered(20, seed=2).astype(np.float32), ((0, 0), (0, 16)))


@pytest.fixture(scope="module")
def lists(vectors: Float16s) -> IndexSearch:
    return lists_of(vectors, DIM, 64)


def mask(share: float, seed: int = 0) -> Bools:
    return np.random.default_rng(seed).random(SIZE) < share


@pytest.mark.parametrize("size", [1, 63, 640, 40_000, 40_001, 40_063])
@pytest.mark.parametrize("n", [1, 7, 300])
def test_the_highest_of_blocks_are_the_highest_of_all(size: int, n: int) -> None:
    scores = torch.from_numpy(np.random.default_rng(size).standard_normal((3, size)).astype(np.float32))
    if size > BLOCK:
        scores[1, : size - 3] = -torch.inf  # the few that are left lie in the last, partial block
        scores[2] = scores[2].round()  # ties
    highest, columns = top_rows(scores, min(n, size))
    expected = scores.topk(min(n, size), dim=1).values
    assert torch.equal(highest, expected)
    assert torch.equal(scores.gather(1, columns), expected)
    assert all(len(set(row)) == len(row) for row in columns.tolist())


def test_an_approximate_way_is_served_if_it_is_faster_and_reaches_the_recall(
    vectors: Float16s, queries: Floats, lists: IndexSearch
) -> None:
    search = GpuSearch(vectors, "cpu", 16)
    assert search.way == "matrix product"
    search.choose([search._product, lists])
    assert search.way == lists.name  # by far on a processor, where the product reads all
    found, truth = search.nearest(queries, K, None), brute_force(vectors, queries, K)
    assert recall_of(found, truth) >= RECALL - 0.02
    np.testing.assert_allclose(found.scores[:, 0], truth.scores[:, 0], atol=1e-5)


def test_a_way_that_misses_the_recall_is_not_served(vectors: Float16s, queries: Floats, lists: IndexSearch) -> None:
    blind = IndexSearch("blind", lists._index, (1,), _some_rows)
    search = GpuSearch(vectors, "cpu", 16)
    search.choose([search._product, blind])
    assert search.way == "matrix product"
    assert recall_of(search.nearest(queries, K, None), brute_force(vectors, queries, K)) == 1.0


def _some_rows(_: Any, queries: Floats, n: int, __: int) -> Any:
    return np.tile(np.arange(n), (len(queries), 1))


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.001, 0.0])
def test_filters_hold_whatever_the_way(vectors: Float16s, queries: Floats, lists: IndexSearch, share: float) -> None:
    search = GpuSearch(vectors, "cpu", 16)
    search.choose([lists])
    allowed = mask(share)
    found, truth = search.nearest(queries, K, allowed), brute_force(vectors, queries, K, allowed)
    np.testing.assert_array_equal(found.ids >= 0, truth.ids >= 0)
    assert allowed[found.ids[found.ids >= 0]].all()
    assert recall_of(found, truth) >= RECALL - 0.02


def test_a_filter_that_leaves_the_neighbourhood_of_a_query_out_is_answered_from_further_away(
    vectors: Float16s, queries: Floats, lists: IndexSearch
) -> None:
    search = GpuSearch(vectors, "cpu", 16)
    search.choose([lists])
    allowed = np.ones(SIZE, bool)
    allowed[brute_force(vectors, queries[:1], 3000).ids[0]] = False
    found, truth = search.nearest(queries[:2], K, allowed), brute_force(vectors, queries[:2], K, allowed)
    assert recall_of(found, truth) >= RECALL
    assert allowed[found.ids].all()


def test_weighed_features_are_answered_exactly(vectors: Float16s, queries: Floats, lists: IndexSearch) -> None:
    featured, weighed = vectors.copy(), queries.copy()
    featured[:, DIM] = np.random.default_rng(5).random(SIZE)
    weighed[:, DIM] = 0.7
    search = GpuSearch(featured, "cpu", 16)
    search.choose([lists])
    assert recall_of(search.nearest(weighed, K, None), brute_force(featured, weighed, K)) == 1.0
    rows = np.arange(100)
    featured[rows, DIM] = 3
    search.change_features(rows, featured[rows])
    assert recall_of(search.nearest(weighed, K, mask(0.3)), brute_force(featured, weighed, K, mask(0.3))) == 1.0


def test_more_than_faiss_selects_is_found_by_the_matrix_product(
    vectors: Float16s, queries: Floats, lists: IndexSearch
) -> None:
    search = GpuSearch(vectors, "cpu", 16)
    search.choose([lists])
    assert recall_of(search.nearest(queries[:2], 3000, None), brute_force(vectors, queries[:2], 3000)) == 1.0


def test_a_way_that_is_not_to_be_had_is_refused(vectors: Float16s) -> None:
    for kind in ("lists", "graph"):
        with pytest.raises(InputError, match=f"'{kind}', which needs"):
            GpuSearch(vectors, "cpu", 16, 64, kind)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["auto", "exact", "lists", "graph"])
def test_every_way_of_a_gpu_finds_what_brute_force_finds(vectors: Float16s, queries: Floats, kind: Any) -> None:
    faiss = pytest.importorskip("faiss")
    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("this FAISS has no GPU")
    if kind == "graph" and not has_graphs():
        pytest.skip("this FAISS was built without cuVS")
    search = GpuSearch(vectors, "cuda", 16, 64, kind)
    for share in (None, 0.5, 0.1, 0.001, 0.0):
        allowed = None if share is None else mask(share)
        found, truth = search.nearest(queries, K, allowed), brute_force(vectors, queries, K, allowed)
        np.testing.assert_array_equal(found.ids >= 0, truth.ids >= 0)
        assert recall_of(found, truth) >= (1.0 if kind == "exact" else RECALL - 0.02), (search.way, share)
