"""The simulation's truth about logged result pages: the probabilities from which it drew the shoppers' behaviour."""

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
    """The simulation that wrote a log."""

    log: SimulatedLog
    oracle: Oracle
    numbers: Ints  # (catalogue rows,) the simulation's number of each product
    events: dict[tuple[int, str], str]  # time and query of a search -> the id of one of its events

    @classmethod
    def read(cls, store: Path, table: ProductTable, since_ms: int) -> StoreTruth:
        """Reads the truth for searches from `since_ms` on. Raises TruthError if it belongs to another log or catalogue."""
        log = load_simulated_log(store / TRUTH)
        numbers = np.array([_number(table.id(row)) for row in range(len(table))])
        if len(table) != log.assortment.num_products or not np.array_equal(np.sort(numbers), np.arange(len(table))):
            raise TruthError(
                f"the simulated log has {log.assortment.num_products:,} products, the bundle has {len(table):,} or "
                f"different ones; build the bundle from the catalogue of {store}"
            )
        since = pa.scalar(since_ms, pa.timestamp("ms", tz="UTC"))
        impressions = pq.read_table(
            store / EVENTS, columns=["id", "time", "kind", "query"], filters=[("time", ">=", since)]
        )
        impressions = impressions.filter(pc.equal(impressions["kind"].cast(pa.string()), "impression"))
        columns: list[Any] = [
            impressions["time"].cast(pa.int64()).to_pylist(),
            impressions["query"].to_pylist(),
            impressions["id"].to_pylist(),
        ]
        return cls(log, Oracle(log), numbers, {(at, query): name for at, query, name in zip(*columns, strict=True)})

    def searches(self, time_ms: Ints, queries: list[str]) -> pa.Table:
        """Returns one event of each search, as `Oracle` expects. Raises TruthError for a search that is not in the log."""
        try:
            ids = [self.events[at, query] for at, query in zip(time_ms.tolist(), queries, strict=True)]
        except KeyError as error:
            raise TruthError(f"the log has no search {error}; the truth belongs to another log") from None
        return pa.table({"id": pa.array(ids), "time": pa.array(time_ms, pa.timestamp("ms", tz="UTC"))})

    def for_pages(self, shown: Impressions, *, knows_shopper: bool = True) -> Doubles:
        """Returns (rows, TASKS) the nested probabilities that the shopper clicks, carts and buys each product, once examined.

        They are free of position bias. For anonymous pages, and for all pages without `knows_shopper`, they are means over shoppers.
        """
        events = self.searches(shown.time_ms, shown.queries)
        return self.oracle.chances(events, shown.page, self.numbers[shown.product], knows_shopper=knows_shopper)

    def parts(self, shown: Impressions) -> dict[str, Doubles]:
        """Returns the hidden variables behind the probabilities (rows,): fit to the query, the shopper's taste, and product quality.

        The taste is 0 on anonymous pages.
        """
        searches = self.oracle.searches(self.searches(shown.time_ms, shown.queries))
        numbers, page, engagement = self.numbers[shown.product], shown.page, self.log.family.engagement
        taste = engagement.preference(searches.shopper[page], numbers, shown.time_ms[page])
        return {
            FIT: np.asarray(engagement.relevance(searches.intent[page], numbers), np.float64),
            TASTE: np.where(searches.is_anonymous[page], 0.0, taste),
            QUALITY: np.asarray(self.log.assortment.quality[numbers], np.float64),
        }


def _number(product_id: str) -> int:
    """Returns the simulation's number of a product id ("AS-0000001" is 0), or -1 for another id."""
    prefix, _, digits = product_id.partition("-")
    return int(digits) - 1 if prefix == "AS" and digits.isdigit() else -1
