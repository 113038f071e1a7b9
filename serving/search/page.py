"""Step four of a search: the page that the call asks for, its facets, and the reasons behind its hits."""

from __future__ import annotations

import math
from collections.abc import Sequence

from serving.compute.filter_masks import FilterMasks
from serving.compute.retrieval import Subject
from serving.search.failure import reason_of
from serving.search.personaliser import Gain
from serving.search.query_text import QueryText
from serving.search.ranker import Ranked, Ranker
from serving.search.request import Search
from serving.search.results import Degradation, Factors, Results
from serving.search.retrieve import FACET_HITS, Retrieval
from serving.search.shopper_vectors import Shopper
from serving.search.type_use import facets
from serving.search.understand import QueryReader, Understanding


class Page:
    """`max_results` is the number of hits that paging can reach."""

    def __init__(self, reader: QueryReader, ranker: Ranker, masks: FilterMasks, max_results: int) -> None:
        self._reader = reader
        self._ranker = ranker
        self._masks = masks
        self._max_results = max_results

    async def __call__(
        self,
        search: Search,
        read: QueryText,
        understanding: Understanding,
        retrieval: Retrieval,
        ranked: Ranked,
        deadline: float,
    ) -> Results:
        order, candidates, subject = ranked.order, ranked.candidates, understanding.subject
        num_hits = min(len(candidates.rows), self._max_results)
        stop = min(search.offset + search.page_size, num_hits)
        places = order.places[search.offset : stop]
        hits = candidates.take(places)
        gains: dict[int, Gain] = {}
        factors: dict[int, Factors] = {}
        unmoved: tuple[Degradation, ...] = ()
        unexplained: tuple[Degradation, ...] = ()
        if search.explain:
            gains, unmoved = await self._gains(hits.rows, subject, understanding.shopper, deadline)
            explained = hits.rows[: max(0, order.num_ranked - search.offset)]
            factors, unexplained = await self._ranker.factors(explained, subject, search.ranking, deadline)
        counted: tuple[tuple[str, int], ...] = ()
        if retrieval.counts_facets:
            rows = [candidates.rows[place] for place in order.places[:FACET_HITS]]
            counted = facets(self._masks.categories(rows))
        total, is_exact = self._total(search, retrieval, len(candidates.rows))
        return Results(
            hits=hits,
            offset=search.offset,
            has_more=num_hits > search.offset + search.page_size,
            retrieval_ranks=[place + 1 for place in places],
            chances=order.chances(search.offset, stop),
            ranked_by=order.by,
            ranked_depth=order.num_ranked,
            features=order.features(search.offset, stop),
            searched_query=read.text,
            corrected_query=read.corrected,
            understood=read.parts,
            alternative_queries=read.alternatives,
            shopper=understanding.shopper,
            prediction=understanding.types.prediction,
            type_use=retrieval.type_use,
            type_facets=counted,
            facets=retrieval.retrieved.facets,
            holds_words=bool(candidates.rows) and (not search.query or candidates.holds_words),
            total=total,
            total_is_exact=is_exact,
            gains=gains,
            factors=factors,
            degradations=(*degraded_inputs(understanding), *ranked.degradations, *unmoved, *unexplained),
            phases=(*understanding.phases, *retrieval.phases, *ranked.phases),
            sequence=retrieval.retrieved.sequence,
            num_rows=retrieval.retrieved.num_rows,
        )

    def _total(self, search: Search, retrieval: Retrieval, num_candidates: int) -> tuple[int, bool]:
        """Returns the number of hits on all pages, and whether there are no more."""
        retrieved = retrieval.retrieved
        if search.group_by or search.min_similarity > -math.inf:
            return num_candidates, retrieved.num_considered >= retrieved.num_matching
        most = self._max_results if search.query else retrieved.num_matching
        return min(retrieved.num_matching, most), retrieved.num_matching <= most

    async def _gains(
        self, rows: Sequence[int], subject: Subject, shopper: Shopper, deadline: float
    ) -> tuple[dict[int, Gain], tuple[Degradation, ...]]:
        """Returns by row what the shopper's history added, or a degradation if their stage fails: the hits stay as they are."""
        try:
            return await self._reader.explain(rows, subject, shopper, deadline), ()
        except Exception as error:
            return {}, (Degradation("shopper", reason_of("the explanation by the shopper's events", error)),)


def degraded_inputs(understanding: Understanding) -> tuple[Degradation, ...]:
    """Returns a degradation if the shopper's history could not be read or encoded, and one if the query could not be classified."""
    shopper, types = understanding.shopper, understanding.types
    return (
        *((Degradation("shopper", shopper.reason),) if shopper.failed else ()),
        *((Degradation("types", types.failure),) if types.failure else ()),
    )
