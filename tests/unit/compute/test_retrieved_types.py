"""Types in retrieval: the best are those of the whole catalogue, however many of them each search would have looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundles.bundle import Bundle
from models.products.product import Product
from serving.catalogue.stages import load_retriever
from serving.compute import candidate_search
from serving.compute.filter_masks import NO_FILTER, FilterMasks, ProductFilter
from serving.compute.retrieval import Candidates, EncodedQuery, Retrieved, SearchItem, Subject
from serving.compute.retriever import Retriever

KINDS = ("a", "a > b", "a > b > c", "d", "e > f")


@pytest.fixture(scope="module")
def bundle(build_tiny: Callable[..., object], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """120 products of five categories, some within others."""
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    products = [
        Product(
            f"PX-{1000 + n}",
            "".join(rng.choice(letters, 6)) + " " + "".join(rng.choice(letters, 4)),
            "Halden" if n % 3 else "Nord",
            KINDS[n % len(KINDS)],
            100 * n,
            bool(n % 4),
        )
        for n in range(120)
    ]
    folder = tmp_path_factory.mktemp("kinds") / "bundle"
    build_tiny(folder, products)
    return Bundle(folder)


@pytest.fixture(scope="module")
def retriever(bundle: Bundle) -> Retriever:
    return load_retriever(bundle.folder, threads=1)


def retrieve(retriever: Retriever, vector: np.ndarray, query: str = "", **fields: Any) -> Candidates:
    subject = Subject(query=EncodedQuery(query, vector=vector))
    (result,) = retriever.compute([SearchItem(subject=subject, **fields)])
    assert isinstance(result, Retrieved)
    return result.candidates


vectors = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).standard_normal(32).astype(np.float32))
filters = st.sampled_from([NO_FILTER, ProductFilter(brands=("Nord",)), ProductFilter(in_stock_only=True)])
type_boosts = st.dictionaries(st.sampled_from(("a", "a > b", "d", "e > f", "gone")), st.floats(0.01, 1), min_size=1)


@pytest.mark.parametrize("max_scored", [candidate_search.MAX_SCORED_ROWS, 5], ids=["scored", "searched"])
@settings(max_examples=60)
@given(vector=vectors, wanted=filters, by_type=type_boosts, k=st.integers(1, 40), only=st.booleans())
def test_the_lifted_best_are_those_of_the_whole_catalogue(
    bundle: Bundle,
    retriever: Retriever,
    max_scored: int,
    vector: np.ndarray,
    wanted: ProductFilter,
    by_type: dict[str, float],
    k: int,
    only: bool,
) -> None:
    vector = vector / np.linalg.norm(vector)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(candidate_search, "MAX_SCORED_ROWS", max_scored)
        found = retrieve(retriever, vector, k=k, filter=wanted, type_boosts=tuple(by_type.items()), only_types=only)
    masks = FilterMasks(bundle.products())
    mask = masks.mask(wanted)
    rows = np.arange(120) if mask is None else np.flatnonzero(mask)
    gains = np.zeros(120)
    for name, gain in by_type.items():
        within = masks.rows_of_category(name)
        gains[within] = np.maximum(gains[within], gain)
    rows = rows[gains[rows] > 0] if only else rows
    totals = np.asarray(bundle.vectors(), np.float32) @ vector + gains
    best = rows[np.lexsort((rows, -totals[rows]))][:k]
    assert len(found.rows) == len(best)
    assert found.scores == pytest.approx(totals[best], abs=1e-3)
    assert set(found.rows) <= set(rows.tolist())
    assert found.type_boosts == pytest.approx(gains[found.rows])
    sums = np.array(found.similarities) + np.array(found.type_boosts)
    assert found.scores == pytest.approx(sums, abs=1e-6)


def test_an_identifier_and_a_type_add_up(retriever: Retriever, bundle: Bundle) -> None:
    vector = np.asarray(bundle.unit_vectors()[0], np.float32)
    found = retrieve(retriever, vector, "PX-1063", k=5, type_boosts=(("d", 0.25),))
    assert found.rows[0] == 63
    assert found.type_boosts[0] == 0.25
    assert found.identifier_boosts[0] > 0
    assert found.scores[0] == pytest.approx(
        found.similarities[0] + found.identifier_boosts[0] + found.lexical_boosts[0] + 0.25
    )


def test_an_identifier_of_another_type_is_no_hit_of_a_filter(retriever: Retriever, bundle: Bundle) -> None:
    vector = np.asarray(bundle.unit_vectors()[0], np.float32)
    found = retrieve(retriever, vector, "PX-1062", k=5, type_boosts=(("d", 0.25),), only_types=True)
    assert 62 not in found.rows  # it is of "a > b > c"
    assert {row % len(KINDS) for row in found.rows} == {KINDS.index("d")}


def test_categories_below_a_type_are_of_it(bundle: Bundle) -> None:
    masks = FilterMasks(bundle.products())
    assert len(masks.rows_of_category("a")) == 72
    assert len(masks.rows_of_category("A > B")) == 48
    assert len(masks.rows_of_category("b")) == 0
    assert masks.type_boosts([("a", 0.1), ("a > b", 0.3)], np.arange(4)).tolist() == [0.1, 0.3, 0.3, 0.0]
