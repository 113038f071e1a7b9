"""Reads the request log of a service: the pages that it showed, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.arrays import Ints, Progress, silent
from models.events.errors import LogError
from models.events.shown_pages import FORMAT, FORMAT_KEY, PAGE_SCHEMA

_READ = (
    "time", "request_id", "locale", "query", "shopper", "sorted_by", "offset", "product_id", "price_minor",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PageLog:
    """Pages in order of time. The products of page p are `products[starts[p]:starts[p + 1]]`, in their places."""

    time_ms: Ints  # (pages,)
    offset: Ints  # (pages,) hits on the pages before
    request_ids: list[str]
    queries: list[str]  # as typed; "" for a page of the catalogue
    locales: list[str]
    tags: list[bytes | None]  # of the shopper on that day
    is_sorted: list[bool]  # by something that the caller named
    starts: Ints  # (pages + 1,)
    products: pa.Array  # large_string
    prices: pa.Array  # int64
    num_files: int = 0
    unread_files: tuple[str, ...] = ()  # that are not whole

    def __len__(self) -> int:
        return len(self.request_ids)

    def place(self, page: int, product_id: str) -> int | None:
        """Returns the place of a product on a page, from 1, or None."""
        start, stop = self.starts[page], self.starts[page + 1]
        shown = self.products.slice(start, stop - start).to_pylist()
        return shown.index(product_id) + 1 if product_id in shown else None


def read_pages(
    folder: Path, since_ms: int | None = None, until_ms: int | None = None, progress: Progress = silent
) -> PageLog:
    """Reads the pages from `since_ms` on and before `until_ms` of all whole files in a folder. A service may go on writing there, and
    deleting; one that is not there has no pages. Raises LogError for a file of another format."""
    files, unread = sorted(folder.glob("*.parquet")), []
    tables = []
    for at, file in enumerate(files):
        progress("read the pages", at, len(files))
        try:
            table = _read(file)
        except FileNotFoundError:  # deleted since: it was the oldest
            continue
        except (OSError, pa.ArrowException):
            unread.append(file.name)
            continue
        tables.append(_between(table, since_ms, until_ms))
    progress("read the pages", len(files), len(files))
    table = pa.concat_tables(tables).sort_by("time") if tables else PAGE_SCHEMA.empty_table().select(list(_READ))
    lists = _flat(table["product_id"].cast(pa.large_list(pa.large_string())))
    prices = _flat(table["price_minor"].cast(pa.large_list(pa.int64())))
    return PageLog(
        time_ms=np.asarray(table["time"].cast(pa.int64()), np.int64),
        offset=np.asarray(table["offset"], np.int64),
        request_ids=table["request_id"].to_pylist(),
        queries=table["query"].to_pylist(),
        locales=table["locale"].to_pylist(),
        tags=table["shopper"].to_pylist(),
        is_sorted=pc.not_equal(table["sorted_by"], "").to_pylist(),
        starts=np.append(0, np.cumsum(np.asarray(pc.list_value_length(lists), np.int64))),
        products=lists.flatten(),
        prices=prices.flatten(),
        num_files=len(tables),
        unread_files=tuple(unread),
    )


def _read(file: Path) -> pa.Table:
    with pq.ParquetFile(file) as opened:
        found = (opened.schema_arrow.metadata or {}).get(FORMAT_KEY, b"").decode()
        if found != FORMAT:
            raise LogError(
                f"{file} is no file of a request log of format {FORMAT}"
                + (
                    f" (it has format {found}); export with the version that wrote it"
                    if found
                    else "; move it elsewhere"
                )
            )
        return opened.read(columns=list(_READ)).replace_schema_metadata(None)


def _between(table: pa.Table, since_ms: int | None, until_ms: int | None) -> pa.Table:
    times = table["time"].cast(pa.int64())
    if since_ms is not None:
        table, times = table.filter(kept := pc.greater_equal(times, since_ms)), times.filter(kept)
    return table if until_ms is None else table.filter(pc.less(times, until_ms))


def _flat(column: pa.ChunkedArray) -> pa.Array:
    flat = column.combine_chunks()
    return pa.concat_arrays(flat.chunks) if isinstance(flat, pa.ChunkedArray) else flat
