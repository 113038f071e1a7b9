"""A stage is plain compute with a batcher in front. Where it computes is not visible to its callers.

`serving.stages.local` computes in the gateway's process, `serving.stages.remote` in Ray Serve replicas.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from serving.config import LightStageConfig
from serving.errors import Unavailable
from serving.stages.batcher import Batcher, Outcome
from serving.stages.stage_observer import StageObserver

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Compute(Protocol[Item_contra, Result_co]):
    """The work of a stage. One thread calls it at a time."""

    max_batch_cost: int
    backend: str

    def warm_up(self) -> None: ...

    def compute(self, items: Sequence[Item_contra]) -> Sequence[Result_co | Exception]:
        """Returns a result for each item; an exception fails its item alone."""


# A batch on its way through shards. Each step says what to ask of every shard (nothing: an empty list), and takes their answers: None of
# one that was not asked, or did not answer. The last returns the results.
Steps: TypeAlias = Generator[Sequence[list[Any]], Sequence[Any], list[Result | Exception]]


class Merge(Protocol[Item_contra, Result]):
    """How a batch is divided among shards, and what they find brought together. It knows neither processes nor time."""

    def steps(self, items: Sequence[Item_contra], up: Sequence[bool], /) -> Steps[Result]:
        """Takes a batch to its results. `up` says which shards are asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan(Generic[Item, Result]):
    """How to make a stage. `load` runs in the process that computes; the gateway knows the rest without loading anything."""

    name: str
    config: LightStageConfig
    load: Callable[[], Compute[Item, Result]]
    max_batch_cost: int
    is_long: bool = False  # always computes on a thread: the event loop could not wait for it
    shards: tuple[
        StagePlan[Any, Any], ...
    ] = ()  # of a stage that has none of the data itself, but brings together what these find
    load_merge: Callable[[], Merge[Item, Result]] | None = None  # how it does so; runs in the gateway


class Stage(Protocol[Item, Result]):
    """What the search path sees of a stage."""

    name: str
    placement: str
    backend: str
    batcher: Batcher[Item, Result]

    async def __call__(self, item: Item, *, cost: int, deadline: float, admitted: bool = False) -> Outcome[Result]:
        """Computes one item in a batch. `cost`, `deadline` and `admitted` are those of `Batcher.submit`."""

    def replicas(self) -> int:
        """Returns how many replicas can compute now."""

    async def close(self) -> None: ...


class BatchedStage(ABC, Generic[Item, Result]):
    """What the stages of both placements share: the batcher, and the refusal while no replica is up."""

    def __init__(self, plan: StagePlan[Item, Result], slots: Callable[[], int]) -> None:
        self.name = plan.name
        self.placement: str = plan.config.placement
        self.backend = ""
        self.batcher: Batcher[Item, Result] = Batcher(
            self._compute,
            max_batch_cost=plan.max_batch_cost,
            slots=slots,
            max_wait_s=plan.config.max_wait_ms / 1000,
            observer=StageObserver(self.name, self.placement),
        )

    async def __call__(self, item: Item, *, cost: int, deadline: float, admitted: bool = False) -> Outcome[Result]:
        """Raises Unavailable while no replica is up, and what `Batcher.submit` raises."""
        if not self.replicas():
            raise Unavailable(f"no replica of the {self.name} stage is up; send the call again")
        return await self.batcher.submit(item, cost=cost, deadline=deadline, admitted=admitted)

    @abstractmethod
    def replicas(self) -> int: ...

    async def close(self) -> None:
        await self.batcher.close()

    @abstractmethod
    async def _compute(self, items: list[Item]) -> Sequence[Result | Exception]: ...
