"""What keeps a process in step with the log: when others wait for it, and what it does with a change that cannot be applied."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import random
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.bundles.bundle import Bundle
from models.products.product import Product
from serving.catalogue import follower as follower_module
from serving.catalogue.change import ChangeBatch, Delete, LoggedBatch, Upsert
from serving.catalogue.follower import READ_AT_ONCE, Follower
from serving.catalogue.live_catalogue import ChangeFailed
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.sqlite_log import SqliteLog
from serving.config import CatalogueConfig, ConfigError
from serving.errors import Unavailable
from tests.faults.small_shop import DIM, build_shop, new_product, vectors_of

NUM_PRODUCTS = 30


@pytest.fixture(scope="module")
def bundle(exported_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("shop") / "bundle"
    rng = random.Random(0)
    build_shop(folder, [new_product(rng, f"P-{number}") for number in range(NUM_PRODUCTS)], exported_encoder)
    return Bundle(folder)


def log_of(bundle: Bundle, path: Path) -> SqliteLog:
    return SqliteLog(path, bundle.manifest.line, "normal")


def batch(bundle: Bundle, *products: Product) -> ChangeBatch:
    upserts = tuple(map(Upsert, products))
    return ChangeBatch(changes=upserts, vectors=vectors_of(products), encoder=bundle.manifest.encoder_version)


def poison(bundle: Bundle) -> ChangeBatch:
    """A product that no structure can take, as nothing checks when it is logged: its price has no place in 64 bits."""
    return batch(bundle, Product("poison", "velvet", price_minor=2**70))


class NotedLog(SqliteLog):
    """Notes what is reported."""

    def __init__(self, bundle: Bundle, path: Path) -> None:
        super().__init__(path, bundle.manifest.line, "normal")
        self.reported: list[int] = []

    def report(self, applied: int) -> None:
        self.reported.append(applied)
        super().report(applied)


async def test_nobody_waits_for_a_process_that_has_yet_to_catch_up(bundle: Bundle, tmp_path: Path) -> None:
    log = NotedLog(bundle, tmp_path / "changes.db")
    deletes = tuple(Delete("nobody") for _ in range(READ_AT_ONCE // 2))
    for _ in range(5):
        empty = np.zeros((0, 0), np.float16)
        await log.append(ChangeBatch(changes=deletes, vectors=empty, encoder=""))
    follower = Follower(Catalogue.open(bundle).live, log)
    await asyncio.to_thread(follower.start)
    assert set(log.reported) == {5 * len(deletes)}
    await follower.close()


async def test_the_collector_does_not_look_at_what_was_appended_for_good(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "FROZEN_AT_ONCE", 20)
    log = log_of(bundle, tmp_path / "changes.db")
    catalogue = Catalogue.open(bundle)
    follower = Follower(catalogue.live, log)
    rng = random.Random(1)
    try:
        is_looked_at = []
        for start in range(0, 40, 10):
            await log.append(batch(bundle, *(new_product(rng, f"N-{start + number}") for number in range(10))))
            follower.catch_up()
            last = catalogue.table.product(len(catalogue.table) - 1)
            is_looked_at.append(any(one is last for one in gc.get_objects()))
        assert is_looked_at == [True, False, True, False]
    finally:
        gc.unfreeze()
        await follower.close()


async def test_a_change_that_cannot_be_applied_is_named_and_ends_the_replica(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "changes.db"
    log = log_of(bundle, path)
    failed = threading.Event()
    catalogue = Catalogue.open(bundle)
    follower = Follower(catalogue.live, log, failed.set)
    await asyncio.to_thread(follower.start)
    good = await log.append(batch(bundle, Product("good", "velvet")))
    assert await follower.reached(good.last, 10)
    bad = await log.append(poison(bundle))
    assert not await follower.reached(bad.last, 0.5)
    assert await asyncio.to_thread(failed.wait, 10)
    assert f"one of the changes {bad.first} to {bad.last} cannot be applied" in follower.failure
    after = await log.append(batch(bundle, Product("after", "velvet")))  # the log stays, and takes more
    with pytest.raises(Unavailable, match="cannot be applied"):
        follower.catch_up(after.last)
    assert catalogue.live.sequence == good.last
    await follower.close()

    with pytest.raises(ConfigError, match=f"one of the changes {good.first} to {after.last} cannot be applied"):
        Catalogue.open(bundle).follow(CatalogueConfig(path=path))
    log = log_of(bundle, path)
    assert [ids(logged.batch) for logged in log.read(0, 100)] == [["good"], ["poison"], ["after"]]
    await log.close()


async def test_vectors_of_another_width_are_refused_before_anything_is_applied(bundle: Bundle, tmp_path: Path) -> None:
    log = log_of(bundle, tmp_path / "changes.db")
    follower = Follower(Catalogue.open(bundle).live, log)
    await log.append(batch(bundle, Product("good", "velvet")))
    whole = batch(bundle, Product("narrow", "velvet"))
    await log.append(dataclasses.replace(whole, vectors=whole.vectors[:, 1:]))
    with pytest.raises(Unavailable, match=f"changes 2 to 2 have vectors of {DIM - 1} dimensions"):
        follower.catch_up()
    assert (follower.sequence, follower.catalogue.table.row_of("good") is not None) == (1, True)
    await follower.close()


async def test_a_call_that_finds_the_failure_first_is_unavailable_and_a_start_names_it(
    bundle: Bundle, tmp_path: Path
) -> None:
    log = log_of(bundle, tmp_path / "changes.db")
    follower = Follower(Catalogue.open(bundle).live, log)
    await log.append(poison(bundle))
    with pytest.raises(Unavailable, match="one of the changes 1 to 1 cannot be applied"):
        follower.catch_up()
    assert "one of the changes 1 to 1" in follower.failure
    with pytest.raises(ChangeFailed):
        Follower(Catalogue.open(bundle).live, log).start()
    await follower.close()


async def test_a_start_waits_for_a_log_that_is_away(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(bundle, tmp_path / "changes.db")
    await log.append(batch(bundle, Product("new", "velvet")))
    read, times = log.read, iter(range(2))

    def away(after: int, most: int) -> Sequence[LoggedBatch]:
        if next(times, None) is not None:
            raise Unavailable("the log is away")
        return read(after, most)

    monkeypatch.setattr(log, "read", away)
    follower = Follower(Catalogue.open(bundle).live, log)
    await asyncio.to_thread(follower.start)
    assert follower.catalogue.table.row_of("new") is not None
    await follower.close()


def ids(batch: ChangeBatch) -> Sequence[str]:
    return [change.product_id for change in batch.changes]
