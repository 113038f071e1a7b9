"""The thread of a gateway that writes the request log."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from serving.logs import log
from serving.request_log.page_files import PageFiles
from serving.request_log.shown_page import ShownPage

MAX_FILE_BYTES = 32 * 1024**2  # of pages in memory; the file has a fraction of it
BATCH = 64  # pages that become columns at once, in about a millisecond
POLL_S = 0.1  # the thread looks by itself: to wake it for each page would cost the event loop more than the page does
TELL_S = 60.0


@dataclass(slots=True)
class PageCounts:
    """Pages and files since the start of this process. `folder_bytes` is as of the last file."""

    logged: int = 0  # in files
    dropped: int = 0  # the queue was full
    failed: int = 0  # a file could not be written
    files: int = 0
    deleted_files: int = 0
    folder_bytes: int = 0


class PageWriter:
    """Takes pages from a queue, and writes a file when the oldest of them is `max_file_s` old or all have MAX_FILE_BYTES.

    A file that cannot be written is given up with its pages; the next one is tried again.
    """

    def __init__(
        self,
        queue: deque[ShownPage],
        columns: Callable[[Sequence[ShownPage]], pa.RecordBatch],
        files: PageFiles,
        max_file_s: float,
    ) -> None:
        self.counts = PageCounts()
        self._queue, self._columns, self._files, self._max_file_s = queue, columns, files, max_file_s
        self._batches: list[pa.RecordBatch] = []
        self._num_bytes = 0  # of them
        self._begun = time.monotonic()  # when the first page of the next file came, or the last file was written
        self._told = Told()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aisle-request-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Writes what is queued."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(POLL_S):
            self._collect()
            if time.monotonic() - self._begun >= self._max_file_s:
                self._write()
            self._told.tell(self.counts)
        self._collect()
        self._write()
        self._told.tell(self.counts, at_once=True)

    def _collect(self) -> None:
        while self._queue:
            if not self._batches:
                self._begun = time.monotonic()
            pages = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            try:
                batch = self._columns(pages)
            except Exception as error:
                self._failed(len(pages), error)
                continue
            self._batches.append(batch)
            self._num_bytes += batch.nbytes
            if self._num_bytes >= MAX_FILE_BYTES:
                self._write()

    def _write(self) -> None:
        batches, self._batches, self._num_bytes = self._batches, [], 0
        self._begun = time.monotonic()
        num_pages = sum(batch.num_rows for batch in batches)
        try:
            if batches:
                self._files.write(batches)
                self.counts.logged += num_pages
                self.counts.files += 1
        except Exception as error:  # a full disk, a folder that went: the thread goes on, whatever it is
            self._failed(num_pages, error)
        try:
            trimmed = self._files.trim()
            self.counts.deleted_files += trimmed.deleted
            self.counts.folder_bytes = trimmed.num_bytes
        except Exception as error:
            self._failed(0, error)

    def _failed(self, num_pages: int, error: Exception) -> None:
        self.counts.failed += num_pages
        self._told.error = f"{type(error).__name__}: {error}"


class Told:
    """Says in the log of messages what was lost or deleted, at most once a minute."""

    def __init__(self) -> None:
        self.error = ""
        self._before = (0, 0, 0)
        self._at = -TELL_S

    def tell(self, counts: PageCounts, *, at_once: bool = False) -> None:
        """Says what is new since the last time."""
        now = (counts.dropped, counts.failed, counts.deleted_files)
        if now == self._before and not self.error:
            return
        if time.monotonic() - self._at < TELL_S and not at_once:
            return
        dropped, failed, deleted = (after - before for after, before in zip(now, self._before, strict=True))
        if dropped or failed or self.error:
            fields = {"dropped": dropped, "failed": failed, "error": self.error}
            log.warning("request log loses pages; searches go on", extra={"fields": fields})
        if deleted:
            fields = {"files": deleted, "folder_bytes": counts.folder_bytes}
            log.info("request log deleted its oldest files", extra={"fields": fields})
        self._before, self._at, self.error = now, time.monotonic(), ""
