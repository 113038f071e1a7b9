"""Imports files of user behaviour as a log, atomically: the log appears under its name when it is whole."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from models.arrays import Progress, silent
from models.events.errors import LogError
from models.events.event_log import LOG_JSON
from models.events.importing.checked_events import (
    LOG_ROWS,
    bad_rows,
    cap_robots,
    count_events,
    count_faults,
    find_duplicates,
    number_names,
    number_sessions,
)
from models.events.importing.log_writer import Renumbering, Sessions, write_columns, write_log_json, write_names
from models.events.importing.mapping import LogMapping
from models.events.importing.report import ImportReport
from models.events.importing.source_files import find_files, repeated_files
from models.events.importing.staged_events import Staging, open_sources

_BATCH_ROWS = 1 << 19
_DAY_MS = 86_400_000
_MIXED = "state machine"  # what DuckDB says of lines that end in several ways
_FULL = ("no space left", "file too large", "disk quota", "max_temp_directory_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportLimits:
    """What an import may use and lose."""

    memory_gib: float = 2.0  # of DuckDB; the rest of the process needs some hundred MiB
    max_bad: float = 0.01  # share of the rows
    max_shopper_events: int | None = None  # None: robots alone are capped
    now_ms: int | None = None  # later events, by a day or more, are bad; None: the clock


def import_log(
    paths: Sequence[Path],
    out: Path,
    mapping: LogMapping,
    limits: ImportLimits | None = None,
    *,
    catalogue: pa.Array | None = None,
    bad_rows_file: Path | None = None,
    replace: bool = False,
    progress: Progress = silent,
) -> ImportReport:
    """Writes the folder `out` and returns what was done.

    Products outside `catalogue` are kept out, unless it is None. `bad_rows_file` (CSV) gets file, row, reason and value of each bad row,
    also when there are too many. Raises LogError for files or a mapping that cannot be used, for more than `max_bad` bad rows, for a log
    without events, and for a full disk.
    """
    limits = limits or ImportLimits()
    if out.exists() and not replace:
        raise LogError(f"{out} exists; give --force to replace it, or another folder")
    if out.exists() and not (out / LOG_JSON).is_file():
        raise LogError(f"{out} is no log, so it is not replaced")
    files = find_files(paths)
    partial = out.with_name(f"{out.name}.partial")
    with _own(partial) as folder, _plain_errors(partial), _database(folder, limits.memory_gib) as connection:
        report = ImportReport(lacks=list(mapping.lacks))
        run = _runner(connection, progress)
        staging = Staging(
            connection=connection,
            mapping=mapping,
            now_ms=(int(time.time() * 1000) if limits.now_ms is None else limits.now_ms) + _DAY_MS,
            run=run("read the files"),
        )
        _stage(staging, files, report, run)
        count_faults(staging, report)
        if bad_rows_file is not None:
            _write_bad_rows(staging, bad_rows_file)
        _check_share(report, limits.max_bad)
        find_duplicates(staging, run("find duplicates"), report)
        number_names(staging, run("number the names"), report, catalogue)
        cap_robots(staging, run("find robots"), report, limits.max_shopper_events)
        number_sessions(run("number the sessions"))
        _write(folder, connection, mapping, report, progress)
        connection.close()
        shutil.rmtree(folder / "work")
        _publish(folder, out)
    return report


def _stage(staging: Staging, files: Sequence[Path], report: ImportReport, run: Any) -> None:
    repeated = repeated_files(files)
    report.repeated_files = {str(one): str(other) for one, other in repeated.items()}
    sources, report.unread_files = open_sources(
        staging.connection, [file for file in files if file not in repeated], staging.mapping
    )
    staging.start()
    for file, source in sources:
        staging.run = run(f"read {file.path.name}")
        add = staging.add_table if source.shape == "table" else staging.add
        try:
            try:
                add(file, source)
            except duckdb.InvalidInputException as error:
                if _MIXED not in str(error):
                    raise
                add(dataclasses.replace(file, is_strict=False), source)
        except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.BinderException) as error:
            raise LogError(f"{file.path}: cannot be read ({_first_line(error)})") from error
    staging.finish()


def _check_share(report: ImportReport, max_bad: float) -> None:
    if report.rows and report.num_bad > max_bad * report.rows:
        told = [line for line in report.lines() if line.startswith(("bad", "unknown kinds"))]
        raise LogError(
            f"{report.num_bad:,} of {report.rows:,} rows ({report.num_bad / report.rows:.1%}) are bad, and --max-bad is {max_bad:g}: "
            f"{'; '.join(told)}. --bad-rows FILE writes each with its file, row and value"
        )


def _write(
    folder: Path, connection: duckdb.DuckDBPyConnection, mapping: LogMapping, report: ImportReport, progress: Progress
) -> None:
    report.events = num_events = count_events(connection)
    if not num_events:
        raise LogError(f"no event is left: {'; '.join(report.lines())}")
    tables = {"shopper": "shoppers", "product": "products", "query": "queries", "locale": "locales"}
    sizes = {name: _count(connection, table) for name, table in {**tables, "session": "sessions"}.items()}
    renumberings = {name: Renumbering(sizes[name]) for name in tables}
    empty = connection.execute("SELECT code FROM queries WHERE name = ''").fetchall()[0][0]
    renumberings["query"](np.array([empty], np.int32))  # 0 is no query
    sessions = Sessions(sizes["session"], sizes["shopper"], mapping.session_gap_minutes * 60_000)
    progress("sort", 0, None)
    reader = connection.sql(LOG_ROWS).to_arrow_reader(_BATCH_ROWS)
    written = write_columns(folder, _told(reader, num_events, progress), num_events, renumberings, sessions)
    for name, table in tables.items():
        places = renumberings[name].place
        connection.register(
            "renumbered",
            pa.table({"code": pa.array(np.arange(len(places), dtype=np.int32)), "place": pa.array(places)}),
        )
        ordered = f"SELECT name FROM {table} JOIN renumbered USING (code) WHERE place >= 0 ORDER BY place"
        write_names(folder / f"{table}.parquet", connection.sql(ordered).to_arrow_reader(_BATCH_ROWS))
        connection.unregister("renumbered")
    report.kinds, report.searched, report.shown_in_searches = written.kinds, written.searched, written.shown_in_searches
    report.first_ms, report.last_ms = written.first_ms, written.last_ms
    report.sessions, report.derived_sessions, report.alone = sessions.size, sessions.derived, sessions.alone
    report.shoppers, report.products = renumberings["shopper"].size, renumberings["product"].size
    report.queries, report.locales = renumberings["query"].size - 1, renumberings["locale"].size
    progress("write the log", 0, None)
    facts = {
        "events": num_events,
        "shoppers": report.shoppers,
        "sessions": report.sessions,
        "products": report.products,
        "queries": report.queries,
        "locales": report.locales,
        "first_ms": report.first_ms,
        "last_ms": report.last_ms,
        "mapping": mapping.as_json(),
        "report": report.as_json(),
    }
    write_log_json(folder, facts)


def _told(reader: Any, total: int, progress: Progress) -> Iterator[pa.RecordBatch]:
    done = 0
    for batch in reader:
        if batch.num_rows:
            yield batch
        done += batch.num_rows
        progress("write the events", done, total)


def _write_bad_rows(staging: Staging, path: Path) -> None:
    partial = path.with_name(f"{path.name}.partial")
    reader = bad_rows(staging).to_arrow_reader(_BATCH_ROWS)
    with pc.CSVWriter(partial, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    partial.replace(path)


@contextmanager
def _own(folder: Path) -> Iterator[Path]:
    """Makes the folder of an import anew, removes it at the end unless it was renamed, and keeps other imports out of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{folder.name}.lock")
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LogError(f"another import is writing {folder}; wait for it, or give another --out") from None
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "work").mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


@contextmanager
def _database(folder: Path, memory_gib: float) -> Iterator[duckdb.DuckDBPyConnection]:
    work = folder / "work"
    connection = duckdb.connect(
        str(work / "events.duckdb"),
        config={
            "memory_limit": f"{max(0.25, memory_gib):g}GiB",
            "temp_directory": str(work / "spill"),
            "threads": str(len(os.sched_getaffinity(0))),
            "autoinstall_known_extensions": "false",  # an import asks nothing of the network
            "autoload_known_extensions": "false",
        },
    )
    try:
        # Text without a zone is read as UTC where the mapping names no other.
        connection.execute(
            "SET TimeZone = 'UTC'; SET enable_progress_bar = true; SET enable_progress_bar_print = false"
        )
        yield connection
    finally:
        connection.close()


@contextmanager
def _plain_errors(partial: Path) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        said = str(error).lower()
        if any(words in said for words in _FULL):
            raise LogError(
                f"the disk of {partial.parent} is full: an import needs about twice the size of its files, uncompressed, while it runs. "
                "Nothing was written; free some, or give an --out on another disk"
            ) from error
        if isinstance(error, duckdb.OutOfMemoryException):
            raise LogError(
                f"the import needs more memory than its limit; give more with --memory ({_first_line(error)})"
            ) from error
        if isinstance(error, duckdb.Error):
            raise LogError(f"the import failed: {_first_line(error)}") from error
        raise


def _runner(connection: duckdb.DuckDBPyConnection, progress: Progress) -> Any:
    """Returns a function that names a step and returns what runs a statement of it, and tells how far it is."""

    def step(what: str) -> Any:
        def run(sql: str) -> None:
            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(connection.execute, sql)
                try:
                    while True:
                        try:
                            running.result(timeout=0.2)
                            break
                        except TimeoutError:
                            if running.done():
                                raise
                            progress(what, max(0, int(connection.query_progress())), 100)
                except KeyboardInterrupt:
                    connection.interrupt()
                    raise
            progress(what, 100, 100)

        return run

    return step


def _publish(folder: Path, out: Path) -> None:
    """Gives the log its name. One that is replaced stands aside until the new one is there."""
    for path in (folder, folder.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    old = out.with_name(f"{out.name}.replaced")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    folder.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
