"""What the simulation knows of the products on its result pages: the chances by which it drew what shoppers did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.arrays import Doubles, Ints
from models.products.product_table import ProductTable
from models.ranking.impressions import Impressions
from models.sample_store import EVENTS, TRUTH, Oracle, SimulatedLog
from models.studies.oracle_ranker import TruthError, load_simulated_log

FIT, TASTE, QUALITY = "fit to the query", "the shopper's taste", "the product's quality"


@dataclass(frozen=True, slots=True, eq=False)
class StoreTruth:
    """The simulation beside its log."""

    log: SimulatedLog
    oracle: Oracle
    numbers: Ints  # (rows of the catalogue,) the simulation's number of each product
    events: dict[tuple[int, str], str]  # time and query of a search -> the id of an event of it

    @classmethod
    def read(cls, store: Path, table: ProductTable, since_ms: int) -> StoreTruth:
        """Of the searches from `since_ms` on. Raises TruthError where the truth is of another log or catalogue."""
        log = load_simulated_log(store / TRUTH)
        numbers = np.array([_number(table.id(row)) for row in range(len(table))])
        if len(table) != log.assortment.num_products or not np.array_equal(np.sort(numbers), np.arange(len(table))):
            raise TruthError(
                f"the simulated log has {log.assortment.num_products:,} products, the bundle {len(table):,}, or others; build the bundle "
                f"from the catalogue of {store}"
            )
        since = pa.scalar(since_ms, pa.timestamp("ms", tz="UTC"))
        told = pq.read_table(store / EVENTS, columns=["id", "time", "kind", "query"], filters=[("time", ">=", since)])
        told = told.filter(pc.equal(told["kind"].cast(pa.string()), "impression"))
        columns: list[Any] = [
            told["time"].cast(pa.int64()).to_pylist(),
            told["query"].to_pylist(),
            told["id"].to_pylist(),
        ]
        return cls(log, Oracle(log), numbers, {(at, query): name for at, query, name in zip(*columns, strict=True)})

    def searches(self, time_ms: Ints, queries: list[str]) -> pa.Table:
        """An event of each search, as `Oracle` wants it. Raises TruthError for a search that the log does not have."""
        try:
            ids = [self.events[at, query] for at, query in zip(time_ms.tolist(), queries, strict=True)]
        except KeyError as error:
            raise TruthError(f"the log has no search {error}; the truth is of another log") from None
        return pa.table({"id": pa.array(ids), "time": pa.array(time_ms, pa.timestamp("ms", tz="UTC"))})

    def of_pages(self, shown: Impressions, *, knows_shopper: bool = True) -> Doubles:
        """(rows, TASKS) chances that the page's shopper, looking at a product, clicks, carts and buys it: nested, free of the position.

        Of anonymous pages, and without `knows_shopper` of all, the mean over shoppers.
        """
        events = self.searches(shown.time_ms, shown.queries)
        return self.oracle.chances(events, shown.page, self.numbers[shown.product], knows_shopper=knows_shopper)

    def parts(self, shown: Impressions) -> dict[str, Doubles]:
        """What makes the chances of a page's products (rows,): how well each fits the query, how much the shopper likes it (0 of anonymous
        pages, where nobody can know it), and how good it is."""
        searches = self.oracle.searches(self.searches(shown.time_ms, shown.queries))
        numbers, page, engagement = self.numbers[shown.product], shown.page, self.log.engagement
        taste = engagement.preference(searches.shopper[page], numbers, shown.time_ms[page])
        return {
            FIT: np.asarray(engagement.relevance(searches.intent[page], numbers), np.float64),
            TASTE: np.where(searches.is_anonymous[page], 0.0, taste),
            QUALITY: np.asarray(self.log.assortment.quality[numbers], np.float64),
        }


def _number(product_id: str) -> int:
    """Of an id as the simulation writes it, "AS-0000001" the first; -1 of others."""
    prefix, _, digits = product_id.partition("-")
    return int(digits) - 1 if prefix == "AS" and digits.isdigit() else -1
