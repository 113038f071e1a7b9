"""How a bundle's model reads a query: `TextReader` for text encoders, `UnifiedReader` for the unified model, which also knows shoppers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.arrays import Floats
from models.text_encoder.spec import EncoderSpec, Text
from serving.compute.retrieval import EncodedQuery, Query, Subject
from serving.errors import NotServed
from serving.search.personaliser import Gain, Personaliser
from serving.search.request import Caller
from serving.search.results import PhaseTime
from serving.search.shopper_vectors import Shopper
from serving.search.understand import QueryReading
from serving.stages.outcomes import gather_or_cancel
from serving.stages.stage import Item, Stage

TOKEN_BYTES = 4
ORDINARY_TOKENS = 8  # of a query


async def embed_together(stage: Stage[Item, Floats], items: Sequence[tuple[Item, int]], deadline: float) -> Floats:
    """Returns the vectors (items, dim) of items with their costs. They are admitted together: a call that lost some of its items would have
    no use for the rest."""
    stage.batcher.check_admission(sum(cost for _, cost in items), deadline)
    outcomes = await gather_or_cancel(
        [stage(item, cost=cost, deadline=deadline, admitted=True) for item, cost in items]
    )
    return np.stack([outcome.value for outcome in outcomes])


class TextStage:
    """The encoder stage, and the cost of a text: its tokens, estimated without a tokenizer."""

    def __init__(self, stage: Stage[Text, Floats], spec: EncoderSpec) -> None:
        self.stage = stage
        self._max_tokens = {"query": spec.max_query_tokens, "product": spec.max_product_tokens}

    def cost(self, text: Text) -> int:
        """Returns the estimated tokens of a text, with the two that mark its ends."""
        return min(2 + max(1, len(text.text.encode()) // TOKEN_BYTES), self._max_tokens[text.side])

    async def embed(self, texts: Sequence[Text], deadline: float) -> Floats:
        """Returns unit vectors (texts, dim)."""
        return await embed_together(self.stage, [(text, self.cost(text)) for text in texts], deadline)


class TextReader:
    """Encodes a query's text; every shopper gets the same vector. `retrieval_s` estimates the time that the retrieval takes: a query
    that is encoded too late for it is not worth encoding."""

    def __init__(self, texts: TextStage, retrieval_s: Callable[[], float]) -> None:
        self._texts = texts
        self._retrieval_s = retrieval_s

    @property
    def stages(self) -> tuple[Stage[Any, Any], ...]:
        return (self._texts.stage,)

    @property
    def queueing(self) -> Stage[Any, Any] | None:
        return self._texts.stage

    def check_admission(self, deadline: float) -> None:
        self._texts.stage.batcher.check_admission(deadline=deadline - self._retrieval_s())

    async def read(self, _: Caller, query: Query, deadline: float) -> QueryReading:
        text = Text(query.text, locale=query.locale)
        by = deadline - self._retrieval_s()
        outcome = await self._texts.stage(text, cost=self._texts.cost(text), deadline=by)
        return QueryReading(
            query=EncodedQuery(query.text, query.locale, vector=outcome.value),
            shopper=Shopper(reason="the served bundle has no shopper model"),
            phases=(PhaseTime.of_stage("encode", outcome),),
        )

    async def read_shopper(self, *_: object) -> Shopper:
        raise NotServed("this bundle has no shopper model")

    async def explain(self, *_: object) -> dict[int, Gain]:
        return {}

    def forget(self, shopper_id: str) -> None:
        """Does nothing: nothing is kept of shoppers."""


class UnifiedReader:
    """Reads the shopper; the retriever encodes the query itself. `texts` is the stage that encodes for EmbedQueries."""

    def __init__(self, texts: TextStage, personaliser: Personaliser) -> None:
        self._texts = texts
        self._personaliser = personaliser

    @property
    def stages(self) -> tuple[Stage[Any, Any], ...]:
        return self._texts.stage, self._personaliser.stage

    @property
    def queueing(self) -> Stage[Any, Any] | None:
        """None: a search without its shopper is a plain one."""
        return None

    def check_admission(self, deadline: float) -> None:
        """Refuses nothing: a search that lacks its shopper is a plain one."""

    async def read(self, caller: Caller, query: Query, deadline: float) -> QueryReading:
        shopper = await self.read_shopper(caller, deadline)
        phases = (PhaseTime.of_stage("shopper", shopper.outcome),) if shopper.outcome else ()
        return QueryReading(query=query, shopper=shopper, phases=phases)

    async def read_shopper(self, caller: Caller, deadline: float) -> Shopper:
        return await self._personaliser.shopper(
            caller.shopper_id, caller.recent_events, caller.personalisation, deadline
        )

    async def explain(
        self, rows: Sequence[int], subject: Subject, shopper: Shopper, deadline: float
    ) -> dict[int, Gain]:
        return await self._personaliser.explain(rows, subject, shopper, deadline)

    def forget(self, shopper_id: str) -> None:
        """Drops what this gateway has derived of the shopper."""
        self._personaliser.shoppers.forget(shopper_id)
