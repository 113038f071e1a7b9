"""Step two of a search: candidates of what was understood, from the retriever stage."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from serving.compute.catalogue_state import FIXED, HasSequence
from serving.compute.readings import FIRST
from serving.compute.retrieval import (
    EncodedQuery,
    GivenCandidates,
    Retrieved,
    ScoredCandidates,
    ScoreItem,
    SearchItem,
    StudentScores,
    Subject,
    Weights,
)
from serving.compute.retriever import RetrieverItem, RetrieverResult
from serving.search.request import Search, TypeUse
from serving.search.results import PhaseTime
from serving.search.type_use import TypeFinding, type_boosts
from serving.search.understand import Understanding
from serving.stages.batcher import DEADLINE_MARGIN, Outcome
from serving.stages.outcomes import gather_or_cancel, merge_outcomes
from serving.stages.stage import Stage

RetrieverStage = Stage[RetrieverItem, RetrieverResult]
FACET_HITS = 100  # first hits whose categories an answer counts
# A search is not ranked if its time left is less than this many times the expected time of the retrieval; below DEADLINE_MARGIN times it
# is refused.
STUDENT_MARGIN = 1.5 * DEADLINE_MARGIN
ROWS_PER_COST = 100  # candidates whose scoring takes about as long as one search
INLINE_PER_COST = 25  # the same of products that the call brings along, whose words are read first
CHUNK_ROWS = 400  # of one item, so that searches need not wait for a Rank call of thousands of candidates
INLINE_CHUNK_ROWS = 100
NO_TIME = "too little time was left to rank"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """What was found, and what the search did with the types of its query to find it."""

    retrieved: Retrieved
    type_use: TypeUse
    counts_facets: bool  # the answer counts the categories of the first hits
    phases: tuple[PhaseTime, ...]


def search_item(search: Search, asked: Sequence[tuple[Subject, TypeFinding]], *, k: int, depth: int) -> SearchItem:
    """Returns what the retriever stage is asked for: the best `k` products, of which the student scores `depth` if the search is ranked.
    `asked` has each reading of the query, its own first."""
    first, *others = [
        SearchItem(
            subject=subject,
            k=k,
            filter=search.filter,
            boosts=search.boosts,
            type_boosts=type_boosts(types, search.type_boost),
            only_types=types.use is TypeUse.FILTER,
            depth=depth if search.is_ranked else 0,
            weights=search.ranking.weights,
            lexical_weight=search.lexical_weight,
            click_weight=search.click_weight,
            words_only=search.words_only,
            asked_weight=search.ranking.asked_weight,
            sort=search.sort,
            group_by=search.group_by,
            facets=search.facets,
            min_similarity=search.min_similarity,
            min_sequence=search.min_sequence,
            keeps_features=search.keeps_features,
        )
        for subject, types in asked
    ]
    return dataclasses.replace(first, others=tuple(others)) if others else first


class Retrieve:
    """`max_results` is the number of hits that paging can reach."""

    def __init__(self, stage: RetrieverStage, max_results: int, catalogue: HasSequence = FIXED) -> None:
        """`catalogue` says which changes this process knows: the stage has to know them to score its rows."""
        self.stage = stage
        self._max_results = max_results
        self._catalogue = catalogue

    async def __call__(self, search: Search, understanding: Understanding, deadline: float) -> Retrieval:
        """Searches by the types of the query as the call says; a filter by types that leaves nothing is taken back."""
        types = understanding.types
        has_time = deadline - time.monotonic() > STUDENT_MARGIN * self.stage.batcher.expected_s()
        item = search_item(
            search,
            [(reading.subject, reading.types) for reading in understanding.readings],
            k=self._num_candidates(search, understanding, types.use),
            depth=search.ranking.depth if has_time else 0,
        )
        item = dataclasses.replace(item, deadline=deadline)
        # A query that was encoded is admitted. Where nothing came before, it is refused here when there is too much to do.
        outcome = await self._search(item, deadline, admitted=isinstance(item.subject.query, EncodedQuery))
        is_taken_back = item.only_types and not outcome.value.candidates.rows
        if is_taken_back:
            item = _of_all_types(item, self._num_candidates(search, understanding, TypeUse.FACETS))
            outcome = await self._search(item, deadline, admitted=True)
        retrieved = outcome.value
        if search.is_ranked and not has_time:
            retrieved = dataclasses.replace(retrieved, scores=StudentScores.missing(NO_TIME))
        types = understanding.readings[retrieved.candidates.readings[0] if retrieved.candidates.readings else 0].types
        use = TypeUse.FACETS if is_taken_back else types.use
        return Retrieval(
            retrieved=retrieved,
            type_use=use,
            counts_facets=types.has_facets(use),
            phases=(PhaseTime.of_stage("retrieve", outcome),),
        )

    def check_admission(self, deadline: float) -> None:
        self.stage.batcher.check_admission(deadline=deadline)

    def expected_s(self) -> float:
        return self.stage.batcher.expected_s()

    async def score(
        self,
        subject: Subject,
        candidates: GivenCandidates,
        weights: Weights,
        deadline: float,
        *,
        explains: bool = False,
        admitted: bool = True,
    ) -> Outcome[ScoredCandidates]:
        """Has the student score candidates, in chunks. `admitted` says that other work was done for the call before: a full queue then does
        not refuse it. Raises AisleError if the student fails."""
        waiting = []
        chunk_rows = INLINE_CHUNK_ROWS if candidates.products else CHUNK_ROWS
        for start in range(0, len(candidates), chunk_rows):
            part = candidates.slice(start, start + chunk_rows)
            item = ScoreItem(
                subject=subject,
                candidates=part,
                weights=weights,
                explains=explains,
                min_sequence=self._catalogue.sequence,
                deadline=deadline,
            )
            cost = 1 + len(part.rows) // ROWS_PER_COST + len(part.products) // INLINE_PER_COST
            waiting.append(self.stage(item, cost=cost, deadline=deadline, admitted=admitted or start > 0))
        outcomes = cast("Sequence[Outcome[ScoredCandidates]]", await gather_or_cancel(waiting))
        return merge_outcomes(outcomes, ScoredCandidates.concatenate([outcome.value for outcome in outcomes]))

    async def _search(self, item: SearchItem, deadline: float, *, admitted: bool) -> Outcome[Retrieved]:
        # The stage answers a SearchItem with Retrieved and a ScoreItem with ScoredCandidates.
        cost = len(item.readings)
        return cast("Outcome[Retrieved]", await self.stage(item, cost=cost, deadline=deadline, admitted=admitted))

    def _num_candidates(self, search: Search, understanding: Understanding, use: TypeUse) -> int:
        """Returns how many candidates to retrieve: one more than the page needs, which shows whether another page follows, and at least as
        many as are ranked, compared with those of other readings and, for types, counted. What sorts, groups or counts the candidates of a
        query takes all that paging can reach. So does a similarity threshold: candidates above it may lie anywhere among them."""
        depth = search.ranking.depth
        if search.query and (search.sort or search.group_by or search.facets or search.min_similarity > -math.inf):
            return max(self._max_results, depth)
        count = max(min(search.offset + search.page_size + 1, self._max_results), depth)
        if understanding.others:
            count = max(count, min(FIRST, self._max_results))
        counts_facets = any(reading.types.has_facets(use) for reading in understanding.readings)
        return max(count, min(FACET_HITS, self._max_results)) if counts_facets else count


def _of_all_types(item: SearchItem, k: int) -> SearchItem:
    """Returns the search as if the types of its query were not known."""
    others = tuple(_of_all_types(other, k) for other in item.others)
    return dataclasses.replace(item, k=k, type_boosts=(), only_types=False, others=others)
