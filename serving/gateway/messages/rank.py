"""The door of RankingService: its protos in, what the pipeline ranks out, and back."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from aisle.v1 import product_pb2, ranking_pb2
from models.products.product import MAX_ID_CHARS, Product
from models.products.product_table import ProductTable
from serving.compute.order import GivenCandidates
from serving.config import LimitsConfig
from serving.errors import InvalidRequest, Violation
from serving.gateway.messages.ranking_fields import (
    FEATURE_NAMES,
    MODEL_NUMBERS,
    RankingFields,
    write_factors,
    write_lesser,
    write_told,
)
from serving.gateway.messages.search import (
    MAX_UNKNOWN_FIELDS,
    Messages,
    read_product,
    refuse_unknown,
    write_phases,
    write_shopper,
)
from serving.search.pipeline import RankCall, RankedProducts

MAX_EXPLAINED = 100
MANY = 256  # candidates of a call that is read and written beside the event loop
MAX_KNOWN_IDS = 100_000  # whose rows are kept at hand, some 150 bytes each; to look one up takes 10 to 20 us


class RankMessages:
    """Translates for one served bundle."""

    def __init__(
        self, messages: Messages, fields: RankingFields, limits: LimitsConfig, products: ProductTable, version: str
    ) -> None:
        self._messages = messages
        self._fields = fields
        self._max_candidates = limits.max_rank_candidates
        self._products = products
        self._row_of = functools.lru_cache(MAX_KNOWN_IDS)(products.row_of)
        self._version = version

    def read(self, request: ranking_pb2.RankRequest) -> tuple[RankCall, tuple[str, ...]]:
        """What to rank, and the ids that the catalogue does not hold. Raises InvalidRequest with every violation."""
        wrong: list[Violation] = []
        refuse_unknown(request, "", wrong)
        asker = self._messages.read_asker(request, wrong)
        refuse_unknown(request.weights, "weights.", wrong)
        refuse_unknown(request.diversity, "diversity.", wrong)
        ranking = self._fields.of_rank(request, wrong)
        self._check_number(len(request.product_ids), len(request.products), wrong)
        products: tuple[Product, ...] = ()
        if not wrong:
            products = self._inline(request.products, wrong)
            _check_ids(request.product_ids, [product.id for product in products], wrong)
        if wrong:
            raise InvalidRequest(*wrong)
        found = [(product_id, self._row_of(product_id)) for product_id in request.product_ids]
        rows = np.array([row for _, row in found if row is not None], np.int64)
        wish = RankCall(
            asker.query,
            GivenCandidates(rows, products),
            ranking,
            asker.locale,
            asker.shopper_id,
            asker.events,
            asker.strength,
            MAX_EXPLAINED if request.explain else 0,
        )
        return wish, tuple(product_id for product_id, row in found if row is None)

    def write(
        self, wish: RankCall, unknown: tuple[str, ...], results: RankedProducts | None
    ) -> ranking_pb2.RankResponse:
        """The answer, but for what only the gateway knows; `results` are None where no candidate is known."""
        response = ranking_pb2.RankResponse(unknown_product_ids=unknown, bundle_version=self._version)
        if results is None:
            response.ranked_by = MODEL_NUMBERS[wish.ranking.model]
            return response
        told = results.told
        ranked, candidates = told.ranked, told.candidates
        known = len(candidates.rows)
        ids = [self._products.id(row) for row in candidates.rows.tolist()]
        ids += [product.id for product in candidates.products]
        for rank, (place, one) in enumerate(zip(ranked.order.tolist(), ranked.told(), strict=True)):
            product = response.products.add(product_id=ids[place], rank=rank + 1)
            write_told(product, one)
            if rank < len(told.factors):
                write_factors(product.factors, told.factors[rank])
            if place >= known:
                product.unknown_features.extend(FEATURE_NAMES[at] for at in np.flatnonzero(~told.is_known[place]))
        response.ranked_by = MODEL_NUMBERS[ranked.by]
        write_lesser(response, ranked.lesser)
        write_shopper(response, results.shopper, wish.personalisation)
        if results.types.failed:
            response.degradations.add(part="types", reason=results.types.failed)
        write_phases(response.timing, results.phases)
        return response

    def _check_number(self, num_ids: int, num_products: int, wrong: list[Violation]) -> None:
        count = num_ids + num_products
        if 1 <= count <= self._max_candidates:
            return
        field, other = ("product_ids", "products") if num_ids >= num_products else ("products", "product_ids")
        said = f"and {other} hold {count:,} candidates; they must hold 1 to {self._max_candidates:,}"
        wrong.append(Violation(field, said))

    def _inline(self, messages: Sequence[product_pb2.Product], wrong: list[Violation]) -> tuple[Product, ...]:
        products = []
        for n, message in enumerate(messages):
            if len(wrong) > MAX_UNKNOWN_FIELDS:
                break
            refuse_unknown(message, f"products[{n}].", wrong)
            if message.price_minor < 0:
                wrong.append(Violation(f"products[{n}].price_minor", f"is {message.price_minor}; it must be 0 or more"))
            products.append(read_product(message, f"products[{n}]", wrong, needs_title=False))
        return tuple(products)


def _check_ids(ids: Sequence[str], inline: Sequence[str], wrong: list[Violation]) -> None:
    seen: dict[str, str] = {}
    named = [(f"product_ids[{n}]", product_id) for n, product_id in enumerate(ids)]
    named += [(f"products[{n}].id", product_id) for n, product_id in enumerate(inline)]
    for field, product_id in named:
        if len(wrong) > MAX_UNKNOWN_FIELDS:
            return
        if not 1 <= len(product_id) <= MAX_ID_CHARS:
            wrong.append(Violation(field, f"has {len(product_id)} characters; it must have 1 to {MAX_ID_CHARS}"))
        elif product_id in seen:
            wrong.append(Violation(field, f"is {product_id!r}, as {seen[product_id]} is: name each candidate once"))
        else:
            seen[product_id] = field
