"""The request log: what a service showed, one row for each page of a search, in Parquet files of a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa

FORMAT = "1"
FORMAT_KEY, FEATURES_KEY, SHARE_KEY = b"aisle.request_log", b"aisle.features", b"aisle.share"

# The place of a product on the page is its place in the lists, from 1.
PAGE_SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("locale", pa.string(), nullable=False),
        pa.field("query", pa.string(), nullable=False),  # as typed; "" is a page of the catalogue
        pa.field("searched_query", pa.string(), nullable=False),  # without typing errors, conditions and negations
        pa.field("shopper", pa.binary()),  # tag of the day; null: none, or a shopper without events
        pa.field("bundle_version", pa.string(), nullable=False),
        pa.field("ranked_by", pa.string(), nullable=False),  # "none", "student" or "teacher"
        pa.field("sorted_by", pa.string(), nullable=False),  # what the caller sorted by; "" is the order of the search
        pa.field("is_filtered", pa.bool_(), nullable=False),  # by the caller
        pa.field("offset", pa.int32(), nullable=False),  # hits on the pages before
        pa.field("product_id", pa.list_(pa.string()), nullable=False),
        pa.field("score", pa.list_(pa.float32()), nullable=False),
        pa.field("price_minor", pa.list_(pa.int64()), nullable=False),
        # What the ranker read of the first hits, one after the other; NaN: not known. The file's metadata names the features.
        pa.field("features", pa.list_(pa.float32())),
    ]
)


def page_schema(features: Sequence[str], share: float) -> pa.Schema:
    """Returns PAGE_SCHEMA with what a file says of itself: the names of the features, and which share of shoppers it holds."""
    return PAGE_SCHEMA.with_metadata(
        {FORMAT_KEY: FORMAT, FEATURES_KEY: json.dumps(list(features)), SHARE_KEY: repr(share)}
    )
