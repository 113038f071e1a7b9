"""Reads that share a trip to the store."""

from __future__ import annotations

import asyncio

import pytest

from serving.errors import Overloaded, Unavailable
from serving.shoppers.shared_reads import SharedReads


class Store:
    """Values that a test changes; each trip waits until it is let go."""

    def __init__(self) -> None:
        self.values = {"ann": 1, "bob": 2}
        self.trips: list[list[str]] = []
        self.error: Exception | None = None
        self.go = asyncio.Semaphore(0)

    async def read(self, keys: list[str]) -> dict[str, int]:
        self.trips.append(sorted(keys))
        await self.go.acquire()
        if self.error:
            raise self.error
        return {key: self.values[key] for key in keys if key in self.values}


async def asked(reads: SharedReads[int], *keys: str) -> list[asyncio.Task[int | None]]:
    tasks = [asyncio.ensure_future(reads(key)) for key in keys]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_what_is_asked_during_a_trip_shares_the_next() -> None:
    store = Store()
    reads = SharedReads(store.read, 10)
    first = await asked(reads, "ann")
    later = await asked(reads, "bob", "ann", "bob", "eve")
    store.go.release()
    store.go.release()
    assert await asyncio.gather(*first, *later) == [1, 2, 1, 2, None]
    assert store.trips == [["ann"], ["ann", "bob", "eve"]]


async def test_no_value_is_older_than_its_question() -> None:
    store = Store()
    reads = SharedReads(store.read, 10)
    first = await asked(reads, "ann")
    store.values["ann"] = 7  # while the first trip is under way, which has not looked yet
    store.go.release()
    assert await first[0] == 7
    second = await asked(reads, "ann")
    store.values["ann"] = 8
    store.go.release()
    assert await second[0] == 8
    assert len(store.trips) == 2


async def test_a_failed_trip_fails_those_on_it_and_no_others() -> None:
    store = Store()
    reads = SharedReads(store.read, 10)
    store.error = Unavailable("away")
    first = await asked(reads, "ann", "bob")
    store.go.release()
    for task in first:
        with pytest.raises(Unavailable, match="away"):
            await task
    store.error = None
    store.go.release()
    assert await reads("ann") == 1


async def test_who_gave_up_is_not_read_for() -> None:
    store = Store()
    reads = SharedReads(store.read, 10)
    first = await asked(reads, "ann")
    left = await asked(reads, "bob")
    left[0].cancel()
    stayed = await asked(reads, "ann")
    store.go.release()
    store.go.release()
    assert await asyncio.gather(*first, *stayed) == [1, 1]
    assert store.trips == [["ann"], ["ann"]]


async def test_too_many_waiting_are_refused() -> None:
    store = Store()
    reads = SharedReads(store.read, 2)
    tasks = await asked(reads, "ann")
    tasks += await asked(reads, "ann", "bob")
    with pytest.raises(Overloaded):
        await reads("ann")
    store.go.release()
    store.go.release()
    assert await asyncio.gather(*tasks) == [1, 1, 2]
