"""The simulated storefronts of other locales: searches in their own words, with clicks, carts and purchases.

It is simulated, and simpler than the shopping log of the main locale: no result page is drawn (so there are no impressions), shoppers have
no preferences, and each search of a session is for something else. Its purpose is to learn the product type of a query in a locale. The
truth of every search is known.

1. A *query* is drawn by popularity from the pool of its locale (`query_pool`). Each is written for a product drawn evenly
   (`locale_queries`): many queries of the pool have the same short text, as "sofa".
2. A *search* has one to three clicks; searches without a click leave no trace. A click goes to a product of the target type, to more
   popular products more often, at times to a product that satisfies the query's constraint; else to an accessory of the type or to the
   type that it is an accessory of; else to any product by popularity.
3. A cart and a purchase follow a click more often if the product is of the target type.

The queries of a locale depend only on the store, the seed, the locale and the search's number: a larger volume begins with the same
queries, and no locale changes another. Times and shoppers depend on the volume as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Bools, Ints
from models.draws import draw_uniforms
from models.events.event import EVENT_SCHEMA
from models.sample_store.assortment import Assortment
from models.sample_store.locales.clicks import Clicks, ClickTargets
from models.sample_store.locales.query_pool import QueryPool
from models.sample_store.locales.read_locales import locale_named
from models.sample_store.locales.storefront_parameters import StorefrontParameters
from models.sample_store.parameters import LogParameters
from models.sample_store.product_types import load_product_types
from models.sample_store.store import SampleStore

MAX_SEARCHES = 50_000_000  # in a locale
START = datetime(2025, 1, 1, tzinfo=UTC)

_BLOCK_SEARCHES = 65_536
_GROUP = 4  # searches; a session lies within a group, and a group within a block


@dataclass(frozen=True, slots=True, kw_only=True)
class StorefrontSearch:
    """A search and the truth about it."""

    id: str  # the ids of its events begin with it
    query: str
    locale: str
    type: str  # category path of the target


class StorefrontLog:
    """Simulated searches of `volumes`, locale -> number of searches, in the `days` after `start`; see the module.

    The same arguments give the same events, in the order of time. 100 searches have about 139 clicks, 26 carts and 9 purchases. `seed` also
    decides the launches of products: this log and a SimulatedLog of the same seed and dates agree. Memory: about 600 bytes a product, 3 MB
    a locale, and 100 MB. Raises ValueError for a locale that the store does not have, and for a volume outside of 0 to MAX_SEARCHES.
    """

    def __init__(
        self,
        store: SampleStore,
        volumes: Mapping[str, int],
        seed: int = 0,
        start: datetime = START,
        days: int = 60,
        parameters: StorefrontParameters | None = None,
    ) -> None:
        for name, volume in volumes.items():
            if not 0 <= volume <= MAX_SEARCHES:
                raise ValueError(f"volume of {name} is 0 to {MAX_SEARCHES:,} searches, not {volume:,}")
        if not 1 <= days <= 3_650:
            raise ValueError(f"days of a simulated log is 1 to 3,650, not {days:,}")
        if start.tzinfo is None:
            raise ValueError(f"start must have a time zone, and {start.isoformat()} has none")
        locales = {name: locale_named(name) for name in volumes}
        self.volumes = dict(volumes)
        self.parameters = parameters or StorefrontParameters()
        self.start_ms = round(start.timestamp() * 1000)
        self.end_ms = round((start + timedelta(days=days)).timestamp() * 1000)
        self.assortment = Assortment(store, LogParameters(), seed, self.start_ms, self.end_ms)
        exponent = self.parameters.zipf_exponent
        self._pools = {name: QueryPool(self.assortment, locale, seed, exponent) for name, locale in locales.items()}
        self._targets = ClickTargets(self.assortment, self.parameters)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the events, from the first on, in EVENT_SCHEMA."""
        num_blocks = -(-sum(self.volumes.values()) // _BLOCK_SEARCHES)
        late = EVENT_SCHEMA.empty_table()
        for block in range(num_blocks):
            parts = [self._events(name, self._rows(volume, block, num_blocks)) for name, volume in self.volumes.items()]
            events = pa.concat_tables([late, *parts]).sort_by([("time", "ascending"), ("id", "ascending")])
            is_last = block == num_blocks - 1
            ends_ms = self.start_ms + (block + 1) * (self.end_ms - self.start_ms) // num_blocks
            times = events["time"].cast(pa.int64()).to_numpy()
            ready = events.num_rows if is_last else int(np.searchsorted(times, ends_ms))
            if ready:
                yield events.slice(0, ready).combine_chunks().to_batches()[0]
            late = events.slice(ready)

    def searches(self) -> Iterator[StorefrontSearch]:
        """Yields every search with its target, locale by locale in the order of `volumes`."""
        for name, volume in self.volumes.items():
            pool = self._pools[name]
            for first in range(0, volume, _BLOCK_SEARCHES):
                numbers = np.arange(first, min(volume, first + _BLOCK_SEARCHES))
                query = _draw_queries(pool, numbers)
                rows = zip(numbers.tolist(), pool.texts(query), pool.types[query].tolist(), strict=True)
                for number, text, kind in rows:
                    category = load_product_types()[kind].category
                    yield StorefrontSearch(id=_search_id(name, number), query=text, locale=name, type=category)

    def _rows(self, volume: int, block: int, num_blocks: int) -> Ints:
        """Returns the numbers of the searches of a locale whose groups begin in a block's part of the window."""
        first, stop = (-(-volume * at // (_GROUP * num_blocks)) for at in (block, block + 1))
        return np.arange(_GROUP * first, min(volume, _GROUP * stop))

    def _events(self, name: str, numbers: Ints) -> pa.Table:
        """Returns the events of searches, from clicks to purchases; not in the order of time."""
        if not len(numbers):
            return EVENT_SCHEMA.empty_table()
        pool = self._pools[name]
        query = _draw_queries(pool, numbers)
        texts = pool.texts(query)  # before their word lists are read, since writing a query sets its list
        draws = draw_uniforms(pool.seed ^ 4, numbers, 5)
        session = _sessions(numbers, draws[:, 0] >= self.parameters.another_search_rate)
        session_draws = draws[session - numbers[0]]
        volume = self.volumes[name]
        begun_ms = (session + session_draws[:, 1]) / volume * (self.end_ms - self.start_ms)
        time_ms = self.start_ms + begun_ms.astype(np.int64)
        time_ms += (numbers - session) * 90_000 + (draws[:, 2] * 60_000).astype(np.int64)
        num_shoppers = max(1.0, volume / self.parameters.searches_a_shopper)
        shopper = (session_draws[:, 3] ** 2 * num_shoppers).astype(np.int64)
        is_anonymous = session_draws[:, 4] < self.parameters.anonymous_share
        clicks = self._targets.draw(pool.seed, numbers, pool.types[query], pool.word_lists[query], time_ms)
        return _table(name, clicks, numbers, session, np.where(is_anonymous, -1, shopper), texts, self.assortment)


def _draw_queries(pool: QueryPool, numbers: Ints) -> Ints:
    return pool.draw(draw_uniforms(pool.seed ^ 3, numbers, 1)[:, 0])


def _sessions(numbers: Ints, is_new: Bools) -> Ints:
    """Returns the number of the first search of each search's session. The first number begins a group."""
    starts = is_new | (numbers % _GROUP == 0)
    return np.maximum.accumulate(np.where(starts, numbers, 0))


def _search_id(locale: str, number: int) -> str:
    return f"f{locale}-{number:08d}"


def _table(
    name: str,
    clicks: Clicks,
    numbers: Ints,
    session: Ints,
    shopper: Ints,
    texts: npt.NDArray[np.object_],
    assortment: Assortment,
) -> pa.Table:
    row = clicks.search
    event = pc.binary_join_element_wise(f"f{name}", _padded(numbers[row], 8), clicks.id_endings(), "-")
    shopper_id = pc.binary_join_element_wise(f"u-{name}-", _padded(np.maximum(shopper[row], 0), 7), "")
    columns = {
        "id": event,
        "time": pa.array(clicks.time_ms).cast(pa.timestamp("ms", tz="UTC")),
        "shopper_id": pc.if_else(pa.array(shopper[row] >= 0), shopper_id, ""),
        "session_id": pc.binary_join_element_wise(f"s-{name}-", _padded(session[row], 8), ""),
        "locale": pa.repeat(name, len(row)),
        "kind": clicks.kinds(),
        "product_id": pc.binary_join_element_wise("AS-", _padded(clicks.product + 1, 7), ""),
        "query": pa.array(texts[row], pa.string()),
        "position": pa.array(clicks.position.astype(np.int32)),
        "price_minor": pa.array(assortment.latents.price_minor[clicks.product]),
    }
    return pa.Table.from_arrays([columns[field] for field in EVENT_SCHEMA.names], schema=EVENT_SCHEMA)


def _padded(numbers: Ints, width: int) -> pa.Array:
    return pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), width, "0")
