"""Step four of a search: the page that the call asks for, its facets, and the reasons behind its hits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from serving.compute.facets import Scope
from serving.compute.filter_masks import NO_FILTER, FilterMasks
from serving.compute.retrieval import Candidates, Retrieved
from serving.search.failure import reason_of
from serving.search.personaliser import Gain
from serving.search.query_text import QueryText
from serving.search.ranker import Ranked, Ranker
from serving.search.request import Search
from serving.search.results import Degradation, Factors, Results
from serving.search.retrieve import FACET_HITS, Retrieval
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
        order, candidates = ranked.order, ranked.candidates
        num_hits = min(len(candidates.rows), self._max_results)
        stop = min(search.offset + search.page_size, num_hits)
        places = order.places[search.offset : stop]
        hits = candidates.take(places)
        gains: dict[int, Gain] = {}
        factors: dict[int, Factors] = {}
        failures: dict[Degradation, None] = {}  # of the explanation, each once
        if search.explain:
            num_ranked = max(0, order.num_ranked - search.offset)
            for number, reading in enumerate(understanding.readings):
                own = [at for at in range(len(hits.rows)) if not hits.readings or hits.readings[at] == number]
                moved, unmoved = await self._gains([hits.rows[at] for at in own], reading, deadline)
                explained = [hits.rows[at] for at in own if at < num_ranked]
                why, unexplained = await self._ranker.factors(explained, reading.subject, search.ranking, deadline)
                gains |= moved
                factors |= why
                failures |= dict.fromkeys((*unmoved, *unexplained))
        counted: tuple[tuple[str, int], ...] = ()
        if retrieval.counts_facets:
            rows = [candidates.rows[place] for place in order.places[:FACET_HITS]]
            counted = facets(self._masks.categories(rows))
        searched = _searched(read, candidates)
        lead = candidates.readings[0] if candidates.readings else 0
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
            searched_queries=searched,
            shopper=understanding.shopper,
            prediction=understanding.readings[lead].types.prediction,
            type_use=retrieval.type_use,
            type_facets=counted,
            facets=retrieval.retrieved.facets,
            sorted_over=_sorted_over(search, retrieval),
            notice=_notice(search, candidates) if num_hits else _why_empty(search, read, retrieval.retrieved),
            holds_words=bool(candidates.rows) and (not search.query or candidates.holds_words),
            total=total,
            total_is_exact=is_exact,
            gains=gains,
            factors=factors,
            degradations=(
                *degraded_inputs(understanding),
                *_lost_shards(retrieval.retrieved),
                *ranked.degradations,
                *failures,
            ),
            coverage=retrieval.retrieved.coverage,
            phases=(*understanding.phases, *retrieval.phases, *ranked.phases),
            sequence=retrieval.retrieved.sequence,
            num_rows=retrieval.retrieved.num_rows,
        )

    def _total(self, search: Search, retrieval: Retrieval, num_candidates: int) -> tuple[int, bool]:
        """Returns the number of hits on all pages, and whether there are no more."""
        retrieved = retrieval.retrieved
        total, is_exact = self._total_found(search, retrieved, num_candidates)
        return total, is_exact and retrieved.coverage == 1

    def _total_found(self, search: Search, retrieved: Retrieved, num_candidates: int) -> tuple[int, bool]:
        if retrieved.sorted:
            return retrieved.sorted.total, retrieved.sorted.is_exact
        if search.group_by or search.min_similarity > -math.inf:
            return num_candidates, retrieved.num_considered >= retrieved.num_matching
        most = self._max_results if search.query else retrieved.num_matching
        return min(retrieved.num_matching, most), retrieved.num_matching <= most

    async def _gains(
        self, rows: Sequence[int], reading: Understanding, deadline: float
    ) -> tuple[dict[int, Gain], tuple[Degradation, ...]]:
        """Returns by row what the shopper's history added, or a degradation if their stage fails: the hits stay as they are."""
        if not rows:
            return {}, ()
        try:
            return await self._reader.explain(rows, reading.subject, reading.shopper, deadline), ()
        except Exception as error:
            return {}, (Degradation("shopper", reason_of("the explanation by the shopper's events", error)),)


def _searched(read: QueryText, candidates: Candidates) -> dict[int, str]:
    """Returns by its number each reading of the query that found a candidate; nothing where there was but one to search."""
    return {number: read.readings[number].query for number in sorted(set(candidates.readings))}


def _notice(search: Search, candidates: Candidates) -> str:
    """Returns what a caller should know of hits none of which holds a word of the query."""
    if not search.query or not search.lexical_weight or candidates.holds_words:
        return ""
    return "no product holds a word of the query: the hits are nearest to it in meaning"


def _why_empty(search: Search, read: QueryText, retrieved: Retrieved) -> str:
    """Returns why a search found nothing."""
    if read.is_unknown:
        return (
            "no hits: no product holds a word of the query, and no letter of it is of a script that the catalogue uses"
        )
    if search.min_similarity > -math.inf and retrieved.num_matching:
        return f"no hits: no product that passes the filter has a similarity of {search.min_similarity:.3g} or more"
    if dataclasses.replace(search.filter, before_row=None) == NO_FILTER:
        return "no hits: the catalogue holds no product"
    return "no hits: no product passes the whole filter; leave out a part of it"


def _sorted_over(search: Search, retrieval: Retrieval) -> Scope | None:
    """Returns over which products the value of the search orders."""
    if search.sort is None:
        return None
    return retrieval.retrieved.sorted.scope if retrieval.retrieved.sorted else Scope.ALL


def _lost_shards(retrieved: Retrieved) -> tuple[Degradation, ...]:
    """Returns a degradation if not all products were searched."""
    if not retrieved.num_lost:
        return ()
    reason = f"{retrieved.num_lost} of the index's shards did not answer: {retrieved.coverage:.1%} of the products were searched"
    return (Degradation("shards", reason),)


def degraded_inputs(understanding: Understanding) -> tuple[Degradation, ...]:
    """Returns a degradation if the shopper's history could not be read or encoded, and one if the query could not be classified."""
    shopper, types = understanding.shopper, understanding.types
    return (
        *((Degradation("shopper", shopper.reason),) if shopper.failed else ()),
        *((Degradation("types", types.failure),) if types.failure else ()),
    )
