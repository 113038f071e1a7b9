"""A report's figures by kind of search: frequent and rare queries, new products, shoppers, locales, categories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.arrays import Doubles, Ints
from models.evaluation.bootstrap import mean_interval
from models.evaluation.buckets import MIN_CASES, MIN_UNITS, is_large
from models.evaluation.bundle_figures import BLEND, RETRIEVED, BundleFigures
from models.evaluation.page import Cell, Section, Table
from models.evaluation.page_buckets import CATEGORY, LOCALE, PRODUCT, QUERY, SHOPPER
from models.evaluation.whole_catalogue import SEARCH_METRICS
from models.ranking.tasks import TASKS

_NAMES = {
    QUERY: "How often the query was asked before",
    PRODUCT: "Whether anybody had engaged with the products before",
    SHOPPER: "Shopper, by clicks and purchases before the search",
    LOCALE: "Locale",
    CATEGORY: "First level of the product's category",
}


def by_kind_section(new: BundleFigures, before: BundleFigures | None, seed: int) -> Section:
    """Divides the searches of `new` and, on the same pages, how much it gains on `before`. Parts that are too small for a mean are named
    in the footnote."""
    way, tables, small = new.main_way, [], []
    found = np.isfinite(new.search[way][:, 0])
    theirs = before.search.get(way) if before else None
    columns = {metric: new.search[way][:, SEARCH_METRICS.index(metric)] for metric in ("recall@10", "ndcg@10")}
    if new.ranking:
        ranked = BLEND if BLEND in new.ranking else RETRIEVED
        columns["ndcg@10 of shown pages"] = new.ranking[ranked][:, TASKS.index(new.target)]
    lift = None if theirs is None else (new.search[way] - theirs)[:, SEARCH_METRICS.index("ndcg@10")]
    for dimension, bucket in new.buckets.items():
        rows: list[tuple[str, Sequence[Cell]]] = []
        for value, every in bucket.rows().items():
            at = every[found[every]]
            if is_large(new.units[at]):
                rows.append((value, _cells(columns, lift, at, new.units, seed)))
            elif len(at):
                small.append(f"{dimension} {value} ({len(at)})")
        names = ["searches", *columns, *(["ndcg@10: new minus before"] if lift is not None else [])]
        if rows:
            tables.append(Table(_NAMES[dimension], dimension, names, rows))
    footnote = (
        f"Left out, with fewer than {MIN_CASES} searches or {MIN_UNITS} shoppers: {', '.join(small)}." if small else ""
    )
    return Section(
        "By kind of search",
        f"Searches that led to a {new.target}, by the way '{way}'. Head queries make up the first half of all searches before these pages, "
        "tail queries the last fifth; unseen queries had none. There are many intervals here: even without any effect, about one in "
        "twenty excludes 0.",
        tables=tables,
        footnote=footnote,
    )


def _cells(columns: dict[str, Doubles], lift: Doubles | None, at: Ints, units: Ints, seed: int) -> list[Cell]:
    values = [*columns.values(), *([] if lift is None else [lift])]
    return [len(at), *(mean_interval(column[at], units[at], seed=seed) for column in values)]
