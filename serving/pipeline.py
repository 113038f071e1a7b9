"""One search, top to bottom, in plain async Python: no gRPC, no Ray.

query -> its vector   \
                         -> the search's vector -> candidates -> page of products
shopper -> its vector /
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from models.events import Event
from models.spelling import Speller
from models.text_encoder import EncoderSpec, Text
from serving.batcher import Outcome
from serving.personaliser import Gain, Personaliser
from serving.retriever import NO_FILTER, Candidates, ProductFilter, Retrieval
from serving.shopper_vectors import Shopper
from serving.stages import Stage

Vector = npt.NDArray[np.float32]
First = TypeVar("First")
Second = TypeVar("Second")


@dataclass(frozen=True, slots=True)
class Search:
    """A valid search. `offset` hits come before this page."""

    query: str
    page_size: int
    offset: int = 0
    filter: ProductFilter = NO_FILTER
    verbatim: bool = False  # no mending of typing errors
    locale: str = ""
    shopper_id: str = ""
    recent_events: tuple[Event, ...] = ()  # instead of what the store has of the shopper
    personalisation: float = 1.0  # strength, 0 to 1
    min_similarity: float = -math.inf
    explain: bool = False
    boosts: tuple[float, ...] = ()  # weights of the bundle's static features, in their order


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
    shopper: Shopper = field(default_factory=Shopper)
    gains: dict[int, Gain] = field(default_factory=dict)  # by row, of an explained page that was personalised


class SearchPipeline:
    """The stages of a search, one after the other."""

    def __init__(
        self,
        encoder: Stage[Text, Vector],
        retriever: Stage[Retrieval, Candidates],
        encoder_spec: EncoderSpec,
        speller: Speller,
        max_results: int,
        personaliser: Personaliser | None = None,
    ) -> None:
        self.encoder = encoder
        self.retriever = retriever
        self.personaliser = personaliser
        self._max_tokens = {"query": encoder_spec.max_query_tokens, "product": encoder_spec.max_product_tokens}
        self._speller = speller
        self._max_results = max_results

    @property
    def stages(self) -> tuple[Stage[Any, Any], ...]:
        shopper = (self.personaliser.stage,) if self.personaliser else ()
        return self.encoder, *shopper, self.retriever

    def is_ready(self) -> bool:
        return all(stage.replicas() > 0 for stage in self.stages)

    def _cost(self, text: Text) -> int:
        """About how many tokens a text makes, without a tokenizer: four bytes to a token, and two that mark the ends."""
        return min(2 + max(1, len(text.text.encode()) // 4), self._max_tokens[text.side])

    def check_admission(self, deadline: float = math.inf) -> None:
        """Raises what a search that came now would be refused with, before any work on it."""
        self.encoder.batcher.check_admission(deadline=self._encode_by(deadline))
        self.retriever.batcher.check_admission(deadline=deadline)

    def _encode_by(self, deadline: float) -> float:
        """When the vector is needed: what is encoded too late to be retrieved in time was encoded for nothing."""
        return deadline - self.retriever.batcher.expected_s()

    async def search(self, search: Search, deadline: float) -> Results:
        """The page that `search` asks for. `deadline` is a time of `time.monotonic`."""
        query = search.query
        if not search.verbatim and self._speller.needs_mending(query):
            query = await asyncio.to_thread(self._speller.mend, query)
        text = Text(query, locale=search.locale)
        encoding = self.encoder(text, cost=self._cost(text), deadline=self._encode_by(deadline))
        personaliser = self.personaliser
        if personaliser is None:
            vector, shopper = await encoding, Shopper(reason="the served bundle has no shopper model")
        else:
            knowing = personaliser.shopper(search.shopper_id, search.recent_events, search.personalisation, deadline)
            vector, shopper = await _both(encoding, knowing)
        asked = vector.value
        if personaliser and shopper.vector is not None:
            asked = personaliser.move(asked, shopper.vector, search.personalisation)
        stop = min(search.offset + search.page_size, self._max_results)
        wanted = Retrieval(asked, self._depth(search, stop), search.filter, query, search.boosts)
        found = await self.retriever(wanted, cost=1, deadline=deadline, admitted=True)
        candidates = _relevant(found.value, search.min_similarity)
        gains = {}
        if personaliser and search.explain:
            page = candidates.rows[search.offset : stop]
            gains = await personaliser.explain(page, vector.value, asked, shopper, search.personalisation, deadline)
        phases = [_phase("encode", vector), _phase("retrieve", found)]
        if shopper.outcome:
            phases.insert(1, _phase("shopper", shopper.outcome))
        return Results(
            candidates=candidates,
            first=search.offset,
            stop=min(stop, len(candidates.rows)),
            has_more=len(candidates.rows) > stop,
            phases=tuple(phases),
            corrected_query=query if query != search.query else "",
            shopper=shopper,
            gains=gains,
        )

    def _depth(self, search: Search, stop: int) -> int:
        """Candidates to retrieve. Where features are weighed the similar ones among all that paging can reach may lie anywhere."""
        if search.boosts and search.min_similarity > -math.inf:
            return self._max_results
        return min(stop + 1, self._max_results)

    async def embed(self, texts: list[Text], deadline: float) -> npt.NDArray[np.float32]:
        """Unit vectors (len(texts), dim)."""
        tasks = [asyncio.ensure_future(self.encoder(text, cost=self._cost(text), deadline=deadline)) for text in texts]
        try:
            return np.stack([outcome.value for outcome in await asyncio.gather(*tasks)])
        finally:
            for task in tasks:
                task.cancel()  # where another one failed


def _phase(name: str, outcome: Outcome[Any]) -> PhaseTime:
    return PhaseTime(name, outcome.queue_ms, outcome.compute_ms, outcome.batch_size)


async def _both(first: Awaitable[First], second: Awaitable[Second]) -> tuple[First, Second]:
    """Side by side. What fails first ends the other."""
    task = asyncio.ensure_future(first)
    try:
        later = await second
        return await task, later
    finally:
        task.cancel()  # means nothing to one that is done


def _relevant(found: Candidates, min_similarity: float) -> Candidates:
    """Without the hits that are less similar, save those that hold an identifier of the query."""
    if min_similarity == -math.inf:
        return found
    kept = [
        at
        for at, (similarity, boost) in enumerate(zip(found.similarities, found.identifier_boosts, strict=True))
        if similarity >= min_similarity or boost > 0
    ]
    return Candidates(
        rows=[found.rows[at] for at in kept],
        scores=[found.scores[at] for at in kept],
        similarities=[found.similarities[at] for at in kept],
        identifier_boosts=[found.identifier_boosts[at] for at in kept],
        matched=found.matched,
        feature_boosts=[found.feature_boosts[at] for at in kept],
    )
