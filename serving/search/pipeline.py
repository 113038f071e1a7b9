"""One search, top to bottom, in plain async Python: no gRPC, no Ray.

search -> understand -> retrieve -> rank -> page
            query         candidates  order   hits, facets,
            shopper       and their           reasons
            types         scores
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from models.arrays import Floats
from models.query_types.type_model import TypePrediction
from models.text_encoder.spec import Text
from serving.compute.query_typer import TypeQuestion
from serving.search.page import Page, degraded_inputs
from serving.search.ranker import Ranker
from serving.search.readers import TextStage
from serving.search.request import Caller, RankCall, Search, TypeUse
from serving.search.results import RankedProducts, Results
from serving.search.retrieve import Retrieve
from serving.search.shopper_vectors import Shopper
from serving.search.understand import Understand
from serving.stages.stage import Stage


class SearchPipeline:
    """The four steps of a search, and the calls that take some of them."""

    def __init__(
        self, texts: TextStage, understand: Understand, retrieve: Retrieve, ranker: Ranker, page: Page
    ) -> None:
        self._texts = texts
        self._understand = understand
        self._retrieve = retrieve
        self._rank = ranker
        self._page = page

    async def search(self, search: Search, deadline: float) -> Results:
        """Returns the page that `search` asks for. `deadline` is a time of `time.monotonic`."""
        query = search.query
        if not search.verbatim:
            query = await self._understand.corrected(query, search.locale)
        classifies = search.type_use is not TypeUse.OFF or search.is_ranked  # the ranker reads the types too
        understanding = await self._understand(
            search, deadline, text=query, type_use=search.type_use, classifies=classifies
        )
        retrieval = await self._retrieve(search, understanding, deadline)
        ranked = await self._rank(search, understanding, retrieval, deadline)
        return await self._page(search, understanding, retrieval, ranked, deadline)

    async def rank(self, call: RankCall, deadline: float) -> RankedProducts:
        """Returns the order of a caller's candidates. Raises AisleError if the student fails: without it there is no answer."""
        understanding = await self._understand(call, deadline, text=call.query, type_use=TypeUse.OFF, classifies=True)
        ranked = await self._rank.rank(call, understanding.subject, deadline)
        order = ranked.order
        return RankedProducts(
            candidates=call.candidates,
            places=order.places,
            chances=order.chances(0, len(order.places)),
            ranked_by=order.by,
            is_known=ranked.scored.is_known,
            factors=ranked.factors,
            shopper=understanding.shopper,
            degradations=(*degraded_inputs(understanding), *ranked.degradations),
            phases=(*understanding.phases, *ranked.phases),
        )

    async def classify(self, question: TypeQuestion, deadline: float) -> tuple[TypePrediction, ...]:
        """Returns the types of each query. Raises NotServed where the bundle has no classifier."""
        return await self._understand.classify(question, deadline)

    async def embed(self, texts: Sequence[Text], deadline: float) -> Floats:
        """Returns unit vectors (texts, dim)."""
        return await self._texts.embed(texts, deadline)

    async def read_shopper(self, caller: Caller, deadline: float) -> Shopper:
        """Returns what is known of the caller's shopper. Raises NotServed where the bundle has no shopper model."""
        return await self._understand.reader.read_shopper(caller, deadline)

    def check_admission(self, deadline: float = math.inf) -> None:
        """Raises what a search that came now would be refused with, before any work on it."""
        self._understand.reader.check_admission(deadline)
        self._retrieve.check_admission(deadline)

    def check_embedding(self) -> None:
        """Raises what an embedding call that came now would be refused with."""
        self._texts.stage.batcher.check_admission()

    def check_classification(self) -> None:
        """Raises what a classification that came now would be refused with."""
        if self._understand.typer:
            self._understand.typer.batcher.check_admission()

    @property
    def stages(self) -> tuple[Stage[Any, Any], ...]:
        teacher = (self._rank.teacher.stage,) if self._rank.teacher else ()
        return *self._needed_stages, *teacher

    @property
    def _needed_stages(self) -> tuple[Stage[Any, Any], ...]:
        typer = (self._understand.typer,) if self._understand.typer else ()
        return *self._understand.reader.stages, *typer, self._retrieve.stage

    @property
    def knows_shoppers(self) -> bool:
        """Says whether the bundle's model reads histories of shoppers."""
        return self._understand.reader.knows_shoppers

    def is_ready(self) -> bool:
        """Says whether all stages but the teacher are up: without the teacher a search is only degraded."""
        return all(stage.replicas() > 0 for stage in self._needed_stages)
