"""Events: what shoppers did. Serving records them, and training reads them from a log with one row per event."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa


class EventKind(StrEnum):
    """What a shopper did with a product, from the weakest sign of interest to the strongest."""

    IMPRESSION = "impression"
    CLICK = "click"
    CART = "cart"
    PURCHASE = "purchase"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. Fields that do not apply are empty."""

    id: str  # unique: a repeated id counts once
    time_ms: int  # since 1970-01-01 UTC
    shopper_id: str  # "" is an anonymous shopper, who is identified by the session alone
    session_id: str
    locale: str  # BCP 47, as "en-US"
    kind: EventKind
    product_id: str
    query: str = ""  # of the search that led to the event
    position: int | None = None  # on the result page, from 1
    price_minor: int | None = None  # unit price at the time of the event, in minor units of the catalogue's currency
    request_id: str = ""  # of the search whose page showed the product; a log for training has the page itself instead


# The columns of a log in Parquet, a file or a folder of files, ordered by time.
EVENT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("shopper_id", pa.string(), nullable=False),
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("locale", pa.string(), nullable=False),
        pa.field("kind", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("query", pa.string(), nullable=False),
        pa.field("position", pa.int32()),
        pa.field("price_minor", pa.int64()),
    ]
)
