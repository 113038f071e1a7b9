"""One search, top to bottom, in plain async Python: no gRPC, no Ray.

search -> understand -> retrieve -> rank -> page
            query         candidates  order   hits, total,
            shopper       facets              reasons
            types         scores

A search without a query is understood to ask for nothing, and is retrieved from all products.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

from models.arrays import Floats
from models.products.product import Product
from models.query_types.type_model import TypePrediction
from models.text_encoder.spec import Text
from serving.catalogue.follower import Follower
from serving.compute.query_typer import TypeQuestion
from serving.errors import AisleError, Unavailable
from serving.search.failure import reason_of
from serving.search.page import Page, degraded_inputs
from serving.search.product_vectors import PRODUCT_COST, ProductVectors
from serving.search.query_text import QueryText, Reading, reworded
from serving.search.ranker import Ranker
from serving.search.readers import ORDINARY_TOKENS, TextStage
from serving.search.request import Caller, RankCall, Search, TypeUse
from serving.search.results import Degradation, RankedProducts, Results
from serving.search.retrieve import Retrieve
from serving.search.shopper_vectors import Shopper
from serving.search.understand import NOTHING_ASKED, Background, Understand, Understanding
from serving.stages.stage import Stage

MAX_CATALOGUE_WAIT_S = 0.25
LATE_CATALOGUE = Degradation("catalogue", "the answer does not know all changes up to min_sequence")


class SearchPipeline:
    """The four steps of a search, and the calls that take some of them."""

    def __init__(
        self,
        texts: TextStage,
        products: ProductVectors,
        understand: Understand,
        retrieve: Retrieve,
        ranker: Ranker,
        page: Page,
        follower: Follower | None = None,
    ) -> None:
        """`follower` is None for a catalogue that takes no changes."""
        self._texts = texts
        self._products = products
        self._understand = understand
        self._retrieve = retrieve
        self._rank = ranker
        self._page = page
        self._follower = follower

    async def search(self, search: Search, deadline: float) -> Results:
        """Returns the page that `search` asks for. `deadline` is a time of `time.monotonic`."""
        if search.min_sequence > self.catalogue_sequence and not await self._caught_up(search.min_sequence, deadline):
            results = await self.search(dataclasses.replace(search, min_sequence=0), deadline)
            return dataclasses.replace(results, degradations=(*results.degradations, LATE_CATALOGUE))
        read = QueryText(text=search.query, filter=search.filter)
        if search.query and not search.verbatim:
            read = await self._understand.query_text(search.query, search.locale, search.filter)
        results = await self._search(reworded(search, read), read, deadline)
        if not read.is_conditional or results.holds_words:
            return results
        # The conditions left nothing, or nothing but strangers: vectors find something among whatever is left.
        without = read.unconditional(search.filter)
        try:
            wider = await self._search(reworded(search, without), without, deadline)
        except AisleError:
            return results  # too late or too much: an answer is there
        return wider if wider.holds_words or not results.total else results

    @property
    def catalogue_sequence(self) -> int:
        """Returns the sequence of the latest change that this process has applied."""
        return self._follower.sequence if self._follower else 0

    async def _caught_up(self, sequence: int, deadline: float) -> bool:
        """Waits until a change is there, not for the whole time of the call; returns whether it is."""
        if self._follower is None:
            return False
        left_s = deadline - time.monotonic()
        return await self._follower.reached(sequence, min(MAX_CATALOGUE_WAIT_S, left_s / 2))

    async def _search(self, search: Search, read: QueryText, deadline: float) -> Results:
        understanding: Understanding = NOTHING_ASKED
        lost: tuple[Degradation, ...] = ()
        if search.query:
            understanding, read, lost = await self._read_all(search, read, deadline)
        retrieval = await self._retrieve(search, understanding, deadline)
        # A remote retriever may know rows that this process does not.
        known = retrieval.retrieved.sequence
        if known > self.catalogue_sequence and not await self._caught_up(known, deadline):
            raise Unavailable("this gateway has yet to learn of changes that the answer holds; send the call again")
        ranked = await self._rank(search, understanding, retrieval, deadline)
        results = await self._page(search, read, understanding, retrieval, ranked, deadline)
        return dataclasses.replace(results, degradations=(*results.degradations, *lost)) if lost else results

    async def _read_all(
        self, search: Search, read: QueryText, deadline: float
    ) -> tuple[Understanding, QueryText, tuple[Degradation, ...]]:
        """Understands the query and its other readings. One of these that fails is left out, and said to be."""
        others: dict[Reading, Understanding] = {}
        lost: tuple[Degradation, ...] = ()
        with Background() as background:
            begun = [(one, background.begin(self._read(search, one.text, deadline))) for one in read.readings[1:]]
            understanding = await self._read(search, search.query, deadline)
            for reading, other in begun:
                try:
                    others[reading] = await other
                except Exception as error:
                    lost = (Degradation("readings", reason_of("another reading of the query", error)),)
        if lost:
            read = dataclasses.replace(read, readings=(read.readings[0], *others) if others else ())
        return dataclasses.replace(understanding, others=tuple(others.values())), read, lost

    async def _read(self, search: Search, text: str, deadline: float) -> Understanding:
        classifies = search.type_use is not TypeUse.OFF or search.is_ranked  # the ranker reads the types too
        return await self._understand(search, deadline, text=text, type_use=search.type_use, classifies=classifies)

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

    async def embed_products(self, products: Sequence[Product], deadline: float) -> Floats:
        """Returns the unit vectors (products, dim) that a build would give the products."""
        return await self._products.embed(products, deadline)

    async def read_shopper(self, caller: Caller, deadline: float) -> Shopper:
        """Returns what is known of the caller's shopper. Raises NotServed where the bundle has no shopper model."""
        return await self._understand.reader.read_shopper(caller, deadline)

    def check_admission(self, deadline: float = math.inf) -> None:
        """Raises what a search that came now would be refused with, before any work on it."""
        self._understand.reader.check_admission(deadline)
        self._retrieve.check_admission(deadline)

    @property
    def search_stages(self) -> tuple[int, ...]:
        """Returns the numbers in `stages` of those that a search waits for."""
        return self._numbers(self._understand.reader.queueing, self._retrieve.stage)

    @property
    def embedding_stages(self) -> tuple[int, ...]:
        return self._numbers(self._texts.stage)

    @property
    def product_stages(self) -> tuple[int, ...]:
        return self._numbers(self._products.stage)

    @property
    def classification_stages(self) -> tuple[int, ...]:
        return self._numbers(*filter(None, [self._understand.typer]))

    def _numbers(self, *stages: Stage[Any, Any] | None) -> tuple[int, ...]:
        return tuple(number for number, stage in enumerate(self.stages) if any(stage is one for one in stages))

    def speeds(self) -> tuple[tuple[int, float, float], ...]:
        """Returns the number of each stage, how many ordinary searches it does a second (0 if unknown), and the longest wait for it in
        seconds."""
        units = {id(self._products.stage): self._products.cost / PRODUCT_COST, id(self._texts.stage): ORDINARY_TOKENS}
        return tuple(
            (number, stage.batcher.cost_per_s() / units.get(id(stage), 1), stage.batcher.max_wait_s)
            for number, stage in enumerate(self.stages)
        )

    @property
    def stages(self) -> tuple[Stage[Any, Any], ...]:
        needed = self._needed_stages
        products = () if any(stage is self._products.stage for stage in needed) else (self._products.stage,)
        teacher = (self._rank.teacher.stage,) if self._rank.teacher else ()
        return *needed, *products, *teacher

    @property
    def _needed_stages(self) -> tuple[Stage[Any, Any], ...]:
        typer = (self._understand.typer,) if self._understand.typer else ()
        return *self._understand.reader.stages, *typer, self._retrieve.stage

    def is_ready(self) -> bool:
        """Says whether all stages are up that a search needs, and the catalogue follows its log. Without the teacher it is only degraded,
        and it encodes no products."""
        is_failed = self._follower is not None and bool(self._follower.failure)
        return not is_failed and all(stage.replicas() > 0 for stage in self._needed_stages)
