"""Step one of a search: what the query says and who is asking, from several stages side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from models.query_types.type_model import TypePrediction
from serving.compute.filter_masks import ProductFilter
from serving.compute.query_typer import TypeQuestion
from serving.compute.retrieval import Query, Subject
from serving.errors import NotServed
from serving.search.failure import reason_of
from serving.search.personaliser import Gain
from serving.search.query_text import QueryText, QueryTexts
from serving.search.request import Caller, TypeUse
from serving.search.results import PhaseTime
from serving.search.shopper_vectors import Shopper
from serving.search.type_use import TypeFinding, usable
from serving.stages.batcher import Outcome
from serving.stages.stage import Stage

Value = TypeVar("Value")
TypeStage = Stage[TypeQuestion, tuple[TypePrediction, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryReading:
    """A query as the bundle's model reads it, and what is known of its shopper."""

    query: Query
    shopper: Shopper
    phases: tuple[PhaseTime, ...]


class QueryReader(Protocol):
    """How the bundle's model reads queries: a text encoder by itself, the unified model together with the shopper."""

    @property
    def stages(self) -> tuple[Stage[Any, Any], ...]:
        """Returns the stages before the retriever that a search cannot do without."""

    @property
    def queueing(self) -> Stage[Any, Any] | None:
        """Returns the stage before the retriever that a search waits for, however long its queue is."""

    def check_admission(self, deadline: float, /) -> None:
        """Raises what a search that came now would be refused with."""

    async def read(self, caller: Caller, query: Query, deadline: float, /) -> QueryReading: ...

    async def read_shopper(self, caller: Caller, deadline: float, /) -> Shopper:
        """Raises NotServed where the bundle has no shopper model."""

    async def explain(
        self, rows: Sequence[int], subject: Subject, shopper: Shopper, deadline: float, /
    ) -> dict[int, Gain]:
        """Returns by row what the shopper's history added to each product's similarity; nothing for a plain search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Understanding:
    """What a query asks for, and who asks."""

    subject: Subject
    shopper: Shopper
    types: TypeFinding
    phases: tuple[PhaseTime, ...]
    others: tuple[Understanding, ...] = ()  # of the other readings of the query, which are searched too

    @property
    def readings(self) -> tuple[Understanding, ...]:
        """Returns what each reading of the query asks for, its own first."""
        return self, *self.others


# Of a search without a query.
NOTHING_ASKED = Understanding(
    subject=Subject(query=Query("")),
    shopper=Shopper(reason="a search without a query is the same for everybody"),
    types=TypeFinding(),
    phases=(),
)


class Understand:
    """`typer` is None for a bundle without a classifier."""

    def __init__(self, reader: QueryReader, typer: TypeStage | None, texts: QueryTexts) -> None:
        self.reader = reader
        self.typer = typer
        self._texts = texts

    async def query_text(self, query: str, locale: str, product_filter: ProductFilter) -> QueryText:
        """Returns what is searched for a query."""
        if self._texts.may_take_long(query, locale):
            return await asyncio.to_thread(self._texts.read, query, locale, product_filter)
        return self._texts.read(query, locale, product_filter)

    async def __call__(
        self, caller: Caller, deadline: float, *, text: str, type_use: TypeUse, classifies: bool
    ) -> Understanding:
        """Reads `text` for the caller and, with `classifies`, its product types."""
        query = Query(text, caller.locale)
        with Background() as background:
            typing = None
            if self.typer and classifies:
                typing = background.begin(self._find_types(self.typer, query, type_use, deadline))
            reading = await self.reader.read(caller, query, deadline)
            types = await typing if typing else TypeFinding()
        subject = Subject(
            query=reading.query,
            shopper=reading.shopper.vector,
            personalisation=caller.personalisation,
            taste=reading.shopper.taste,
            types=types.prediction if types.outcome else None,
        )
        phases = reading.phases + ((PhaseTime.of_stage("types", types.outcome),) if types.outcome else ())
        return Understanding(subject=subject, shopper=reading.shopper, types=types, phases=phases)

    async def classify(self, question: TypeQuestion, deadline: float) -> tuple[TypePrediction, ...]:
        """Returns the types of each query. Raises NotServed if the bundle has no classifier."""
        if self.typer is None:
            raise NotServed("this bundle has no classifier of queries")
        return (await self.typer(question, cost=len(question.queries), deadline=deadline)).value

    @staticmethod
    async def _find_types(typer: TypeStage, query: Query, requested: TypeUse, deadline: float) -> TypeFinding:
        """Returns the query's types, or why there are none: a search goes on without them."""
        try:
            outcome: Outcome[tuple[TypePrediction, ...]] = await typer(
                TypeQuestion(((query.text, query.locale),)), cost=1, deadline=deadline
            )
        except Exception as error:
            return TypeFinding(failure=reason_of("the types stage", error))
        (prediction,) = outcome.value
        return TypeFinding(prediction, usable(prediction, requested), outcome)


class Background:
    """Runs work side by side with a block; what has not ended when the block ends is cancelled."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def begin(self, work: Coroutine[Any, Any, Value]) -> asyncio.Task[Value]:
        task = asyncio.ensure_future(work)
        self._tasks.append(task)
        return task

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks:
            if not task.cancel() and not task.cancelled():
                task.exception()  # retrieved, so that asyncio does not complain that nobody did
