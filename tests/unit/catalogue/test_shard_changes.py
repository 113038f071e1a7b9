"""Shards that take the changes of their own products find, together, what a catalogue finds that takes all changes."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.bundles.bundle import Bundle
from serving.catalogue.change import LoggedBatch
from serving.catalogue.open_catalogue import Catalogue
from tests.faults.catalogue_model import Asked, Draw, ModelTest, World
from tests.faults.small_shop import BRANDS, COLOURS, TITLE_WORDS
from tests.shards import LocalShards, differences, retrieved

NUM_CHANGES = 40  # rounds of batches
NUM_SEARCHES = 250


@pytest.fixture(scope="module")
def world(exported_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("sharded")
    ModelTest(folder, exported_encoder)
    (folder / "world").mkdir()
    draw = Draw(random.Random(5))
    with asyncio.Runner() as runner:
        world = World(folder / "base", folder / "world", runner)
        world.is_checked = False
        for _ in range(NUM_CHANGES):
            for operation in (draw.upserts, draw.upserts, draw.deletes, draw.offers, draw.mixed):
                operation(world.shelf).run(world)
        yield world
        world.close()


def logged(world: World) -> list[LoggedBatch]:
    return list(world.serving.follower.log.read(0, 1_000_000))


def opened(world: World, count: int) -> LocalShards:
    return LocalShards(Catalogue.open(Bundle(world.folder.parent / "base")), count)


def asked(world: World) -> list[Asked]:
    draw, rng = Draw(random.Random(8)), random.Random(9)
    said = [*TITLE_WORDS, *COLOURS, *BRANDS, "home sofas", "wipe clean", "mpn-12", *world.shelf.products]
    found = []
    for _ in range(NUM_SEARCHES):
        one = draw.asked(world.shelf)
        if one.vector_of and rng.random() < 0.7:
            one = dataclasses.replace(one, text=" ".join(rng.sample(said, rng.randrange(1, 4))).strip())
        found.append(one)
    return found


@pytest.mark.parametrize("count", [2, 3])
def test_all_shards_find_what_the_whole_finds(world: World, count: int) -> None:
    shards = opened(world, count)
    for catalogue in (shards.merge_catalogue, *shards.catalogues):
        catalogue.live.apply(logged(world))
    assert sum(len(catalogue.table) for catalogue in shards.catalogues) == len(world.serving.catalogue.table)
    questions = [one.item() for one in asked(world)]
    for start in range(0, len(questions), 25):
        batch = questions[start : start + 25]
        for item, one, other in zip(batch, world.serving.retriever.compute(batch), shards.compute(batch), strict=True):
            assert differences(retrieved(one), retrieved(other)) == [], item


def test_products_that_the_gateway_does_not_know_yet_are_left_out(world: World) -> None:
    shards, batches = opened(world, 2), logged(world)
    half = len(batches) // 2
    for catalogue in (shards.merge_catalogue, *shards.catalogues):
        catalogue.live.apply(batches[:half])
    known = len(shards.merge_catalogue.table)
    items = [one.item() for one in asked(world)[:50] if not one.facets and not one.group_by]
    before = [retrieved(result) for result in shards.compute(items)]
    shards.catalogues[1].live.apply(batches[half:])
    for result, now in zip(before, shards.compute(items), strict=True):
        now = retrieved(now)  # noqa: PLW2901
        assert all(row < known for row in now.candidates.rows)
        assert (now.sequence, now.num_rows) == (result.sequence, known)


def test_a_shard_that_is_behind_is_told(world: World) -> None:
    shards, batches = opened(world, 2), logged(world)
    half = len(batches) // 2
    shards.merge_catalogue.live.apply(batches)
    shards.catalogues[0].live.apply(batches)
    shards.catalogues[1].live.apply(batches[:half])
    (found,) = shards.compute([asked(world)[0].item()])
    assert retrieved(found).sequence == batches[half - 1].last
