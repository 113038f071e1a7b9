"""One search, top to bottom, in plain async Python: no gRPC, no Ray.

query   -> its vector \
shopper -> its vector  -> candidates, moved by shopper and types, ranked -> page of products
query   -> its types  /
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from bisect import bisect_left
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from models.arrays import Floats
from models.events.event import Event
from models.products.spelling import Speller
from models.query_types.type_model import TypePrediction
from models.text_encoder.spec import EncoderSpec, Text
from serving.compute.filter_masks import NO_FILTER, FilterMasks, ProductFilter
from serving.compute.order import (
    AS_RETRIEVED,
    Degradation,
    Factors,
    GivenCandidates,
    Ranked,
    Ranking,
    RankInput,
    RankModel,
    Weights,
    by_student,
)
from serving.compute.query_typer import TypeQuestion
from serving.compute.retriever import Candidates, Retrieval
from serving.errors import AisleError, NotServed
from serving.search.personaliser import Gain, Personaliser
from serving.search.ranker import NO_TIME, CandidateRanker, RankedPicked, TeacherStage
from serving.search.shopper_vectors import Shopper
from serving.search.type_use import TypeFinding, TypeUse, facets, gains, use_of
from serving.stages.batcher import Outcome
from serving.stages.stage import Stage

TypeStage = Stage[TypeQuestion, tuple[TypePrediction, ...]]
Value = TypeVar("Value")
FACET_HITS = 100


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
    type_use: TypeUse = TypeUse.OFF
    type_boost: float = 0.0
    ranking: Ranking = AS_RETRIEVED


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
    types: TypeFinding = field(default_factory=TypeFinding)
    ranked: Ranked | None = None  # how the candidates came to their order; None: as they were retrieved
    factors: dict[int, Factors] = field(default_factory=dict)  # by row, of an explained page that was ranked


@dataclass(frozen=True, slots=True)
class RankCall:
    """A valid Rank call: candidates of the caller's, all of which are ranked. The first `num_explained` are explained."""

    query: str
    candidates: GivenCandidates
    ranking: Ranking
    locale: str = ""
    shopper_id: str = ""
    recent_events: tuple[Event, ...] = ()
    personalisation: float = 1.0
    num_explained: int = 0


@dataclass(frozen=True, slots=True)
class RankedProducts:
    told: RankedPicked
    shopper: Shopper
    types: TypeFinding
    phases: tuple[PhaseTime, ...]


class SearchPipeline:
    """The stages of a search, one after the other."""

    def __init__(
        self,
        encoder: Stage[Text, Floats],
        retriever: Stage[Retrieval, Candidates],
        encoder_spec: EncoderSpec,
        speller: Speller,
        max_results: int,
        personaliser: Personaliser | None = None,
        typer: TypeStage | None = None,
        masks: FilterMasks | None = None,
        language: str = "",
        teacher: TeacherStage | None = None,
    ) -> None:
        """`masks` are the catalogue's, for facets and diversity; `language` is the one that its products are written in: other
        languages' words are not mended with its own."""
        self._language = _language(language)
        self.encoder = encoder
        self.retriever = retriever
        self.personaliser = personaliser
        self.typer = typer
        self._masks = masks
        self._max_tokens = {"query": encoder_spec.max_query_tokens, "product": encoder_spec.max_product_tokens}
        self._speller = speller
        self._max_results = max_results
        self._ranker = CandidateRanker(retriever, masks, teacher)

    @property
    def stages(self) -> tuple[Stage[Any, Any], ...]:
        teacher = (self._ranker.teacher.stage,) if self._ranker.teacher else ()
        return *self._needed_stages, *teacher

    @property
    def _needed_stages(self) -> tuple[Stage[Any, Any], ...]:
        shopper = (self.personaliser.stage,) if self.personaliser else ()
        typer = (self.typer,) if self.typer else ()
        return self.encoder, *shopper, *typer, self.retriever

    def is_ready(self) -> bool:
        """Whether all is up but the teacher, without which a search is only a little less."""
        return all(stage.replicas() > 0 for stage in self._needed_stages)

    def _cost(self, text: Text) -> int:
        """About how many tokens a text makes, without a tokenizer: four bytes to a token, and two that mark the ends."""
        return min(2 + max(1, len(text.text.encode()) // 4), self._max_tokens[text.side])

    def check_admission(self, deadline: float = math.inf) -> None:
        """Raises what a search that came now would be refused with, before any work on it."""
        if self.personaliser is None:
            self.encoder.batcher.check_admission(deadline=self._encode_by(deadline))
        self.retriever.batcher.check_admission(deadline=deadline)

    def _encode_by(self, deadline: float) -> float:
        """When the vector is needed: what is encoded too late to be retrieved in time was encoded for nothing."""
        return deadline - self.retriever.batcher.expected_s()

    async def search(self, search: Search, deadline: float) -> Results:
        """The page that `search` asks for. `deadline` is a time of `time.monotonic`."""
        query = search.query
        may_mend = not search.verbatim and _language(search.locale) in ("", self._language)
        if may_mend and self._speller.needs_correction(query):
            query = await asyncio.to_thread(self._speller.correct, query)
        text = Text(query, locale=search.locale)
        encoded = None
        with _Beside() as beside:
            typing = None
            is_ranked = search.ranking.model is not RankModel.NONE
            if self.typer and (search.type_use is not TypeUse.OFF or is_ranked):  # the ranker reads them too
                typing = beside.begin(_find_types(self.typer, query, search, deadline))
            if self.personaliser is None:
                encoded = await self.encoder(text, cost=self._cost(text), deadline=self._encode_by(deadline))
                shopper = Shopper(reason="the served bundle has no shopper model")
            else:  # the retriever encodes the query
                shopper = await self._shopper(self.personaliser, search, deadline)
            types = await typing if typing else TypeFinding()
        stop = min(search.offset + search.page_size, self._max_results)
        too_late = is_ranked and not self._ranker.has_time(deadline)
        known = _rank_input(search.ranking, shopper, types) if is_ranked and not too_late else None
        vector = encoded.value if encoded else None
        wanted = _retrieval(search, query, vector, self._depth(search, stop), shopper, known)
        found, types = await self._retrieve(wanted, search, types, deadline)
        relevant, num_movable = _relevant(
            found.value, search.min_similarity, search.ranking.depth, search.ranking.weights
        )
        ranked, reread = await self._ranker.order(relevant, num_movable, wanted, search.ranking, deadline)
        lesser: tuple[Degradation, ...] = (NO_TIME,) if too_late else ()
        num_hits = min(len(relevant.rows), self._max_results)
        candidates = relevant.take(ranked.order[: min(stop, num_hits)].tolist())
        if _is_counted(types, self._masks):
            first = [relevant.rows[at] for at in ranked.order[:FACET_HITS].tolist()]
            types = dataclasses.replace(types, facets=facets(self._masks.categories(first)) if self._masks else ())
        gained: dict[int, Gain] = {}
        factors: dict[int, Factors] = {}
        if search.explain:
            page = candidates.rows[search.offset :]
            if self.personaliser:
                gained = await self.personaliser.explain(page, text, shopper, search.personalisation, deadline)
            if wanted.ranking:
                explained = page[: max(0, len(ranked.chances) - search.offset)]
                factors, unexplained = await self._ranker.factors(explained, wanted, deadline)
                lesser += unexplained
        phases = [_phase("encode", encoded)] if encoded else []
        phases += [_phase("shopper", shopper.outcome)] if shopper.outcome else []
        phases += [_phase("types", types.outcome)] if types.outcome else []
        phases.append(_phase("retrieve", found))
        phases += [_phase("teacher", reread)] if reread else []
        return Results(
            candidates=candidates,
            first=search.offset,
            stop=len(candidates.rows),
            has_more=num_hits > stop,
            phases=tuple(phases),
            corrected_query=query if query != search.query else "",
            shopper=shopper,
            gains=gained,
            types=types,
            ranked=dataclasses.replace(ranked, lesser=(*ranked.lesser, *lesser)) if lesser else ranked,
            factors=factors,
        )

    async def rank(self, wish: RankCall, deadline: float) -> RankedProducts:
        """The order of candidates that the caller brings. Raises AisleError where the student fails: there is no lesser answer."""
        if self.personaliser is None:
            raise NotServed("this bundle has no shopper model, so it holds no ranker")
        search = Search(
            wish.query,
            0,
            locale=wish.locale,
            shopper_id=wish.shopper_id,
            recent_events=wish.recent_events,
            personalisation=wish.personalisation,
        )
        with _Beside() as beside:
            typing = beside.begin(_find_types(self.typer, search.query, search, deadline)) if self.typer else None
            shopper = await self._shopper(self.personaliser, search, deadline)
            types = await typing if typing else TypeFinding()
        known = _rank_input(wish.ranking, shopper, types)
        wanted = _retrieval(search, search.query, None, 0, shopper, known)
        told = await self._ranker.rank(wish.candidates, wanted, wish.ranking, wish.num_explained, deadline)
        phases = [_phase("shopper", shopper.outcome)] if shopper.outcome else []
        phases += [_phase("types", types.outcome)] if types.outcome else []
        phases.append(_phase("rank", told.judging))
        phases += [_phase("teacher", told.reading)] if told.reading else []
        return RankedProducts(told, shopper, types, tuple(phases))

    async def classify(self, question: TypeQuestion, deadline: float) -> tuple[TypePrediction, ...]:
        """The types of each query. Raises NotServed where the bundle has no classifier."""
        if self.typer is None:
            raise NotServed("this bundle has no classifier of queries")
        return (await self.typer(question, cost=len(question.queries), deadline=deadline)).value

    async def _retrieve(
        self, wanted: Retrieval, search: Search, types: TypeFinding, deadline: float
    ) -> tuple[Outcome[Candidates], TypeFinding]:
        """Candidates by what the types are used for, and what came of that."""
        asked = dataclasses.replace(
            wanted,
            k=self._counted(wanted.k, types),
            type_gains=gains(types, search.type_boost),
            only_types=types.used is TypeUse.FILTER,
        )
        # Where nothing came before, it is refused here when there is too much to do.
        found = await self.retriever(asked, cost=1, deadline=deadline, admitted=wanted.vector is not None)
        if types.used is TypeUse.FILTER and not found.value.rows:
            types = dataclasses.replace(types, used=TypeUse.FACETS)
            wanted = dataclasses.replace(wanted, k=self._counted(wanted.k, types))
            found = await self.retriever(wanted, cost=1, deadline=deadline, admitted=True)
        return found, types

    def _counted(self, k: int, types: TypeFinding) -> int:
        return max(k, min(FACET_HITS, self._max_results)) if _is_counted(types, self._masks) else k

    @staticmethod
    async def _shopper(personaliser: Personaliser, search: Search, deadline: float) -> Shopper:
        return await personaliser.shopper(search.shopper_id, search.recent_events, search.personalisation, deadline)

    def _depth(self, search: Search, stop: int) -> int:
        """Candidates to retrieve. Where features are weighed the similar ones among all that paging can reach may lie anywhere."""
        if search.boosts and search.min_similarity > -math.inf:
            return max(self._max_results, search.ranking.depth)
        return max(min(stop + 1, self._max_results), search.ranking.depth)

    async def embed(self, texts: list[Text], deadline: float) -> Floats:
        """Unit vectors (len(texts), dim)."""
        tasks = [asyncio.ensure_future(self.encoder(text, cost=self._cost(text), deadline=deadline)) for text in texts]
        try:
            return np.stack([outcome.value for outcome in await asyncio.gather(*tasks)])
        finally:
            for task in tasks:
                task.cancel()  # where another one failed


async def _find_types(typer: TypeStage, query: str, search: Search, deadline: float) -> TypeFinding:
    """What the query asks for. A search never fails for want of it."""
    try:
        outcome = await typer(TypeQuestion(((query, search.locale),)), cost=1, deadline=deadline)
    except AisleError as error:
        return TypeFinding(failed=f"the types stage failed: {error.message}")
    (told,) = outcome.value
    return TypeFinding(told, use_of(told, search.type_use), outcome=outcome)


def _language(locale: str) -> str:
    return locale.partition("-")[0].casefold()


def _phase(name: str, outcome: Outcome[Any]) -> PhaseTime:
    return PhaseTime(name, outcome.queue_ms, outcome.compute_ms, outcome.batch_size)


class _Beside:
    """Work that goes on beside what the block does, and ends with it."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def begin(self, work: Coroutine[Any, Any, Value]) -> asyncio.Task[Value]:
        task = asyncio.ensure_future(work)
        self._tasks.append(task)
        return task

    def __enter__(self) -> _Beside:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks:
            if not task.cancel() and not task.cancelled():
                task.exception()  # of one that has failed meanwhile: seen, so that nobody complains of it


def _retrieval(
    search: Search, query: str, vector: Floats | None, k: int, shopper: Shopper, ranking: RankInput | None
) -> Retrieval:
    return Retrieval(
        vector,
        k,
        search.filter,
        query,
        search.boosts,
        shopper.vector,
        search.personalisation,
        search.locale,
        ranking=ranking,
    )


def _rank_input(ranking: Ranking, shopper: Shopper, types: TypeFinding) -> RankInput:
    known = types.prediction if types.outcome else None
    return RankInput(ranking.depth, ranking.weights, shopper.taste, known)


def _is_counted(types: TypeFinding, masks: FilterMasks | None) -> bool:
    """Whether the answer tells how the first hits divide over categories."""
    return types.used is TypeUse.FACETS and not types.prediction.abstained and masks is not None


def _relevant(found: Candidates, min_similarity: float, depth: int, weights: Weights) -> tuple[Candidates, int]:
    """Without the candidates that are less similar, save those that hold an identifier of the query; and how many of the best `depth`
    are left."""
    if min_similarity == -math.inf:
        return found, min(depth, len(found.rows))
    kept = [
        at
        for at, (similarity, boost) in enumerate(zip(found.similarities, found.identifier_boosts, strict=True))
        if similarity >= min_similarity or boost > 0
    ]
    num_movable = bisect_left(kept, depth)
    relevant = found.take(kept)
    if found.judged:
        ranked = by_student(found.judged.chances[kept[:num_movable]], weights, relevant.identifier_boosts)
        relevant = dataclasses.replace(relevant, ranked=ranked)
    return dataclasses.replace(relevant, rank_failed=found.rank_failed), num_movable
