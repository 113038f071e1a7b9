"""The messages of SearchService. All violations of one request are reported together."""

from __future__ import annotations

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
from serving.search.request import Search
from serving.search.results import Results

_filter_values = attrgetter(*(field.name for field in fields(ProductFilter)))


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
        relevance_threshold: float | None = None,
        types: TypesConfig | None = None,
    ) -> None:
        """`relevance_threshold` is the similarity that the bundle's model learned, None if it learned none; `types` is None if the
        bundle holds no classifier."""
        self._manifest = manifest
        self._catalogue = products
        self._products = ProductMessages(products)
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
        caller = self._fields.read_caller(request, violations)
        page_size = self._read_page_size(request, violations)
        product_filter = read_filter(request.filter, violations) if request.HasField("filter") else NO_FILTER
        product_fields = self._products.read_fields(request.product_fields, violations)
        min_similarity = self._read_min_similarity(request, violations)
        boosts = self._read_boosts(request.boosts, violations)
        type_use, type_boost = read_type_use(request, self._types, violations)
        ranking = self._ranking.read_for_search(request, violations, has_boosts=bool(boosts))
        diversity = ranking.diversity
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
                "diversity": diversity and (diversity.max_each, diversity.among),
            },
        )
        offset = self._tokens.read(request.page_token, digest, violations) if request.page_token else 0
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
            boosts=boosts,
            type_use=type_use,
            type_boost=type_boost,
            ranking=ranking,
        )
        warnings = warn_of_unknown(product_filter, self._masks) + self._ranking.warnings(request, ranking)
        return SearchCall(search=search, product_fields=product_fields, warnings=warnings, digest=digest)

    def write(self, call: SearchCall, results: Results) -> search_pb2.SearchResponse:
        """Returns the answer without what only the gateway knows: request id and total time."""
        response = search_pb2.SearchResponse(
            bundle_version=self._manifest.version,
            index_version=self._manifest.version,
            warnings=call.warnings,
            corrected_query=results.corrected_query,
        )
        hits = results.hits
        num_ranked = len(results.chances)
        for at, (row, score) in enumerate(zip(hits.rows, hits.scores, strict=True)):
            product = self._products.write(row, call.product_fields)
            hit = response.hits.add(product_id=product.id, score=score, product=product)
            if at < num_ranked:
                write_chances(hit, results.chances[at])
            if call.search.explain:
                self._write_explanation(hit.explanation, at, results)
        if results.has_more:
            response.next_page_token = self._tokens.write(results.offset + len(hits.rows), call.digest)
        write_shopper(response, results.shopper, call.search.personalisation)
        write_types(response, results)
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
        for name, boost in zip(self._manifest.boosts, hits.feature_boosts[at], strict=False):
            if boost:
                explanation.boosts[name] = boost
        explanation.matched_identifiers.extend(hits.matched.get(row, ()))
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
