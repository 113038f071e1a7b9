"""The index returns what brute force returns, under any filter."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from models.arrays import Float16s, Floats
from models.devices import cpu_computes_bf16
from models.index.gpu_search import GpuSearch
from models.index.neighbours import Neighbours
from models.index.product_vectors import ProductVectors
from models.index.spec import IndexSpec, num_columns
from models.index.tuner import recall_of
from models.index.vector_index import GATHERED_SHARE, LISTS_FILE, VectorIndex

SIZE, DIM, K = 30_000, 64, 100
NUM_CLUSTERS = 200


def unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def clustered(size: int, seed: int) -> Float16s:
    """Unit vectors around common centres, as products lie around product types."""
    rng = np.random.default_rng(seed)
    origins = clustered_centres()[rng.integers(NUM_CLUSTERS, size=size)]
    return unit(origins + rng.standard_normal((size, DIM)) / np.sqrt(DIM)).astype(np.float16)


def clustered_centres() -> Floats:
    return unit(np.random.default_rng(99).standard_normal((NUM_CLUSTERS, DIM))).astype(np.float32)


def brute_force(vectors: Float16s, queries: Floats, k: int, allowed: npt.NDArray[np.bool_] | None = None) -> Neighbours:
    scores = queries @ vectors.astype(np.float32).T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    scores = np.take_along_axis(scores, ids, axis=1)
    return Neighbours(np.where(scores == -np.inf, -1, ids), scores)


@pytest.fixture(scope="module")
def vectors() -> Float16s:
    return clustered(SIZE, seed=1)


@pytest.fixture(scope="module")
def queries() -> Floats:
    return np.ascontiguousarray(clustered(40, seed=2), np.float32)


@pytest.fixture(scope="module")
def exact(vectors: Float16s) -> VectorIndex:
    return VectorIndex.build(vectors, IndexSpec("exact"))


@pytest.fixture(scope="module")
def listed(vectors: Float16s) -> VectorIndex:
    return VectorIndex.build(vectors, IndexSpec("ivf", num_lists=512, margin=0.4))


def random_mask(share: float) -> npt.NDArray[np.bool_]:
    return np.random.default_rng(5).random(SIZE) < share


def brand_mask(vectors: Float16s, share: float) -> npt.NDArray[np.bool_]:
    """One corner of the space: the products most like one of them, whatever the query."""
    likeness = vectors.astype(np.float32) @ vectors[7].astype(np.float32)
    return likeness >= np.sort(likeness)[-max(1, round(share * SIZE))]


def test_exact_returns_what_brute_force_returns(vectors: Float16s, queries: Floats, exact: VectorIndex) -> None:
    found, truth = exact.search(queries, K), brute_force(vectors, queries, K)
    np.testing.assert_allclose(found.scores, truth.scores, atol=1e-5)
    assert recall_of(found, truth) == 1.0


def test_lists_reach_the_recall(vectors: Float16s, queries: Floats, listed: VectorIndex) -> None:
    assert recall_of(listed.search(queries, K), brute_force(vectors, queries, K)) >= 0.98


def test_a_narrow_margin_lowers_recall(vectors: Float16s, queries: Floats, listed: VectorIndex) -> None:
    truth = brute_force(vectors, queries, K)
    narrow = listed.with_spec(dataclasses.replace(listed.spec, margin=0.02))
    assert recall_of(narrow.search(queries, K), truth) < recall_of(listed.search(queries, K), truth) - 0.05


@pytest.mark.parametrize("kind", ["exact", "listed"])
def test_scores_are_the_inner_products_of_the_ids_best_first(
    kind: str, vectors: Float16s, queries: Floats, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(kind).search(queries, K)
    products = np.einsum("bkd,bd->bk", vectors[found.ids].astype(np.float32), queries)
    np.testing.assert_allclose(found.scores, products, atol=1e-5)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert all(len(set(row)) == K for row in found.ids.tolist())


@pytest.mark.parametrize("kind", ["exact", "listed"])
@pytest.mark.parametrize("shape", ["random", "brand"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01, 0.001, 0.0001])
def test_a_filter_returns_what_brute_force_over_the_allowed_returns(
    kind: str, shape: str, share: float, vectors: Float16s, queries: Floats, request: pytest.FixtureRequest
) -> None:
    allowed = random_mask(share) if shape == "random" else brand_mask(vectors, share)
    found = request.getfixturevalue(kind).search(queries, K, allowed)
    truth = brute_force(vectors, queries, K, allowed)
    assert allowed[found.ids[found.ids >= 0]].all()
    assert ((found.ids >= 0).sum(axis=1) == min(K, allowed.sum())).all()
    assert recall_of(found, truth) >= (1.0 if kind == "exact" else 0.98)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_the_compressed_lists_themselves_honour_a_filter(
    share: float, vectors: Float16s, queries: Floats, listed: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "models.index.vector_index.GATHERED_SHARE", 0.0
    )  # else a few allowed products are scored without the lists
    for allowed in (random_mask(share), brand_mask(vectors, share)):
        found = listed.search(queries, K, allowed)
        assert allowed[found.ids[found.ids >= 0]].all()
        assert recall_of(found, brute_force(vectors, queries, K, allowed)) >= 0.98


def test_the_horizon_recedes_to_product_types_far_from_the_query(vectors: Float16s, listed: VectorIndex) -> None:
    centres = clustered_centres()
    query = centres[:1]
    far = np.argsort(centres @ query[0])[:20]  # the tenth of all types that is least like the query
    allowed = np.isin(np.argmax(vectors.astype(np.float32) @ centres.T, axis=1), far)
    assert allowed.mean() > GATHERED_SHARE
    found, truth = listed.search(query, K, allowed), brute_force(vectors, query, K, allowed)
    assert truth.scores.max() < 0.2
    assert allowed[found.ids].all()
    assert recall_of(found, truth) >= 0.95


@pytest.mark.parametrize("kind", ["exact", "listed"])
def test_a_filter_that_passes_nothing_returns_nothing(
    kind: str, queries: Floats, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(kind).search(queries, K, np.zeros(SIZE, bool))
    assert (found.ids == -1).all()
    assert (found.scores == -np.inf).all()


def test_more_neighbours_than_vectors_are_padded() -> None:
    few = clustered(400, seed=3)
    for spec in (IndexSpec("exact"), IndexSpec("ivf", num_lists=8)):
        found = VectorIndex.build(few, spec).search(few[:3].astype(np.float32), 500)
        assert found.ids.shape == found.scores.shape == (3, 500)
        assert [sorted(row) for row in found.ids[:, :400].tolist()] == [list(range(400))] * 3
        assert (found.ids[:, 400:] == -1).all()


@pytest.mark.parametrize("kind", ["exact", "listed"])
def test_a_batch_returns_what_its_queries_return_alone(
    kind: str, queries: Floats, request: pytest.FixtureRequest
) -> None:
    index = request.getfixturevalue(kind)
    together = index.search(queries, K, num_threads=2)
    for row, query in enumerate(queries):
        alone = index.search(query[None], K)
        np.testing.assert_array_equal(together.ids[row], alone.ids[0])
        np.testing.assert_array_equal(
            together.scores[row], alone.scores[0]
        )  # to the bit: pages of one search may come either way
    assert index.search(queries[:0], K).ids.shape == (0, K)


def test_concurrent_threads_get_their_own_results(queries: Floats, listed: VectorIndex) -> None:
    masks = [random_mask(0.5), ~random_mask(0.5)]
    alone = [listed.search(queries, K, mask).ids for mask in masks]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda number: listed.search(queries, K, masks[number % 2]).ids, range(8)))
    for number, ids in enumerate(at_once):
        np.testing.assert_array_equal(ids, alone[number % 2])


@pytest.mark.parametrize("kind", ["exact", "listed"])
def test_a_saved_index_over_mapped_vectors_returns_the_same(
    kind: str, vectors: Float16s, queries: Floats, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    index = request.getfixturevalue(kind)
    np.save(tmp_path / "vectors.npy", vectors)
    index.save(tmp_path)
    loaded = VectorIndex.load(tmp_path, ProductVectors.open(tmp_path / "vectors.npy", DIM), "cpu")
    assert loaded.spec == index.spec
    assert loaded.bytes_per_product == index.bytes_per_product
    for allowed in (None, random_mask(0.3)):
        before, after = index.search(queries, K, allowed), loaded.search(queries, K, allowed)
        np.testing.assert_array_equal(before.ids, after.ids)
        np.testing.assert_array_equal(before.scores, after.scores)


def test_the_same_vectors_build_the_same_file(vectors: Float16s, tmp_path: Path) -> None:
    files = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        VectorIndex.build(vectors[:5000], IndexSpec("ivf", num_lists=64)).save(tmp_path / name)
        files.append((tmp_path / name / LISTS_FILE).read_bytes())
    assert files[0] == files[1]


def test_vectors_may_be_float32_and_mapped(
    vectors: Float16s, queries: Floats, exact: VectorIndex, tmp_path: Path
) -> None:
    np.save(tmp_path / "float32.npy", vectors.astype(np.float32))
    mapped = VectorIndex.build(np.load(tmp_path / "float32.npy", mmap_mode="r"), IndexSpec("exact"))
    np.testing.assert_array_equal(mapped.search(queries, K).ids, exact.search(queries, K).ids)


def test_an_index_of_other_vectors_is_refused(vectors: Float16s, listed: VectorIndex, tmp_path: Path) -> None:
    listed.save(tmp_path)
    with pytest.raises(ValueError, match=r"\(30000, 64\).*\(29999, 64\)"):
        VectorIndex.load(tmp_path, ProductVectors(vectors[:-1]), "cpu")


def test_arguments_that_do_not_fit_are_refused(queries: Floats, exact: VectorIndex) -> None:
    with pytest.raises(ValueError, match=r"\(40, 32\).*64"):
        exact.search(queries[:, :32], K)
    with pytest.raises(ValueError, match=r"\(10,\).*30000"):
        exact.search(queries, K, np.ones(10, bool))
    with pytest.raises(ValueError, match="finite"):
        exact.search(np.full((1, DIM), np.nan, np.float32), K)
    with pytest.raises(ValueError, match="k is 0"):
        exact.search(queries, 0)
    with pytest.raises(ValueError, match="501 lists cannot be made of 500"):
        VectorIndex.build(clustered(500, seed=4), IndexSpec("ivf", num_lists=501))


def test_bytes_per_product_include_the_mapped_vectors(exact: VectorIndex, listed: VectorIndex) -> None:
    assert exact.bytes_per_product == (4 * DIM if cpu_computes_bf16() else 2 * DIM)  # a batch needs a copy in bf16
    codes_and_ids = DIM // 4 + 8
    assert 2 * DIM + codes_and_ids < listed.bytes_per_product < 2 * DIM + 2 * codes_and_ids + 4 * 512 * DIM / SIZE


def test_a_batch_returns_what_its_queries_return_alone_even_if_bf16_cannot_tell_products_apart() -> None:
    rng = np.random.default_rng(5)
    centres = unit(rng.standard_normal((20, DIM)))
    crowded = unit(centres[rng.integers(20, size=4000)] + 1e-3 * rng.standard_normal((4000, DIM))).astype(np.float16)
    index = VectorIndex.build(crowded, IndexSpec("exact"))
    batch = (7 * unit(centres[:6] + 1e-3 * rng.standard_normal((6, DIM)))).astype(np.float32)
    few, many = np.arange(4000) % 50 == 0, np.arange(4000) % 2 == 0
    for allowed in (None, many, few, np.zeros(4000, bool)):
        together = index.search(batch, 50, allowed, num_threads=2)
        for row, query in enumerate(batch):
            alone = index.search(query[None], 50, allowed)
            np.testing.assert_array_equal(together.ids[row] >= 0, alone.ids[0] >= 0)
            np.testing.assert_allclose(together.scores[row], alone.scores[0], rtol=1e-6)


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)],
)
def test_the_matrix_product_returns_what_brute_force_returns(device: str, vectors: Float16s, queries: Floats) -> None:
    pytest.importorskip("torch")
    matrix = GpuSearch(vectors, device)
    for allowed in (None, random_mask(0.1), random_mask(0.001), np.zeros(SIZE, bool)):
        found, truth = matrix.nearest(queries, K, allowed), brute_force(vectors, queries, K, allowed)
        assert recall_of(found, truth) == 1.0
        np.testing.assert_array_equal(found.ids >= 0, truth.ids >= 0)
        np.testing.assert_allclose(found.scores, truth.scores, atol=1e-5)


@pytest.mark.gpu
def test_an_index_loaded_on_a_gpu_searches_exactly(
    vectors: Float16s, queries: Floats, listed: VectorIndex, tmp_path: Path
) -> None:
    listed.save(tmp_path)
    index = VectorIndex.load(tmp_path, ProductVectors(vectors), "cuda")
    assert index.device == "cuda"
    assert recall_of(index.search(queries, K), brute_force(vectors, queries, K)) == 1.0
    assert (index.search(queries, K, np.zeros(SIZE, bool)).ids == -1).all()


NUM_STATIC = num_columns(DIM, 4) - DIM
WEIGHTS = {
    "popularity": (0.2, 0, 0, 0),
    "all": (0.1, 0.2, 0.05, 0.15),
    "negative": (-0.2, 0, 0, -0.1),
    "large": (1, 0, 0, 0),
    "every large": (1, 1, 1, 1),
}


@pytest.fixture(scope="module")
def featured(vectors: Float16s) -> Float16s:
    """Vectors with popularity (0 to 1; a tenth of the products are new and have none), stock, a value, and zeros."""
    rng = np.random.default_rng(6)
    new = rng.random(SIZE) < 0.1
    features = np.zeros((SIZE, NUM_STATIC))
    features[:, :4] = np.stack([~new * rng.random(SIZE), new, rng.random(SIZE) < 0.9, rng.random(SIZE)], axis=1)
    return np.concatenate([vectors, features.astype(np.float16)], axis=1)


@pytest.fixture(scope="module")
def featured_exact(featured: Float16s) -> VectorIndex:
    return VectorIndex.build(featured, IndexSpec("exact", num_static=NUM_STATIC))


@pytest.fixture(scope="module")
def featured_listed(featured: Float16s) -> VectorIndex:
    return VectorIndex.build(featured, IndexSpec("ivf", num_lists=512, margin=0.4, num_static=NUM_STATIC))


def with_weights(queries: Floats, weights: tuple[float, ...]) -> Floats:
    static = np.tile(np.pad(np.array(weights, np.float32), (0, NUM_STATIC - len(weights))), (len(queries), 1))
    return np.concatenate([queries, static], axis=1)


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("kind", ["exact", "listed"])
def test_weighed_features_return_what_brute_force_over_both_returns(
    kind: str, weights: tuple[float, ...], featured: Float16s, queries: Floats, request: pytest.FixtureRequest
) -> None:
    index = request.getfixturevalue(f"featured_{kind}")
    weighed, least = with_weights(queries, weights), 1.0 if kind == "exact" else 0.98
    for allowed in (None, random_mask(0.3), random_mask(0.01)):
        truth = brute_force(featured, weighed, K, allowed)
        together = index.search(weighed, K, allowed)
        assert recall_of(together, truth) >= least
        alone = [index.search(query[None], K, allowed) for query in weighed[:5]]
        np.testing.assert_array_equal(together.ids[:5], np.concatenate([found.ids for found in alone]))
        np.testing.assert_array_equal(together.scores[:5], np.concatenate([found.scores for found in alone]))
        plain = brute_force(featured, with_weights(queries, (0,)), K, allowed)
        assert (together.ids != plain.ids).any()


@pytest.mark.parametrize("kind", ["exact", "listed"])
def test_without_weights_the_result_equals_that_without_features_to_the_bit(
    kind: str, queries: Floats, request: pytest.FixtureRequest
) -> None:
    plain, featured = request.getfixturevalue(kind), request.getfixturevalue(f"featured_{kind}")
    weighed = with_weights(queries, (0,))
    for allowed in (None, random_mask(0.3), random_mask(0.01)):
        for batch in (slice(0, 1), slice(None)):
            expected, found = plain.search(queries[batch], K, allowed), featured.search(weighed[batch], K, allowed)
            if kind == "exact":
                np.testing.assert_array_equal(found.ids, expected.ids)
                np.testing.assert_array_equal(found.scores, expected.scores)
            assert recall_of(found, expected) >= (1.0 if kind == "exact" else 0.99)


def test_the_number_of_features_is_saved(
    featured: Float16s, featured_listed: VectorIndex, queries: Floats, tmp_path: Path
) -> None:
    featured_listed.save(tmp_path)
    loaded = VectorIndex.load(tmp_path, ProductVectors(featured, DIM), "cpu")
    assert (loaded.dim, loaded.width) == (DIM, DIM + NUM_STATIC)
    weighed = with_weights(queries, WEIGHTS["all"])
    np.testing.assert_array_equal(loaded.search(weighed, K).ids, featured_listed.search(weighed, K).ids)


def test_the_matrix_product_weighs_features_too(featured: Float16s, queries: Floats) -> None:
    pytest.importorskip("torch")
    matrix = GpuSearch(featured, "cpu", NUM_STATIC)
    for weights in ((0,), *WEIGHTS.values()):
        weighed = with_weights(queries, weights)
        for allowed in (None, random_mask(0.1)):
            truth = brute_force(featured, weighed, K, allowed)
            assert recall_of(matrix.nearest(weighed, K, allowed), truth) == 1.0
