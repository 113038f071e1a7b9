"""The messages of RankingService."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aisle.v1 import product_pb2, ranking_pb2
from models.products.product import MAX_ID_CHARS, Product
from models.products.product_table import ProductTable
from serving.compute.retrieval import GivenCandidates
from serving.config import LimitsConfig
from serving.errors import InvalidRequest, NotServed, Violation
from serving.gateway.messages.checks import MAX_NAMED, refuse_unknown
from serving.gateway.messages.fields import RequestFields, write_phases, write_shopper
from serving.gateway.messages.products import read_product
from serving.gateway.messages.ranking_fields import (
    FEATURE_NAMES,
    MODEL_NUMBERS,
    RankingFields,
    write_chances,
    write_degradations,
    write_factors,
)
from serving.search.request import RankCall
from serving.search.results import RankedProducts

MAX_EXPLAINED = 100
MAX_ON_LOOP = 256  # candidates of a call that is read and written on the event loop; longer calls get a thread


class RankMessages:
    """Translates for one served bundle."""

    def __init__(
        self,
        version: str,
        products: ProductTable,
        limits: LimitsConfig,
        *,
        fields: RequestFields,
        ranking: RankingFields,
    ) -> None:
        self._version = version
        self._products = products
        self._max_candidates = limits.max_rank_candidates
        self._fields = fields
        self._ranking = ranking

    @staticmethod
    def is_long(request: ranking_pb2.RankRequest) -> bool:
        """Says whether reading and writing this call would hold up the event loop."""
        return len(request.product_ids) + len(request.products) > MAX_ON_LOOP

    def read(self, request: ranking_pb2.RankRequest) -> tuple[RankCall, tuple[str, ...]]:
        """Returns what to rank, and the ids that the catalogue does not hold.

        Raises InvalidRequest with every violation, NotServed if the bundle holds no ranker.
        """
        if not self._ranking.has_ranker:
            raise NotServed("this bundle holds no ranker; 'aisle train ranker' puts one in")
        violations: list[Violation] = []
        refuse_unknown(request, "", violations)
        refuse_unknown(request.weights, "weights.", violations)
        refuse_unknown(request.diversity, "diversity.", violations)
        caller = self._fields.read_caller(request, violations)
        ranking = self._ranking.read_for_rank(request, violations)
        self._check_number(len(request.product_ids), len(request.products), violations)
        products: tuple[Product, ...] = ()
        if not violations:
            products = _read_products(request.products, violations)
            _check_ids(request.product_ids, [product.id for product in products], violations)
        if violations:
            raise InvalidRequest(*violations)
        looked_up = [(product_id, self._products.row_of(product_id)) for product_id in request.product_ids]
        rows = np.array([row for _, row in looked_up if row is not None], np.int64)
        call = RankCall(
            query=caller.query,
            candidates=GivenCandidates(rows, products),
            ranking=ranking,
            locale=caller.locale,
            shopper_id=caller.shopper_id,
            recent_events=caller.recent_events,
            personalisation=caller.personalisation,
            num_explained=MAX_EXPLAINED if request.explain else 0,
        )
        return call, tuple(product_id for product_id, row in looked_up if row is None)

    def write(
        self, call: RankCall, unknown: tuple[str, ...], results: RankedProducts | None
    ) -> ranking_pb2.RankResponse:
        """Returns the answer without what only the gateway knows. `results` is None if the catalogue holds no candidate."""
        response = ranking_pb2.RankResponse(unknown_product_ids=unknown, bundle_version=self._version)
        if results is None:
            response.ranked_by = MODEL_NUMBERS[call.ranking.model]
            return response
        candidates = results.candidates
        num_catalogued = len(candidates.rows)
        ids = [self._products.id(row) for row in candidates.rows.tolist()]
        ids += [product.id for product in candidates.products]
        for rank, (place, chances) in enumerate(zip(results.places, results.chances, strict=True)):
            product = response.products.add(product_id=ids[place], rank=rank + 1)
            write_chances(product, chances)
            if rank < len(results.factors):
                write_factors(product.factors, results.factors[rank])
            if place >= num_catalogued:
                product.unknown_features.extend(FEATURE_NAMES[at] for at in np.flatnonzero(~results.is_known[place]))
        response.ranked_by = MODEL_NUMBERS[results.ranked_by]
        write_degradations(response, results.degradations)
        write_shopper(response, results.shopper, call.personalisation)
        write_phases(response.timing, results.phases)
        return response

    def _check_number(self, num_ids: int, num_products: int, violations: list[Violation]) -> None:
        count = num_ids + num_products
        if 1 <= count <= self._max_candidates:
            return
        field, other = ("product_ids", "products") if num_ids >= num_products else ("products", "product_ids")
        said = f"and {other} hold {count:,} candidates; they must hold 1 to {self._max_candidates:,}"
        violations.append(Violation(field, said))


def _read_products(messages: Sequence[product_pb2.Product], violations: list[Violation]) -> tuple[Product, ...]:
    products = []
    for n, message in enumerate(messages):
        if len(violations) > MAX_NAMED:
            break
        if message.price_minor < 0:
            what = f"is {message.price_minor}; it must be 0 or more"
            violations.append(Violation(f"products[{n}].price_minor", what))
        products.append(read_product(message, f"products[{n}]", violations, needs_title=False))
    return tuple(products)


def _check_ids(ids: Sequence[str], inline: Sequence[str], violations: list[Violation]) -> None:
    seen: dict[str, str] = {}
    named = [(f"product_ids[{n}]", product_id) for n, product_id in enumerate(ids)]
    named += [(f"products[{n}].id", product_id) for n, product_id in enumerate(inline)]
    for field, product_id in named:
        if len(violations) > MAX_NAMED:
            return
        if not 1 <= len(product_id) <= MAX_ID_CHARS:
            violations.append(Violation(field, f"has {len(product_id)} characters; it must have 1 to {MAX_ID_CHARS}"))
        elif product_id in seen:
            violations.append(
                Violation(field, f"is {product_id!r}, as {seen[product_id]} is: name each candidate once")
            )
        else:
            seen[product_id] = field
