"""A search of all shards finds what a search of the whole catalogue finds: hits, order, evidence, facets, totals, groups."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import Bundle
from models.bundles.sources import sample_source
from models.products.changes import RemovedProducts
from models.text_encoder.embed_products import TextEmbedding
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.stages import open_retriever
from serving.compute.pool import Leg, Pool, share_of
from serving.compute.retrieval import EncodedQuery, GivenCandidates, Query, ScoreItem, SearchItem, Subject
from serving.compute.retriever import Retriever
from serving.errors import Unavailable
from tests.shards import LocalShards, batches, differences, retrieved, searches

NUM_PRODUCTS = 800
NUM_SEARCHES = 240


@pytest.fixture(scope="module")
def bundle(exported_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("sharded") / "bundle"
    source = sample_source(NUM_PRODUCTS, 0)
    recipe = Recipe("sharded", encoder=str(exported_encoder), dimensions=(16,))
    embedding = TextEmbedding.for_recipe(recipe, source.text_attributes)
    build_bundle(source, recipe, folder, lambda *_: None, embedding=embedding)
    return Bundle(folder)


@pytest.fixture(scope="module")
def whole(bundle: Bundle) -> Retriever:
    return open_retriever(Catalogue.open(bundle), threads=1)


@pytest.fixture(scope="module")
def shards(bundle: Bundle) -> dict[int, LocalShards]:
    return {count: LocalShards(Catalogue.open(bundle), count) for count in (2, 4)}


@pytest.mark.parametrize("count", [2, 4])
def test_all_shards_find_what_the_whole_finds(
    bundle: Bundle, whole: Retriever, shards: dict[int, LocalShards], count: int
) -> None:
    vectors = np.asarray(bundle.unit_vectors(), np.float32)
    num_grouped = num_sorted = num_facets = 0
    for batch in batches(searches(bundle, vectors, NUM_SEARCHES, ranks=False, seed=count), 8):
        for item, one, other in zip(batch, whole.compute(batch), shards[count].compute(batch), strict=True):
            one = retrieved(one)  # noqa: PLW2901
            assert differences(one, retrieved(other)) == [], item
            num_grouped += bool(one.candidates.groups)
            num_sorted += item.sort is not None
            num_facets += any(counts.num_products for counts in one.facets)
    assert min(num_grouped, num_sorted, num_facets) > NUM_SEARCHES / 20


def query(bundle: Bundle, row: int, k: int) -> SearchItem:
    vector = np.asarray(bundle.unit_vectors()[row], np.float32)
    text = bundle.products().string("title", row)
    return SearchItem(subject=Subject(query=EncodedQuery(text, "en-US", vector=vector)), k=k)


def test_a_shard_that_holds_more_than_its_share_is_asked_for_all(bundle: Bundle, whole: Retriever) -> None:
    """All products that the filter passes are in one shard, and more than its share of a leg."""
    two = LocalShards(Catalogue.open(bundle), 2)
    own = two.merge.rows.of_shard(0, np.arange(two.merge.rows.sizes()[0]))
    item = dataclasses.replace(query(bundle, 0, 200), lexical_weight=0.0)
    (before,) = two.compute([item])
    assert two.num_asked == [2]
    removed = np.setdiff1d(np.arange(NUM_PRODUCTS), own)
    gone = RemovedProducts(removed, [bundle.products().product(row) for row in removed.tolist()])
    emptied = RemovedProducts(np.arange(len(removed)), gone.products)
    for catalogue, change in ((two.merge_catalogue, gone), (two.catalogues[1], emptied)):
        for part in catalogue.live._parts:
            part.remove(change)
    two.num_asked.clear()
    (after,) = two.compute([item])
    assert two.num_asked == [2, 1]
    found = retrieved(after).candidates.rows
    assert found[:50] == [row for row in retrieved(before).candidates.rows if row in set(own.tolist())][:50]
    assert len(found) == 200
    assert set(found) <= set(own.tolist())


def test_a_pool_is_cut_where_the_whole_one_ends() -> None:
    skewed = Pool.united([pool_of(rows=range(200), keys=1.0), pool_of(rows=range(200, 400), keys=0.0)], 200)
    assert sorted(skewed.rows.tolist()) == list(range(200))
    assert share_of(200, 2) < 200 < 2 * share_of(200, 2)
    assert share_of(200, 1) == 200


def pool_of(rows: range, keys: float) -> Pool:
    numbers, zeros = np.array(rows), np.zeros(len(rows), np.float32)
    leg = Leg(np.arange(len(numbers)), np.full(len(numbers), keys), len(numbers))
    none = Leg(np.zeros(0, np.int64), np.zeros(0))
    return Pool(
        rows=numbers,
        scores=np.full(len(numbers), keys),
        totals=np.full(len(numbers), keys),
        legs=(leg, none, none, none),
        identifier_boosts=None,
        type_boosts=None,
        click_boosts=None,
        lexical_boosts=zeros,
        coverages=zeros,
        evidence=np.zeros((len(numbers), 2), np.float32),
        matched={},
        holds_words=False,
    )


def test_what_is_lost_is_told(bundle: Bundle, whole: Retriever) -> None:
    four = LocalShards(Catalogue.open(bundle), 4)
    item = query(bundle, 3, 100)
    sizes = four.merge.rows.sizes()
    for up in ([True, False, True, True], [False, False, True, False]):
        four.up = up
        found = retrieved(four.compute([item])[0])
        assert found.num_lost == up.count(False)
        assert found.coverage == pytest.approx(sum(n for n, is_up in zip(sizes, up, strict=True) if is_up) / sum(sizes))
        here = set(np.flatnonzero(np.array(up)[four.merge.rows.shards(np.arange(NUM_PRODUCTS))]).tolist())
        assert set(found.candidates.rows) <= here
        expected = [row for row in retrieved(whole.compute([item])[0]).candidates.rows if row in here]
        assert found.candidates.rows[:10] == expected[:10]
    four.up = [False] * 4
    (result,) = four.compute([item])
    assert isinstance(result, Unavailable)


def test_candidates_of_a_lost_shard_cannot_be_scored(bundle: Bundle) -> None:
    two = LocalShards(Catalogue.open(bundle), 2)
    two.up = [True, False]
    rows = np.arange(20)
    item = ScoreItem(subject=Subject(query=Query("sofa", "en-US")), candidates=GivenCandidates(rows))
    (result,) = two.compute([item])
    assert isinstance(result, Unavailable)


def test_what_is_asked_once_is_mostly_enough(bundle: Bundle, shards: dict[int, LocalShards]) -> None:
    two = shards[2]
    two.num_asked.clear()
    for row in range(60):
        two.compute([query(bundle, row, 24)])
    assert len(two.num_asked) < 70
