"""Shards hold each product once, and are refused where they do not fit their bundle."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from models.arrays import Ints
from models.bundle_parts import verify_bundle
from models.bundles.bundle import INDEX, Bundle
from models.bundles.files import record_files, write_manifest
from models.bundles.manifest import BundleError, Manifest
from models.index.spec import IndexSpec
from models.index.vector_index import LISTS_FILE, VectorIndex
from models.products.product import Product
from models.shards import SHARD, cut_shards, open_shard, shard_of, shard_rows, shards_of

NUM_PRODUCTS = 400


@pytest.fixture(scope="module")
def built(build_tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cut") / "bundle"
    colours = ("red", "blue", "green")
    products = [
        Product(f"P{n}", f"Thing {n} of kind {n % 7}", f"Brand {n % 11}", f"Home > Room {n % 5}", n * 10, n % 3 > 0,
                {"colour": colours[n % 3]} if n % 4 else {}, other_categories=("Sale",) if n % 9 == 0 else ())
        for n in range(NUM_PRODUCTS)
    ]  # fmt: skip
    build_tiny(folder, products)
    return folder


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Bundle:
    return Bundle(shutil.copytree(built, tmp_path / "bundle"))


@pytest.mark.parametrize("count", [2, 3])
def test_each_product_is_in_the_shard_that_its_id_says(bundle: Bundle, count: int) -> None:
    cut_shards(bundle, count)
    table, vectors = bundle.products(), bundle.vectors()
    every = []
    for shard in shards_of(count):
        opened, rows = open_shard(bundle, shard), shard_rows(bundle, shard)
        verify_bundle(opened)
        own = opened.products()
        assert [own.product(at) for at in range(len(rows))] == [table.product(row) for row in rows.tolist()]
        assert {shard_of(own.id(at), count) for at in range(len(rows))} == {shard.number}
        assert np.array_equal(opened.vectors(), vectors[rows])
        assert opened.manifest.encoder_version == bundle.manifest.encoder_version
        every += rows.tolist()
    assert sorted(every) == list(range(NUM_PRODUCTS))


def test_words_and_attributes_are_those_of_the_whole(bundle: Bundle) -> None:
    cut_shards(bundle, 2)
    whole, columns = bundle.lexical(), bundle.attributes()
    assert whole
    holding, counts = set(), {name: np.zeros(column.num_values, np.int64) for name, column in columns.items()}
    for shard in shards_of(2):
        opened, rows = open_shard(bundle, shard), shard_rows(bundle, shard)
        lexical = opened.lexical()
        assert lexical
        assert lexical.lengths == whole.lengths
        holding |= set(rows[lexical.holding("kind 3")].tolist())
        for name, column in opened.attributes().items():
            counts[name] += column.counts()
    assert holding == set(whole.holding("kind 3").tolist())
    assert all(np.array_equal(column.counts(), counts[name]) for name, column in columns.items())


def test_lists_keep_their_codes(bundle: Bundle) -> None:
    """Turns the bundle into one of inverted lists: every shard has all centroids, and the codes of its own products."""
    vectors = np.asarray(bundle.vectors())
    VectorIndex.build(vectors, IndexSpec("ivf", num_lists=8)).save(bundle.folder / INDEX)
    write_manifest(bundle.folder, _recorded(bundle), ())
    bundle = Bundle(bundle.folder)
    cut_shards(bundle, 2)
    queries = vectors[:20].astype(np.float32)
    found = bundle.index().search(queries, 10)
    merged: list[list[tuple[float, int]]] = [[] for _ in queries]
    sizes = np.zeros(8, np.int64)
    for shard in shards_of(2):
        opened, rows = open_shard(bundle, shard), shard_rows(bundle, shard)
        lists = faiss.read_index(str(opened.folder / INDEX / LISTS_FILE))
        assert (lists.ntotal, lists.nlist) == (len(rows), 8)
        sizes += sizes_of(lists)
        own = opened.index().search(queries, 10)
        for at in range(len(queries)):
            merged[at] += zip((-own.scores[at]).tolist(), rows[own.ids[at]].tolist(), strict=True)
    assert np.array_equal(sizes, sizes_of(faiss.read_index(str(bundle.folder / INDEX / LISTS_FILE))))
    # A shard refines as many candidates of its own as the whole does of all: it may find better ones, never worse.
    for at, scores in enumerate(found.scores):
        best = [-score for score, _ in sorted(merged[at])[:10]]
        assert all(mine >= other - 1e-6 for mine, other in zip(best, scores.tolist(), strict=True))


def sizes_of(lists: Any) -> Ints:
    return np.array([lists.invlists.list_size(number) for number in range(lists.nlist)])


def _recorded(bundle: Bundle) -> Manifest:
    return dataclasses.replace(bundle.manifest, files=record_files(bundle.folder))


def test_shards_are_cut_once(bundle: Bundle) -> None:
    folder = cut_shards(bundle, 2)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert cut_shards(bundle, 2) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    cut_shards(bundle, 3)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["2", "3"]


@pytest.mark.parametrize(("count", "says"), [(1, "2 to 64"), (0, "2 to 64"), (65, "2 to 64")])
def test_numbers_that_divide_nothing_are_refused(bundle: Bundle, count: int, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        cut_shards(bundle, count)


def test_more_shards_than_products_are_refused(shop_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle(shutil.copytree(shop_bundle, tmp_path / "bundle"))
    with pytest.raises(BundleError, match="6 products, too few for 7 shards"):
        cut_shards(bundle, 7)
    with pytest.raises(BundleError, match="would hold none"):
        cut_shards(bundle, 6)
    assert not (bundle.folder / "shards").exists() or not list((bundle.folder / "shards").iterdir())


def test_shards_of_another_bundle_are_refused(bundle: Bundle) -> None:
    folder = cut_shards(bundle, 2)
    with pytest.raises(BundleError, match=r"manifest\.json.*no such directory|is not a bundle"):
        open_shard(bundle, shards_of(3)[0])
    (folder / "00").rename(folder / "old")
    (folder / "01").rename(folder / "00")
    with pytest.raises(BundleError, match="'number': 1.*expected.*'number': 0"):
        cut_shards(bundle, 2)


def test_a_damaged_shard_is_refused(bundle: Bundle) -> None:
    folder = cut_shards(bundle, 2)
    facts = json.loads((folder / "00" / SHARD).read_text())
    (folder / "00" / SHARD).write_text(json.dumps(facts | {"bundle": "0123456789ab"}))
    with pytest.raises(BundleError, match=r"shard\.json"):
        cut_shards(bundle, 2)
