"""A page that a search showed, and pages as rows of the request log."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from models.arrays import Floats
from models.products.product_table import ProductTable
from serving.compute.filter_masks import NO_FILTER
from serving.search.request import Search


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShownPage:
    """One page. `prices` are those that were shown; `features` (ranked hits, features) is None where nothing ranked, or none are logged."""

    time_ms: int
    request_id: str
    search: Search  # as the caller sent it
    searched_query: str
    shopper: bytes  # tag of the day; empty for none
    ranked_by: str
    rows: list[int]
    scores: list[float]
    prices: list[int | None]
    features: Floats | None


class PageColumns:
    """Makes rows of the log. `locale` is that of searches that name none."""

    def __init__(self, schema: pa.Schema, products: ProductTable, bundle_version: str, locale: str) -> None:
        self._schema, self._products = schema, products
        self._version, self._locale = bundle_version, locale

    def __call__(self, pages: Sequence[ShownPage]) -> pa.RecordBatch:
        columns: dict[str, Sequence[Any]] = {
            "time": [page.time_ms for page in pages],
            "request_id": [page.request_id for page in pages],
            "locale": [page.search.locale or self._locale for page in pages],
            "query": [page.search.query for page in pages],
            "searched_query": [page.searched_query for page in pages],
            "shopper": [page.shopper or None for page in pages],
            "bundle_version": [self._version] * len(pages),
            "ranked_by": [page.ranked_by for page in pages],
            "sorted_by": [page.search.sort.name if page.search.sort else "" for page in pages],
            # `before_row` keeps the pages of one search together; it is not the caller's.
            "is_filtered": [dataclasses.replace(page.search.filter, before_row=None) != NO_FILTER for page in pages],
            "offset": [page.search.offset for page in pages],
            "product_id": [list(map(self._products.id, page.rows)) for page in pages],
            "score": [page.scores for page in pages],
            "price_minor": [page.prices for page in pages],
            "features": [None if page.features is None else page.features.ravel() for page in pages],
        }
        arrays = [pa.array(columns[field.name], field.type) for field in self._schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)
