"""What a gateway showed, as a sampled log: a search hands its page over in microseconds, and a thread writes.

No search waits for the log or fails because of it. A page that does not fit the queue is dropped, and so are the pages of a file that
cannot be written; both are counted, in GetStats, and told in the log of messages once a minute. A process that is killed loses the pages
that are in no file yet: those of the last `request_log.max_file_s`, and no more than MAX_FILE_BYTES of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b

from models.bundles.manifest import Manifest
from models.events.shown_pages import page_schema
from models.products.product_table import ProductTable
from models.ranking.feature_names import FEATURES
from serving.config import RequestLogConfig
from serving.logs import log
from serving.request_log.page_files import PageFiles, pages_folder
from serving.request_log.page_writer import PageCounts, PageWriter
from serving.request_log.shown_page import PageColumns, ShownPage
from serving.search.request import Search
from serving.search.results import Results

MAX_QUEUED = 4000  # pages, some 40 MB with features

TagOf = Callable[[str, int], bytes]  # shopper id and time in ms -> what stands for the shopper that day


class RequestLog:
    """Belongs to the event loop, but for the thread that writes."""

    def __init__(
        self,
        config: RequestLogConfig,
        manifest: Manifest,
        products: ProductTable,
        tag_of: TagOf | None = None,
    ) -> None:
        """Starts the thread. Without `tag_of` a page names nobody. Raises ConfigError if there is no folder to write to."""
        self.keeps_features = config.features
        self._products = products
        self._tag_of = tag_of if config.shoppers == "pseudonym" else None
        self._threshold = int(config.share * 2**64)
        self._queue: deque[ShownPage] = deque()
        schema = page_schema(FEATURES if config.features else (), config.share)
        files = PageFiles(pages_folder(config, manifest.name), max_bytes=config.max_bytes, max_days=config.max_days)
        columns = PageColumns(schema, products, manifest.version, manifest.locales[0])
        self._writer = PageWriter(self._queue, columns, files, config.max_file_s)

    def samples(self, shopper_id: str, request_id: str) -> bool:
        """Says whether a search is logged: all searches of a shopper or none, in every process, so that histories are whole. A larger share
        keeps the shoppers of a smaller one. Searches without a shopper are drawn by their request ids."""
        drawn = blake2b((shopper_id or request_id).encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "big") < self._threshold

    def add(self, request_id: str, search: Search, results: Results) -> None:
        """Hands over the page of a search as the caller sent it. Never waits and never raises."""
        if len(self._queue) >= MAX_QUEUED:
            self._writer.counts.dropped += 1
            return
        try:
            self._queue.append(self._page(request_id, search, results))
        except Exception as error:
            log.error("page not logged", exc_info=error)

    def _page(self, request_id: str, search: Search, results: Results) -> ShownPage:
        now_ms = time.time_ns() // 1_000_000
        hits = results.hits
        tag = self._tag_of(search.shopper_id, now_ms) if self._tag_of and search.shopper_id else b""
        return ShownPage(
            time_ms=now_ms,
            request_id=request_id,
            search=search,
            searched_query=results.searched_query,
            shopper=tag,
            ranked_by=results.ranked_by.value,
            rows=hits.rows,
            scores=hits.scores,
            prices=list(map(self._products.price_minor, hits.rows)),  # now: an offer may change
            features=results.features,
        )

    def counts(self) -> PageCounts:
        return replace(self._writer.counts)

    def close(self) -> None:
        """Writes what is queued. It takes as long as the disk does."""
        self._writer.close()
