"""Ways to divide result pages: by what was asked, and by what is known of who asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.evaluation.buckets import FREQUENCIES, Bucket, frequency_codes
from models.evaluation.cases import search_keys
from models.evaluation.numbered_log import NumberedLog, plain_query
from models.ranking.impressions import Impressions
from models.unified.history import HistoryKind

QUERY, HISTORY, SHOPPER = "query", "history", "shopper"
SHOPPERS = ("anonymous", "new", "returning")
HISTORIES = ("nothing", "1 to 4", "5 to 19", "20 or more")  # clicks and purchases known before the page
_HISTORY_ENDS = (1, 5, 20)


def page_segments(shown: Impressions, searches: Mapping[str, int]) -> dict[str, Bucket]:
    """Of every page; `searches` says how often each query (as `plain_query` writes it) was asked before the first page."""
    engaged = np.array([sum(one.kind != HistoryKind.SEARCH for one in history) for history in shown.histories])
    return {
        QUERY: query_segments(shown.queries, searches),
        HISTORY: Bucket(HISTORIES, np.searchsorted(_HISTORY_ENDS, engaged, side="right").astype(np.int32)),
        SHOPPER: Bucket(SHOPPERS, np.where(shown.is_anonymous, 0, np.where(engaged > 0, 2, 1)).astype(np.int32)),
    }


def query_segments(queries: Sequence[str], searches: Mapping[str, int]) -> Bucket:
    """Head queries have the first half of all earlier searches, torso the next three tenths, tail the rest; unseen had none."""
    code_of = dict(zip(searches, frequency_codes(np.array([*searches.values()], np.int64)).tolist(), strict=True))
    codes = [code_of.get(plain_query(query), FREQUENCIES.index("unseen")) for query in queries]
    return Bucket(FREQUENCIES, np.array(codes, np.int32))


def searches_before(events: NumberedLog, time_ms: int) -> dict[str, int]:
    """How often each query was asked before a moment."""
    keys = np.unique(search_keys(events)[: int(np.searchsorted(events.times_ms, time_ms))])
    counts = np.bincount(keys[keys >= 0] % len(events.query_names), minlength=len(events.query_names))
    return {events.query_names[query]: int(counts[query]) for query in np.flatnonzero(counts).tolist()}
