"""The messages of SearchService. All violations of one request are reported together."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import attrgetter

from aisle.v1 import search_pb2
from models.bundles.manifest import Manifest
from models.products.product_table import ProductTable
from serving.compute.filter_masks import NO_FILTER, FilterMasks, ProductFilter
from serving.config import LimitsConfig, TypesConfig
from serving.errors import InvalidRequest, Violation
from serving.gateway.messages.checks import MAX_NAMED, refuse_unknown
from serving.gateway.messages.event_fields import KIND_NUMBERS
from serving.gateway.messages.facet_fields import SCOPES, check_group, read_facets, read_sort, write_facets
from serving.gateway.messages.fields import RequestFields, write_phases, write_shopper
from serving.gateway.messages.filter_fields import read_filter, warn_of_unknown
from serving.gateway.messages.page_token import PageTokens, request_digest
from serving.gateway.messages.products import ProductMessages
from serving.gateway.messages.ranking_fields import (
    MODEL_NUMBERS,
    RankingFields,
    write_chances,
    write_degradations,
    write_factors,
)
from serving.gateway.messages.type_fields import read_type_use, write_types
from serving.search.personaliser import Gain
from serving.search.query_text import PartKind
from serving.search.request import AS_RETRIEVED, Ranking, RankModel, Search, TypeUse
from serving.search.results import Results

_filter_values = attrgetter(*(field.name for field in fields(ProductFilter)))


PART_KINDS = {
    PartKind.CORRECTION: search_pb2.QUERY_PART_KIND_CORRECTION,
    PartKind.PRICE: search_pb2.QUERY_PART_KIND_PRICE,
    PartKind.NEGATION: search_pb2.QUERY_PART_KIND_NEGATION,
    PartKind.UNKNOWN: search_pb2.QUERY_PART_KIND_UNKNOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCall:
    """A valid SearchRequest: what to search, and how to answer."""

    search: Search
    product_fields: tuple[str, ...]
    warnings: tuple[str, ...]
    digest: bytes  # of everything that a next page must repeat


class SearchMessages:
    """Translates for one served bundle."""

    def __init__(
        self,
        manifest: Manifest,
        products: ProductTable,
        masks: FilterMasks,
        limits: LimitsConfig,
        *,
        fields: RequestFields,
        ranking: RankingFields,
        messages: ProductMessages | None = None,
        relevance_threshold: float | None = None,
        types: TypesConfig | None = None,
    ) -> None:
        """`relevance_threshold` is the similarity that the bundle's model learned, None if it learned none; `types` is None if the
        bundle holds no classifier. `messages` writes the products, if it was made before."""
        self._manifest = manifest
        self._catalogue = products
        self._products = ProductMessages(products) if messages is None else messages
        self._masks = masks
        self._limits = limits
        self._fields = fields
        self._ranking = ranking
        self._relevance_threshold = relevance_threshold
        self._types = types
        self._tokens = PageTokens(manifest.version)

    def read(self, request: search_pb2.SearchRequest) -> SearchCall:
        """Raises InvalidRequest with every violation, StaleVersion for a page token of another bundle version."""
        violations: list[Violation] = []
        refuse_unknown(request, "", violations)
        refuse_unknown(request.rank_weights, "rank_weights.", violations)
        refuse_unknown(request.diversity, "diversity.", violations)
        is_selected = bool(request.filter.ByteSize()) or request.HasField("sort")
        caller = self._fields.read_caller(request, violations, may_be_empty=is_selected)
        page_size = self._read_page_size(request, violations)
        product_filter = (
            read_filter(request.filter, self._masks, violations) if request.HasField("filter") else NO_FILTER
        )
        product_fields = self._products.read_fields(request.product_fields, violations)
        min_similarity = self._read_min_similarity(request, violations)
        boosts = self._read_boosts(request.boosts, violations)
        facets = read_facets(request.facets, self._masks, violations) if request.facets else ()
        sort = (
            read_sort(request.sort, self._masks, self._manifest.boosts, violations)
            if request.HasField("sort")
            else None
        )
        if request.group_by:
            check_group(request.group_by, self._masks, violations)
        type_use, type_boost = read_type_use(request, self._types, violations)
        if not caller.query:
            type_use, type_boost = TypeUse.OFF, 0.0
            _refuse_without_query(request, violations)
        is_ordered = bool(boosts) or sort is not None or not caller.query
        # The words of the catalogue are those of its first locale; in others they may mean something else ("pants" in en-GB).
        has_its_words = caller.locale in ("", self._manifest.locales[0])
        ranking = self._ranking.read_for_search(request, violations, has_boosts=is_ordered, has_its_words=has_its_words)
        if sort or not caller.query:
            ranking = _unranked(request, ranking, violations)
        diversity = ranking.diversity
        lexical_weight = request.lexical_weight if request.HasField("lexical_weight") else float(has_its_words)
        if not 0 <= lexical_weight <= 1:
            violations.append(Violation("lexical_weight", f"is {lexical_weight:g}; it must be 0 to 1"))
        click_weight = request.click_weight if request.HasField("click_weight") else 1.0
        if not 0 <= click_weight <= 1:
            violations.append(Violation("click_weight", f"is {click_weight:g}; it must be 0 to 1"))
        digest = request_digest(
            request,
            {
                "query": caller.query,
                "locale": caller.locale,
                "personalisation": caller.personalisation,
                "filter": None if product_filter is NO_FILTER else _filter_values(product_filter),
                "boosts": boosts,
                "product_types": type_use.value,
                "product_type_boost": type_boost,
                "rank_model": ranking.model.value,
                "rank_depth": ranking.depth,
                "rank_weights": ranking.weights,
                "asked_weight": ranking.asked_weight,
                "lexical_weight": lexical_weight,
                "click_weight": click_weight,
                "diversity": diversity and (diversity.max_each, diversity.among),
                "facets": tuple(map(tuple, facets)),
                "sort": sort and tuple(sort),
            },
        )
        offset = 0
        if request.page_token:
            offset, num_rows = self._tokens.read(request.page_token, digest, violations)
            # Products that came since the first page would move the others, and so would those that come before it is searched.
            product_filter = dataclasses.replace(product_filter, before_row=num_rows)
        if request.min_sequence < 0:
            violations.append(Violation("min_sequence", f"is {request.min_sequence}; it must be 0 or more"))
        if violations:
            raise InvalidRequest(*violations)
        search = Search(
            query=caller.query,
            page_size=page_size,
            offset=offset,
            filter=product_filter,
            verbatim=request.verbatim,
            locale=caller.locale,
            shopper_id=caller.shopper_id,
            recent_events=caller.recent_events,
            personalisation=caller.personalisation,
            min_similarity=min_similarity,
            explain=request.explain,
            lexical_weight=lexical_weight,
            click_weight=click_weight,
            boosts=boosts,
            type_use=type_use,
            type_boost=type_boost,
            ranking=ranking,
            facets=facets,
            sort=sort,
            group_by=request.group_by,
            min_sequence=request.min_sequence,
        )
        warnings = warn_of_unknown(product_filter, self._masks) + self._ranking.warnings(request, ranking)
        return SearchCall(search=search, product_fields=product_fields, warnings=warnings, digest=digest)

    def write(self, call: SearchCall, results: Results) -> search_pb2.SearchResponse:
        """Returns the answer without what only the gateway knows: request id and total time."""
        response = search_pb2.SearchResponse(
            bundle_version=self._manifest.version,
            index_version=self._manifest.version,
            warnings=(*call.warnings, results.notice) if results.notice else call.warnings,
            corrected_query=results.corrected_query,
            alternative_queries=results.alternative_queries,
            searched_queries=results.searched_queries.values(),
            catalogue_sequence=results.sequence,
            coverage=results.coverage,
        )
        for part in results.understood:
            response.understood.add(
                kind=PART_KINDS[part.kind],
                text=part.text,
                start=part.start,
                end=part.end,
                words=part.words,
                min_price_minor=part.min_price_minor,
                max_price_minor=part.max_price_minor,
                applied=not part.reason,
                reason=part.reason,
            )
        hits = results.hits
        num_ranked = len(results.chances)
        for at, (row, score) in enumerate(zip(hits.rows, hits.scores, strict=True)):
            product = self._products.write(row, call.product_fields)
            hit = response.hits.add(product_id=product.id, score=score, product=product)
            if at < num_ranked:
                write_chances(hit, results.chances[at])
            if group := hits.groups.get(row):
                hit.group.value, hit.group.num_others = group.value, group.num_others
                hit.group.other_ids.extend(map(self._catalogue.id, group.others))
            if call.search.explain:
                self._write_explanation(hit.explanation, at, results)
        if results.has_more:
            response.next_page_token = self._tokens.write(
                results.offset + len(hits.rows), call.search.filter.before_row or results.num_rows, call.digest
            )
        write_shopper(response, results.shopper, call.search.personalisation)
        write_types(response, results)
        write_facets(response, call.search.facets, results.facets, self._masks)
        response.total = results.total
        response.total_meaning = (
            search_pb2.TOTAL_MEANING_EXACT if results.total_is_exact else search_pb2.TOTAL_MEANING_AT_LEAST
        )
        if results.sorted_over:
            response.sorted_over = SCOPES[results.sorted_over]
        response.ranked_by = MODEL_NUMBERS[results.ranked_by]
        response.ranked_depth = results.ranked_depth
        write_degradations(response, results.degradations)
        write_phases(response.timing, results.phases)
        return response

    def _write_explanation(self, explanation: search_pb2.Explanation, at: int, results: Results) -> None:
        hits = results.hits
        row = hits.rows[at]
        explanation.similarity = hits.similarities[at]
        explanation.identifier_boost = hits.identifier_boosts[at]
        explanation.type_boost = hits.type_boosts[at]
        explanation.lexical_boost = hits.lexical_boosts[at]
        explanation.asked = hits.coverages[at]
        explanation.click_boost = hits.click_boosts[at]
        explanation.vector_rank, explanation.lexical_rank = hits.vector_ranks[at], hits.lexical_ranks[at]
        explanation.click_rank = hits.click_ranks[at]
        for name, boost in zip(self._manifest.boosts, hits.feature_boosts[at], strict=False):
            if boost:
                explanation.boosts[name] = boost
        explanation.matched_identifiers.extend(hits.matched.get(row, ()))
        if hits.readings:
            explanation.query = results.searched_queries[hits.readings[at]]
        explanation.rank = results.offset + at + 1
        explanation.retrieval_rank = results.retrieval_ranks[at]
        if row in results.factors:
            write_factors(explanation.rank_factors, results.factors[row])
        if gain := results.gains.get(row):
            self._write_gain(explanation, gain)

    def _write_gain(self, explanation: search_pb2.Explanation, gain: Gain) -> None:
        explanation.personal_gain = gain.total
        for event, share in gain.by_event:
            row = self._catalogue.row_of(event.product_id)
            explanation.moved_by.add(
                event_id=event.id,
                kind=KIND_NUMBERS[event.kind],
                product_id=event.product_id if row is not None else "",
                title=self._catalogue.string("title", row) if row is not None else "",
                query=event.query,
                gain=share,
            )

    def _read_page_size(self, request: search_pb2.SearchRequest, violations: list[Violation]) -> int:
        page_size = request.page_size if request.HasField("page_size") else self._limits.default_page_size
        if not 1 <= page_size <= self._limits.max_page_size:
            violations.append(Violation("page_size", f"is {page_size}; it must be 1 to {self._limits.max_page_size}"))
        return page_size

    def _read_min_similarity(self, request: search_pb2.SearchRequest, violations: list[Violation]) -> float:
        is_set = request.HasField("min_similarity")
        if is_set and not -1 <= request.min_similarity <= 1:
            violations.append(Violation("min_similarity", f"is {request.min_similarity:g}; it must be -1 to 1"))
        if request.relevant_only:
            if is_set:
                violations.append(
                    Violation("relevant_only", "cannot go with min_similarity: one of them sets the threshold")
                )
            if self._relevance_threshold is None:
                violations.append(
                    Violation("relevant_only", "the served bundle's model learned no threshold; use min_similarity")
                )
            return self._relevance_threshold or 0.0
        return request.min_similarity if is_set else -math.inf

    def _read_boosts(self, weights: Mapping[str, float], violations: list[Violation]) -> tuple[float, ...]:
        """Returns the weights in the order of the bundle's boosts; an empty tuple if all are 0, which is the same as stating none."""
        known = self._manifest.boosts
        if weights and not known:
            violations.append(Violation("boosts", "must be empty: the served bundle has no boosts"))
            return ()
        bad = [name for name, weight in weights.items() if name not in known or not -1 <= weight <= 1]  # a NaN too
        for name in sorted(bad)[:MAX_NAMED]:
            what = f"is {weights[name]:g}; it must be -1 to 1"
            if name not in known:
                what = f"is unknown; known are {', '.join(known)}"
            violations.append(Violation(f"boosts[{json.dumps(name[:80], ensure_ascii=False)}]", what))
        ordered = tuple(weights.get(name, 0.0) for name in known)
        return ordered if any(ordered) else ()


def _refuse_without_query(request: search_pb2.SearchRequest, violations: list[Violation]) -> None:
    """Refuses what needs the words of a query, in a request without."""
    needs = ("min_similarity", "relevant_only", "boosts", "product_types", "product_type_boost")
    are_set = {field.name for field, _ in request.ListFields()}
    if request.product_types == search_pb2.PRODUCT_TYPE_USE_OFF:
        are_set.discard("product_types")
    violations.extend(Violation(name, "needs a query") for name in needs if name in are_set)


def _unranked(request: search_pb2.SearchRequest, ranking: Ranking, violations: list[Violation]) -> Ranking:
    """Refuses what orders by relevance where something else orders."""
    if ranking.model is not RankModel.NONE:
        violations.append(
            Violation("rank_model", "must be unset or NONE where sort, or nothing without a query, orders")
        )
    if request.HasField("diversity"):
        violations.append(Violation("diversity", "needs a query, and no sort"))
    return AS_RETRIEVED
