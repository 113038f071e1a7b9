"""A shop's own judgements: a query, a product of the bundle and a rating a row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.arrays import Ints
from models.errors import InputError
from models.evaluation.metrics import Relevance
from models.products.errors import CatalogueError
from models.products.product_table import ProductTable
from models.products.sources.open_source import open_source
from models.products.text import clean_text, readable

MAX_NAMED = 5


class JudgementsError(InputError):
    """The file cannot be used; the message names the row or column and what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgementColumns:
    query: str = "query"
    product: str = "product_id"
    rating: str = "rating"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judgements:
    """The queries of which at least one product has a rating above 0, each with its judged products."""

    queries: list[str]
    rated: Relevance  # products with a rating above 0, which is their grade
    judged: list[Ints]  # of each query, the rows of all its judged products
    num_judgements: int
    num_unknown: int  # judgements of products that the bundle does not hold; left out
    num_hopeless: int  # queries without a known product above 0; left out
    num_repeated: int  # judgements of a pair that has another; the mean counts


def read_judgements(path: Path, table: ProductTable, columns: JudgementColumns) -> Judgements:
    """Reads any file that `aisle build` reads. A pair that is judged more than once gets the mean of its ratings.

    Raises JudgementsError for a missing column, a rating that is no number of 0 or more, an empty query, or if no query is left.
    """
    names = (columns.query, columns.product, columns.rating)
    try:
        source = open_source(path)
        missing = [name for name in names if name not in source.columns]
        if missing:
            raise JudgementsError(
                f"{path}: has no column {', '.join(missing)}; its columns are {', '.join(source.columns)}. Name yours with "
                "--query-column, --product-column and --rating-column"
            )
        rows = list(source.rows(names))
    except CatalogueError as error:
        raise JudgementsError(str(error)) from None
    ratings: dict[str, dict[int, list[float]]] = {}
    num_unknown = num_repeated = 0
    for row in rows:
        place = f"{row.file}:{row.number}"
        if row.reason is not None:
            raise JudgementsError(f"{place}: cannot be read ({row.reason})")
        query, product_id, rating = (clean_text(readable(value), unescape=False) for value in row.values)
        if not query:
            raise JudgementsError(f"{place}: {columns.query} is empty")
        value = _rating(rating)
        if value is None:
            raise JudgementsError(f"{place}: {columns.rating} is {rating[:40]!r}; it must be a number of 0 or more")
        of_query = ratings.setdefault(query, {})
        product = table.row_of(product_id)
        if product is None:
            num_unknown += 1
            continue
        num_repeated += product in of_query
        of_query.setdefault(product, []).append(value)
    means = {query: {row: sum(each) / len(each) for row, each in of.items()} for query, of in ratings.items()}
    kept = {query: of for query, of in means.items() if any(of.values())}
    if not kept:
        raise JudgementsError(
            f"{path}: of {len(rows):,} judgements none is above 0 and of a product of the bundle ({num_unknown:,} name products that it "
            "does not hold)"
        )
    pairs = [
        (case, row, grade) for case, of in enumerate(kept.values()) for row, grade in sorted(of.items()) if grade > 0
    ]
    cases, products, grades = zip(*pairs, strict=True)
    return Judgements(
        queries=list(kept),
        rated=Relevance(np.array(cases), np.array(products), np.array(grades, np.float64), len(kept)),
        judged=[np.array(sorted(of)) for of in kept.values()],
        num_judgements=len(rows),
        num_unknown=num_unknown,
        num_hopeless=len(means) - len(kept),
        num_repeated=num_repeated,
    )


def _rating(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
