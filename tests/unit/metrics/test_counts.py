"""What the parts of a gateway count."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from serving.compute.retrieval import Candidates
from serving.errors import DeadlineExceeded, Unavailable
from serving.metrics.gpus import Gpus
from serving.metrics.metric import close_metrics, open_metrics
from serving.metrics.page import written_pages
from serving.search.request import RankModel, Search
from serving.search.results import Degradation, Results
from serving.search.search_metrics import SearchMetrics
from serving.search.shopper_vectors import Shopper, Source
from serving.shoppers.counted_store import CountedStore
from serving.stages.batcher import Batcher
from serving.stages.stage_observer import StageObserver

Values = Callable[..., tuple[float, ...]]


@pytest.fixture
def values(tmp_path: Path) -> Iterator[Values]:
    """The values of a series of this process."""
    (tmp_path / "metrics").mkdir()
    open_metrics("test", str(tmp_path / "log.sock"))

    def read(name: str, *labels: str) -> tuple[float, ...]:
        (page,) = written_pages(tmp_path / "metrics")
        return next(series.values for series in page.series if (series.name, series.labels) == (name, labels))

    yield read
    close_metrics()


async def test_a_batch_counts_once_and_each_item_by_its_wait(values: Values) -> None:
    async def compute(items: list[int]) -> Sequence[int | Exception]:
        await asyncio.sleep(0.02)
        return [ValueError("bad") if item == 2 else item for item in items]

    batcher: Batcher[int, int] = Batcher(compute, max_batch_cost=64, observer=StageObserver("types", "local"))
    await asyncio.gather(*(batcher.submit(item, cost=3) for item in range(4)), return_exceptions=True)
    assert sum(values("aisle_stage_compute_seconds", "types", "local")[:-1]) == 1
    assert values("aisle_stage_compute_seconds", "types", "local")[-1] >= 0.02
    assert sum(values("aisle_stage_queue_seconds", "types", "local")[:-1]) == 4
    assert values("aisle_stage_batch_items", "types")[-1] == 4
    assert values("aisle_stage_batch_cost", "types")[-1] == 12
    assert values("aisle_stage_failed_total", "types") == (1,)


async def test_refusals_count_by_their_reason_and_the_queue_is_told(values: Values) -> None:
    free = asyncio.Event()

    async def compute(items: list[int]) -> Sequence[int]:
        await free.wait()
        return items

    batcher: Batcher[int, int] = Batcher(compute, max_batch_cost=1, observer=StageObserver("types", "local"))
    with pytest.raises(DeadlineExceeded):
        await batcher.submit(0, deadline=time.monotonic() - 1)
    waiting = [asyncio.ensure_future(batcher.submit(item)) for item in range(3)]
    await asyncio.sleep(0.05)
    batcher.show(replicas=2)
    assert values("aisle_stage_queued_items", "types") == (2,)
    assert values("aisle_stage_queue_age_seconds", "types")[0] >= 0.04
    assert values("aisle_stage_replicas", "types") == (2,)
    waiting[-1].cancel()
    await asyncio.sleep(0)
    free.set()
    await batcher.close()
    with pytest.raises(Unavailable):
        await batcher.submit(0)
    reasons = ("full", "hopeless", "expired", "cancelled", "closed")
    assert [values("aisle_stage_refused_total", "types", reason) for reason in reasons] == [
        (0,),
        (0,),
        (1,),
        (1,),
        (1,),
    ]


async def test_operations_of_the_store_that_fail_count_and_those_given_up_do_not(values: Values) -> None:
    class Store:
        async def version(self, shopper: str) -> int:
            if shopper == "lost":
                raise Unavailable("the store is away")
            await asyncio.sleep(1)
            return 1

    store = CountedStore(Store())  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        await store.version("lost")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await store.version("slow")
    assert values("aisle_shopper_store_failed_total", "version") == (1,)
    assert sum(values("aisle_shopper_store_seconds", "version")[:-1]) == 2
    assert values("aisle_shopper_store_failed_total", "record") == (0,)


def test_an_answer_counts_by_what_it_is_and_what_it_lacks(values: Values) -> None:
    metrics = SearchMetrics()
    search = Search(query="sofa", locale="de-DE", page_size=10)
    metrics.answered(
        search, found([], total=0, degradations=(Degradation("types", "late"), Degradation("types", "twice")))
    )
    metrics.answered(
        search, found([7], total=5, corrected_query="sofa", matched={7: ["P7"]}, ranked_by=RankModel.STUDENT)
    )
    metrics.answered(search, found([7], total=24, shopper=Shopper(source=Source.STORED)))
    assert values("aisle_results", "de-DE") == (1, 0, 1, 1, 0, 0, 29)
    assert values("aisle_zero_results_total", "de-DE") == (1,)
    assert values("aisle_corrected_queries_total", "de-DE") == (1,)
    assert values("aisle_identifier_hits_total", "de-DE") == (1,)
    assert values("aisle_degradations_total", "Search", "types") == (1,)
    assert values("aisle_degradations_total", "Search", "shopper") == (0,)
    assert values("aisle_ranked_by_total", "Search", "student") == (1,)
    assert values("aisle_ranked_by_total", "Search", "none") == (2,)
    assert values("aisle_personalised_total", "Search", "stored") == (1,)


def found(rows: list[int], matched: dict[int, list[str]] | None = None, **more: Any) -> Results:
    hits = Candidates.of_rows(rows)
    hits.matched.update(matched or {})
    return Results(hits=hits, offset=0, has_more=False, retrieval_ranks=(), **more)


def test_gpus_are_told_as_their_library_tells_them_and_one_that_is_lost_is_left_out() -> None:
    class Library:
        """As `pynvml`, with two devices of which the second has fallen off the bus."""

        nvmlDeviceGetCount = staticmethod(lambda: 2)  # noqa: N815
        nvmlDeviceGetHandleByIndex = staticmethod(lambda number: number)  # noqa: N815

        @staticmethod
        def nvmlDeviceGetMemoryInfo(device: int) -> Any:  # noqa: N802
            if device:
                raise RuntimeError("GPU is lost")
            return type("Memory", (), {"used": 3 << 30, "total": 80 << 30})

        @staticmethod
        def nvmlDeviceGetUtilizationRates(_: int) -> Any:  # noqa: N802
            return type("Rates", (), {"gpu": 45})

    samples = {
        (sample.name, sample.labels["gpu"]): sample.value
        for family in Gpus(Library()).collect()
        for sample in family.samples
    }
    assert samples == {
        ("aisle_gpu_utilisation_ratio", "0"): 0.45,
        ("aisle_gpu_memory_used_bytes", "0"): 3 << 30,
        ("aisle_gpu_memory_bytes", "0"): 80 << 30,
    }
