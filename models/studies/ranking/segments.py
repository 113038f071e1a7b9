"""Segments of result pages: by frequency of the query, by length of the history, and by kind of shopper."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.evaluation.buckets import Bucket
from models.evaluation.cases import search_keys
from models.evaluation.numbered_log import NumberedLog
from models.evaluation.page_buckets import query_bucket
from models.ranking.impressions import Impressions
from models.unified.history import HistoryKind

QUERY, HISTORY, SHOPPER = "query", "history", "shopper"
SHOPPERS = ("anonymous", "new", "returning")
HISTORIES = ("nothing", "1 to 4", "5 to 19", "20 or more")  # clicks and purchases before the page
_HISTORY_ENDS = (1, 5, 20)


def page_segments(shown: Impressions, searches: Mapping[str, int]) -> dict[str, Bucket]:
    """Divides the pages. `searches` is the number of searches for each query, normalised by `plain_query`, before the first page."""
    engaged = np.array([sum(item.kind != HistoryKind.SEARCH for item in history) for history in shown.histories])
    return {
        QUERY: query_bucket(shown.queries, searches),
        HISTORY: Bucket(HISTORIES, np.searchsorted(_HISTORY_ENDS, engaged, side="right").astype(np.int32)),
        SHOPPER: Bucket(SHOPPERS, np.where(shown.is_anonymous, 0, np.where(engaged > 0, 2, 1)).astype(np.int32)),
    }


def searches_before(events: NumberedLog, time_ms: int) -> dict[str, int]:
    """Returns the number of searches for each query before a time."""
    keys = np.unique(search_keys(events)[: int(np.searchsorted(events.times_ms, time_ms))])
    counts = np.bincount(keys[keys >= 0] % len(events.query_names), minlength=len(events.query_names))
    return {events.query_names[query]: int(counts[query]) for query in np.flatnonzero(counts).tolist()}
