"""One search, top to bottom, in plain async Python: no gRPC, no Ray.

query -> vector -> candidates -> page of products
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.spelling import Speller
from models.text_encoder import EncoderSpec, Text
from serving.batcher import Outcome
from serving.retriever import NO_FILTER, Candidates, ProductFilter, Retrieval
from serving.stages import Stage

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Search:
    """A valid search. `offset` hits come before this page."""

    query: str
    page_size: int
    offset: int = 0
    filter: ProductFilter = NO_FILTER
    verbatim: bool = False  # no mending of typing errors


@dataclass(frozen=True, slots=True)
class PhaseTime:
    name: str
    queue_ms: float
    compute_ms: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class Results:
    """One page. `candidates` runs from the first hit of all to the last of this page; `has_more` says that a page follows."""

    candidates: Candidates
    first: int
    stop: int
    has_more: bool
    phases: tuple[PhaseTime, ...]
    corrected_query: str = ""  # what was searched, where that is not what was asked


class SearchPipeline:
    """The stages of a search, one after the other."""

    def __init__(
        self,
        encoder: Stage[Text, Vector],
        retriever: Stage[Retrieval, Candidates],
        encoder_spec: EncoderSpec,
        speller: Speller,
        max_results: int,
    ) -> None:
        self.encoder = encoder
        self.retriever = retriever
        self._max_tokens = {"query": encoder_spec.max_query_tokens, "product": encoder_spec.max_product_tokens}
        self._speller = speller
        self._max_results = max_results

    @property
    def stages(self) -> tuple[Stage[Text, Vector], Stage[Retrieval, Candidates]]:
        return self.encoder, self.retriever

    def is_ready(self) -> bool:
        return all(stage.replicas() > 0 for stage in self.stages)

    def _cost(self, text: Text) -> int:
        """About how many tokens a text makes, without a tokenizer: four bytes to a token, and two that mark the ends."""
        return min(2 + max(1, len(text.text.encode()) // 4), self._max_tokens[text.side])

    def check_admission(self, deadline: float = math.inf) -> None:
        """Raises what a search that came now would be refused with, before any work on it."""
        for stage in self.stages:
            stage.batcher.check_admission(deadline=deadline)

    async def search(self, search: Search, deadline: float) -> Results:
        """The page that `search` asks for. `deadline` is a time of `time.monotonic`."""
        query = search.query
        if not search.verbatim and self._speller.needs_mending(query):
            query = await asyncio.to_thread(self._speller.mend, query)
        text = Text(query)
        vector = await self.encoder(text, cost=self._cost(text), deadline=deadline)
        stop = min(search.offset + search.page_size, self._max_results)
        wanted = Retrieval(vector.value, min(stop + 1, self._max_results), search.filter, query)
        found = await self.retriever(wanted, cost=1, deadline=deadline)
        return Results(
            candidates=found.value,
            first=search.offset,
            stop=min(stop, len(found.value.rows)),
            has_more=len(found.value.rows) > stop,
            phases=(_phase("encode", vector), _phase("retrieve", found)),
            corrected_query=query if query != search.query else "",
        )

    async def embed(self, texts: list[Text], deadline: float) -> npt.NDArray[np.float32]:
        """Unit vectors (len(texts), dim)."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.encoder(text, cost=self._cost(text), deadline=deadline)) for text in texts]
        return np.stack([task.result().value for task in tasks])


def _phase(name: str, outcome: Outcome[Any]) -> PhaseTime:
    return PhaseTime(name, outcome.queue_ms, outcome.compute_ms, outcome.batch_size)
