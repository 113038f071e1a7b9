"""An index that products were appended to, removed from and given new offers returns what one built from the living products returns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from models.arrays import Bools, Float16s, Floats, Ints
from models.index.gpu_search import GpuSearch
from models.index.neighbours import Neighbours
from models.index.product_vectors import ProductVectors
from models.index.spec import IndexSpec
from models.index.tuner import recall_of
from models.index.vector_index import VectorIndex
from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts
from models.products.product import Product

SIZE, DIM, NUM_STATIC, NUM_FEATURES, K = 2_000, 32, 16, 4, 60
EXACT = IndexSpec("exact", num_static=NUM_STATIC)
LISTS = IndexSpec("ivf", num_lists=32, num_static=NUM_STATIC)


def clustered(rng: np.random.Generator, size: int) -> Floats:
    centres = np.random.default_rng(99).standard_normal((60, DIM))
    vectors = centres[rng.integers(60, size=size)] + 0.35 * rng.standard_normal((size, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def products(rng: np.random.Generator, size: int) -> Float16s:
    """Unit vectors, features and zeros."""
    rows = np.zeros((size, DIM + NUM_STATIC), np.float16)
    rows[:, :DIM] = clustered(rng, size)
    rows[:, DIM : DIM + NUM_FEATURES] = rng.random((size, NUM_FEATURES))
    return rows


class Catalogue:
    """An index and what it should hold. The products themselves do not matter to it."""

    def __init__(self, rng: np.random.Generator, spec: IndexSpec) -> None:
        self.rng = rng
        built = VectorIndex.build(products(rng, SIZE), spec)
        self.index = VectorIndex(spec, built.vectors, None if built._lists is None else built._lists.lists)
        self.every = built.vectors.base.copy()
        self.living = np.ones(SIZE, np.bool_)

    def append(self, count: int) -> None:
        added = AddedProducts(len(self.every), _some(count), products(self.rng, count))
        self.index.vectors.append(added)
        self.index.append(added)
        self.every = np.concatenate([self.every, added.vectors])
        self.living = np.append(self.living, np.ones(count, np.bool_))

    def remove(self, count: int) -> None:
        rows = self.rng.choice(np.flatnonzero(self.living), count, replace=False)
        self.index.vectors.remove(RemovedProducts(rows, _some(count)))
        self.index.remove(RemovedProducts(rows, _some(count)))
        self.living[rows] = False

    def change_offers(self, count: int) -> None:
        rows = self.rng.choice(np.flatnonzero(self.living), count, replace=False)
        changed = ChangedOffers(rows, _some(count), self.rng.random((count, NUM_FEATURES)).astype(np.float16))
        self.index.vectors.change_offers(changed)
        self.index.change_offers(changed)
        self.every[rows, DIM : DIM + NUM_FEATURES] = changed.features

    def change_at_random(self, steps: int) -> Iterator[None]:
        for _ in range(steps):
            change = self.rng.choice([self.append, self.remove, self.change_offers])
            change(int(self.rng.integers(1, 100)))
            yield

    def queries(self, count: int) -> Floats:
        """Half of them weigh features."""
        queries = np.zeros((count, DIM + NUM_STATIC), np.float32)
        queries[:, :DIM] = clustered(self.rng, count)
        queries[::2, DIM : DIM + NUM_FEATURES] = self.rng.uniform(0, 0.5, (len(queries[::2]), NUM_FEATURES))
        return queries

    def masks(self) -> list[Bools | None]:
        shares = (0.9, 0.3, 0.02)
        return [None, self.living, *(self.living & (self.rng.random(len(self.living)) < share) for share in shares)]

    def rebuilt(self, spec: IndexSpec) -> VectorIndex:
        return VectorIndex.build(self.every[self.living], spec)

    def in_living(self, found: Neighbours) -> Ints:
        """Returns the ids as a catalogue of the living products alone has them."""
        assert self.living[found.ids[found.ids >= 0]].all()
        return np.where(found.ids < 0, -1, (np.cumsum(self.living) - 1)[found.ids])


def _some(count: int) -> list[Product]:
    return [Product("", "")] * count


@pytest.mark.parametrize("device", ["cpu", "torch"])
@pytest.mark.parametrize("seed", range(4))
def test_an_exact_index_returns_the_neighbours_and_scores_of_a_rebuilt_one(seed: int, device: str) -> None:
    catalogue = Catalogue(np.random.default_rng(seed), EXACT)
    index = catalogue.index
    if device == "torch":
        pytest.importorskip("torch")
        index._on_gpu = GpuSearch(index.vectors.base, "cpu", NUM_STATIC)
    index.search(catalogue.queries(2), K)  # what is made for the first batch is made before any change
    for _ in catalogue.change_at_random(10):
        rebuilt, queries = catalogue.rebuilt(EXACT), catalogue.queries(6)
        assert index.size == len(catalogue.every)
        for mask in catalogue.masks():
            expected = rebuilt.search(queries, K, None if mask is None else mask[catalogue.living])
            together = index.search(queries, K, mask)
            np.testing.assert_array_equal(catalogue.in_living(together), expected.ids)
            if device == "cpu":
                np.testing.assert_array_equal(together.scores, expected.scores)
                alone = [index.search(query[None], K, mask) for query in queries]
                np.testing.assert_array_equal(np.concatenate([found.ids for found in alone]), together.ids)
                np.testing.assert_array_equal(np.concatenate([found.scores for found in alone]), together.scores)
            else:
                np.testing.assert_allclose(together.scores, expected.scores, atol=1e-5)


def contents(lists: Any) -> list[tuple[list[int], bytes]]:
    """Returns ids and codes of each list."""
    inverted = faiss.downcast_InvertedLists(lists.invlists)
    found = []
    for number in range(lists.nlist):
        size = inverted.list_size(number)
        codes = np.zeros((size, lists.code_size), np.uint8)
        for at in range(size):
            inverted.packer.unpack_1_c(inverted.get_codes(number), at, faiss.swig_ptr(codes[at : at + 1]))
        ids = faiss.rev_swig_ptr(inverted.get_ids(number), size).tolist() if size else []
        found.append((ids, codes.tobytes()))
    return found


def filled(catalogue: Catalogue, rows: Float16s) -> VectorIndex:
    """Returns an index whose lists, trained as the catalogue's, were filled with all rows at once."""
    assert catalogue.index._lists is not None
    lists = faiss.deserialize_index(faiss.serialize_index(catalogue.index._lists.lists))
    lists.reset()
    lists.add(rows.astype(np.float32))
    return VectorIndex(LISTS, ProductVectors(rows, DIM), lists)


@pytest.mark.parametrize("seed", range(3))
def test_lists_that_grew_are_those_that_are_filled_with_all_products_at_once(seed: int) -> None:
    catalogue = Catalogue(np.random.default_rng(seed), LISTS)
    for _ in catalogue.change_at_random(12):
        pass
    expected, lists = filled(catalogue, catalogue.every)._lists, catalogue.index._lists
    assert expected is not None
    assert lists is not None
    assert contents(lists.lists) == contents(expected.lists)


@pytest.mark.parametrize("seed", range(3))
def test_lists_return_what_those_filled_with_the_living_products_return(seed: int) -> None:
    catalogue = Catalogue(np.random.default_rng(seed), LISTS)
    index = catalogue.index
    for _ in catalogue.change_at_random(10):
        queries, expected = catalogue.queries(20), filled(catalogue, catalogue.every[catalogue.living])
        for mask in catalogue.masks():
            wanted = expected.search(queries, K, None if mask is None else mask[catalogue.living])
            found = index.search(queries, K, mask)
            ids = catalogue.in_living(found)
            np.testing.assert_array_equal(ids[:, :10], wanted.ids[:, :10])
            np.testing.assert_array_equal(found.scores[:, :10], wanted.scores[:, :10])
            assert recall_of(Neighbours(ids, found.scores), wanted) >= 0.995
            alone = index.search(queries[:1], K, mask)
            np.testing.assert_array_equal(alone.ids[0], found.ids[0])
            np.testing.assert_array_equal(alone.scores[0], found.scores[0])


def test_lists_find_every_appended_product_near_a_query() -> None:
    catalogue = Catalogue(np.random.default_rng(5), LISTS)
    catalogue.append(400)
    queries = np.zeros((400, DIM + NUM_STATIC), np.float32)
    queries[:, :DIM] = catalogue.every[-400:, :DIM]
    found, truth = catalogue.index.search(queries, K).ids, catalogue.rebuilt(EXACT).search(queries, 10).ids
    assert found[:, 0].tolist() == list(range(SIZE, SIZE + 400))
    for near, ids in zip(truth, found, strict=True):
        assert set(near[near >= SIZE].tolist()) <= set(ids.tolist())


@pytest.mark.parametrize("spec", [EXACT, LISTS], ids=["exact", "lists"])
def test_the_nearest_living_are_found_though_all_before_them_were_removed(spec: IndexSpec) -> None:
    catalogue = Catalogue(np.random.default_rng(0), spec)
    query = catalogue.queries(2)[1:]
    nearest = VectorIndex.build(catalogue.every, EXACT).search(query, 300).ids[0]
    catalogue.living[nearest] = False
    catalogue.index.remove(RemovedProducts(nearest, _some(300)))
    for mask in (None, catalogue.living):
        found = catalogue.index.search(query, 10, mask)
        truth = catalogue.rebuilt(EXACT).search(query, 10)
        assert recall_of(Neighbours(catalogue.in_living(found), found.scores), truth) >= (1 if spec is EXACT else 0.9)


@pytest.mark.parametrize("spec", [EXACT, LISTS], ids=["exact", "lists"])
def test_nothing_is_returned_of_a_catalogue_without_living_products(spec: IndexSpec) -> None:
    catalogue = Catalogue(np.random.default_rng(0), spec)
    catalogue.append(30)
    catalogue.remove(SIZE + 30)
    for mask in (None, catalogue.living):
        for batch in (1, 3):
            assert (catalogue.index.search(catalogue.queries(batch), K, mask).ids == -1).all()


def test_vectors_come_first() -> None:
    catalogue = Catalogue(np.random.default_rng(0), EXACT)
    with pytest.raises(ValueError, match="there are 2000 vectors, expected 2001"):
        catalogue.index.append(AddedProducts(SIZE, _some(1), products(catalogue.rng, 1)))


def test_offers_do_not_change_the_file(tmp_path: Path) -> None:
    rows = products(np.random.default_rng(0), 20)
    np.save(tmp_path / "vectors.npy", rows)
    vectors = ProductVectors.open(tmp_path / "vectors.npy", DIM)
    vectors.change_offers(ChangedOffers(np.array([3]), _some(1), np.full((1, 2), 7, np.float16)))
    assert vectors.columns(np.array([3, 4]), DIM, DIM + 2).tolist() == [[7, 7], rows[4, DIM : DIM + 2].tolist()]
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), rows)


def test_vectors_are_of_float16_in_c_order() -> None:
    with pytest.raises(ValueError, match="float32"):
        ProductVectors(np.zeros((2, 2), np.float32))  # type: ignore[arg-type]
