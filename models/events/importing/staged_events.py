"""Reads files into one table of DuckDB, `staged`: one row an event, with the reason of each row that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from models.events.errors import LogError
from models.events.importing.cells import (
    LEFT_OUT_KIND,
    UNKNOWN_KIND,
    kind_code,
    list_of,
    literal,
    person,
    price_minor,
    price_ticks,
    quoted,
    shortened,
    text,
    time_ms,
    truth,
    typed_time,
)
from models.events.importing.mapping import FIELDS, FLAGS, LogMapping, SourceMapping
from models.events.importing.report import MAX_QUERY_CHARS, Fault
from models.events.importing.source_files import SourceFile, cell_of, is_time, open_file, rows_of, top_column
from models.events.kinds import PURCHASE
from models.products.product import MAX_ID_CHARS

Run = Callable[[str], Any]  # runs a long statement, with progress

_EARLIEST_MS = 946_684_800_000  # 2000-01-01
_UNCLEAR_FLAG = "\x00flag"
_IDS = ("product", "shopper", "session", "id")
_EVENT_FIELDS = tuple(name for name in FIELDS if name not in (*FLAGS, "shown", "labels"))

_TABLES = """
CREATE TABLE staged (
    row_number BIGINT, -- of the source; NULL: as in the table
    time_ms BIGINT, kind TINYINT, product VARCHAR, shopper VARCHAR, session UBIGINT, query VARCHAR, locale VARCHAR,
    position INTEGER, price BIGINT,
    key UBIGINT, -- equal events have one
    fault UTINYINT, losses UTINYINT, value VARCHAR -- the value at fault
);
CREATE TABLE rejected (file INTEGER, line BIGINT, value VARCHAR);
"""


@dataclass(slots=True, kw_only=True)
class StagedFile:
    """Where the events of a file are in `staged`: rows `first` to `stop`."""

    name: str
    first: int
    stop: int
    rows: int  # that the file holds


@dataclass(slots=True, kw_only=True)
class Staging:
    """Stages file after file. Events after `now_ms` are bad."""

    connection: duckdb.DuckDBPyConnection
    mapping: LogMapping
    now_ms: int
    run: Run
    files: list[StagedFile] = field(default_factory=list)

    def start(self) -> None:
        self.connection.execute(_TABLES)

    def add_table(self, file: SourceFile, source: SourceMapping) -> None:
        """Reads a file that other sources join; several of one name are one table."""
        cells = ", ".join(f"{_read_cell(file, name)} AS {quoted(name)}" for name in source.read)
        name = quoted(source.name)
        is_new = not self.connection.execute(
            f"SELECT count(*) FROM duckdb_tables() WHERE table_name = {literal(source.name)}"
        ).fetchall()[0][0]
        into = f"CREATE TABLE {name} AS" if is_new else f"INSERT INTO {name}"
        self.run(f"{into} SELECT {cells} FROM {rows_of(file, source.read, source)}")
        self._take_rejects(len(self.files))
        self.files.append(StagedFile(name=str(file.path), first=self._num_staged(), stop=self._num_staged(), rows=0))

    def add(self, file: SourceFile, source: SourceMapping) -> None:
        """Reads the events of a file. Raises LogError where a column is missing."""
        first = self._num_staged()
        is_direct = source.shape == "events" and not source.rows
        types = dict.fromkeys(_EVENT_FIELDS, "VARCHAR")
        if is_direct:
            cells = self._cells(file, source, types)
            relation = f"(SELECT NULL::BIGINT AS row_number, {cells} FROM {self._relation(file, source)})"
        else:
            relation = self._source_rows(file, source, types)
        self.run(f"INSERT INTO staged {_staged(relation, source, self.mapping, types, self.now_ms)}")
        stop = self._num_staged()
        rows = stop - first if is_direct else self._count("source_rows")
        self.connection.execute("DROP TABLE IF EXISTS source_rows")
        rows += self._take_rejects(len(self.files))
        self.files.append(StagedFile(name=str(file.path), first=first, stop=stop, rows=rows))

    def finish(self) -> None:
        """Drops the tables that sources joined: the names of the log have tables of their own."""
        for name in {source.name for source in self.mapping.sources if source.shape == "table"}:
            self.connection.execute(f"DROP TABLE IF EXISTS {quoted(name)}")

    def _relation(self, file: SourceFile, source: SourceMapping) -> str:
        tops = {top_column(file, column) for column in source.columns.values() if not column.startswith("=")}
        return rows_of(file, sorted(top for top in tops if top is not None), source)

    def _cells(self, file: SourceFile, source: SourceMapping, types: dict[str, str]) -> str:
        """Returns SQL of a cell for each field; `types` gets MS for a time that is one already."""
        cells = []
        for name in (*_EVENT_FIELDS, *FLAGS, "shown", "labels"):
            column = source.columns.get(name)
            if column is None:
                if name in _EVENT_FIELDS:
                    cells.append(f"NULL::VARCHAR AS {name}")
                continue
            if column.startswith("="):
                cells.append(f"{literal(column[1:])} AS {name}")
                continue
            cell = cell_of(file, column)
            of_type = file.columns.get(column, "VARCHAR")
            if name == "time" and is_time(of_type):
                types["time"] = "MS"
                cell = typed_time(quoted(column), of_type, self.mapping.timezone)
            elif name in _IDS and not file.is_parquet:
                cell = shortened(cell)
            cells.append(f"{cell} AS {name}")
        return ", ".join(cells)

    def _source_rows(self, file: SourceFile, source: SourceMapping, types: dict[str, str]) -> str:
        """Writes the rows of a file into `source_rows`, and returns SQL of their events."""
        if source.rows:
            read = source.read or tuple(file.columns)
            cells = ", ".join(f"{_read_cell(file, name)} AS {quoted(name)}" for name in read)
            self.run(f"CREATE TABLE source_rows AS SELECT {cells} FROM {rows_of(file, read, source)}")
            self.connection.execute(
                "CREATE OR REPLACE TEMP VIEW input AS SELECT rowid + 1 AS row_number, * FROM source_rows"
            )
            made = self.connection.execute(f"DESCRIBE {source.rows}").fetchall()
            inner = SourceFile(path=file.path, columns={row[0]: row[1] for row in made})
            if "row_number" not in inner.columns:
                raise LogError(f"the mapping {self.mapping.name}: `rows` of {source.files!r} must pass row_number on")
            cells = self._cells(inner, source, types)
            relation = f"(SELECT row_number, {cells} FROM ({source.rows}))"
        else:
            cells = self._cells(file, source, types)
            self.run(f"CREATE TABLE source_rows AS SELECT {cells} FROM {self._relation(file, source)}")
            relation = "(SELECT rowid + 1 AS row_number, * FROM source_rows)"
        if source.shape == "impressions":
            return _of_flags(relation, source)
        return _of_pages(relation, source) if source.shape == "pages" else relation

    def _take_rejects(self, file: int) -> int:
        """Moves what DuckDB could not split into columns to `rejected`, and returns how many lines."""
        line = text("csv_line")
        try:
            self.connection.execute(
                f"INSERT INTO rejected SELECT {file}, line, any_value(left({line}, 200)) FROM reject_errors GROUP BY line"
            )
        except duckdb.CatalogException:  # no text file was read yet
            return 0
        self.connection.execute("DELETE FROM reject_errors; DELETE FROM reject_scans")
        return self._count(f"rejected WHERE file = {file}")

    def _num_staged(self) -> int:
        return self._count("staged")

    def _count(self, table: str) -> int:
        return int(self.connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def open_sources(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Path], mapping: LogMapping
) -> tuple[list[tuple[SourceFile, SourceMapping]], list[str]]:
    """Returns each file with its source, tables first, and the names of the files that no source takes. Raises LogError."""
    taken: list[tuple[SourceFile, SourceMapping]] = []
    unread: list[str] = []
    for path in files:
        sources = [source for source in mapping.sources if source.takes(path.name)]
        of_events = [source for source in sources if source.shape != "table"][:1]  # the first that fits
        sources = [*(source for source in sources if source.shape == "table"), *of_events]
        if not sources:
            unread.append(str(path))
        taken += [(open_file(connection, path, source), source) for source in sources]
    if not any(source.shape != "table" for _, source in taken):
        patterns = ", ".join(source.files for source in mapping.sources if source.shape != "table")
        raise LogError(
            f"no file is one of the mapping {mapping.name}, which reads {patterns}: there are {', '.join(path.name for path in files)}"
        )
    tables = {source.name for _, source in taken if source.shape == "table"}
    for source in mapping.sources:
        if source.shape == "table" and source.name not in tables:
            raise LogError(f"the mapping {mapping.name} needs a file {source.files} too; name it, or its folder")
    return sorted(taken, key=lambda pair: pair[1].shape != "table"), unread


def _read_cell(file: SourceFile, name: str) -> str:
    if name in file.columns:
        return cell_of(file, name)
    if not file.is_parquet and not file.delimiter:
        return quoted(name)  # a key of JSON that only later lines have
    raise LogError(f"{file.path} has no column {name!r}; its columns are {', '.join(file.columns)}")


def _of_flags(relation: str, source: SourceMapping) -> str:
    """Returns the impression of each row, and an event for each flag that is set."""
    flags = {kind: truth(name) for name, kind in FLAGS.items() if name in source.columns}
    unclear = " OR ".join(f"({flag}) IS NULL" for flag in flags.values())
    kinds = ", ".join(f"CASE WHEN {flag} THEN {literal(kind)} END" for kind, flag in flags.items())
    listed = f"CASE WHEN {unclear} THEN [{literal(_UNCLEAR_FLAG)}] ELSE list_filter(['impression', {kinds}], lambda x: x IS NOT NULL) END"
    return f"(SELECT * REPLACE (unnest({listed}) AS kind) FROM {relation})"


def _of_pages(relation: str, source: SourceMapping) -> str:
    """Returns an impression for each product shown, with its place, and the events of the other lists."""
    lists = ["list_transform(shown_list, lambda x, i: {'product': x, 'kind': 'impression', 'position': i})"]
    for name, kind in FLAGS.items():
        if name in source.columns:
            lists.append(
                f"list_transform({list_of(name)}, lambda x: {{'product': x, 'kind': {literal(kind)}, "
                "'position': list_position(shown_list, x)})"
            )
    if "labels" in source.columns:
        passed = ", ".join(literal(name.strip().lower()) for name, kind in source.kinds.items() if not kind) or "''"
        lists.append(
            "list_filter(list_transform(shown_list, lambda x, i: {'product': x, 'kind': coalesce(labels_list[i], ''), 'position': i}), "
            f"lambda x: lower(x.kind) NOT IN ({passed}))"
        )
    events = "[" + ", ".join(f"({one})" for one in lists) + "]"
    nothing = "[{'product': '', 'kind': 'impression', 'position': 1::BIGINT}]"
    prepared = f"SELECT *, {list_of('shown')} AS shown_list"
    prepared += f", {list_of('labels')} AS labels_list" if "labels" in source.columns else ""
    return f"""(SELECT * REPLACE (event.product AS product, event.kind AS kind, event.position::VARCHAR AS position)
        FROM (SELECT *, unnest(CASE WHEN len(shown_list) = 0 THEN {nothing} ELSE flatten({events}) END) AS event
        FROM ({prepared} FROM {relation})))"""


def _staged(relation: str, source: SourceMapping, mapping: LogMapping, types: dict[str, str], now_ms: int) -> str:
    """Returns SQL of the rows of `staged`. Each level computes what the next ones use more than once."""
    time = "time" if types["time"] == "MS" else time_ms("time_cell", mapping)
    time_cell = "time::VARCHAR" if types["time"] == "MS" else text("time")
    shift = 1 - mapping.first_position if source.shape != "pages" else 0
    everything = "hash(time_ms, kind, product, shopper, session, query, position, price)"
    by_id = "hash(id)" if source.shape == "events" else "hash(id, kind, product, position)"
    key = f"CASE WHEN id <> '' THEN {by_id} ELSE {everything} END" if "id" in source.columns else everything
    ids = " OR ".join(f"length({name}) > {MAX_ID_CHARS}" for name in _IDS)
    cells = ", ".join(f"{text(name)} AS {name}_cell" for name in _EVENT_FIELDS if name != "time")
    return f"""
    SELECT row_number, time_ms, kind, product, shopper, CASE WHEN session <> '' THEN hash(session) END, query, locale,
        position, price, {key}, fault, losses,
        CASE WHEN fault = 0 THEN NULL ELSE CASE fault WHEN {Fault.UNKNOWN_KIND:d} THEN left(kind_cell, 200)
            WHEN {Fault.LONG_ID:d} THEN left(product, 200)
            WHEN {Fault.UNCLEAR_TIME:d} THEN left(time_cell, 200) WHEN {Fault.EARLY_TIME:d} THEN left(time_cell, 200)
            WHEN {Fault.FUTURE_TIME:d} THEN left(time_cell, 200) END END
    FROM (SELECT *,
        CASE WHEN is_unreadable THEN {Fault.UNREADABLE:d}
            WHEN kind = {LEFT_OUT_KIND} THEN {Fault.LEFT_OUT:d}
            WHEN kind = {PURCHASE} AND is_returned THEN {Fault.RETURNED:d}
            WHEN kind_cell = {literal(_UNCLEAR_FLAG)} THEN {Fault.UNCLEAR_FLAG:d}
            WHEN kind = {UNKNOWN_KIND} THEN {Fault.UNKNOWN_KIND:d}
            WHEN product = '' THEN {Fault.NO_PRODUCT:d}
            WHEN {ids} THEN {Fault.LONG_ID:d}
            WHEN time_cell IS NULL OR time_cell = '' THEN {Fault.NO_TIME:d}
            WHEN time_ms IS NULL THEN {Fault.UNCLEAR_TIME:d}
            WHEN time_ms < {_EARLIEST_MS} THEN {Fault.EARLY_TIME:d}
            WHEN time_ms > {now_ms} THEN {Fault.FUTURE_TIME:d}
            ELSE 0 END AS fault,
        (CASE WHEN price_cell <> '' AND priced IS NULL AND NOT is_other_currency THEN 1 ELSE 0 END
            + CASE WHEN price_cell <> '' AND is_other_currency THEN 2 ELSE 0 END
            + CASE WHEN position_cell <> '' AND position IS NULL THEN 4 ELSE 0 END
            + CASE WHEN query_length > {MAX_QUERY_CHARS} THEN 8 ELSE 0 END)::UTINYINT AS losses,
        CASE WHEN query_length > {MAX_QUERY_CHARS} THEN '' ELSE query_cell END AS query,
        CASE WHEN NOT is_other_currency THEN priced END AS price
    FROM (SELECT *, CASE WHEN place >= 1 THEN place END AS position, {price_minor("ticks")} AS priced
    FROM (SELECT row_number, is_unreadable, time_cell, kind_cell, price_cell, position_cell, query_cell, {time} AS time_ms,
        ({kind_code("kind_cell", dict(source.kinds))})::TINYINT AS kind,
        {person("product_cell")} AS product, {person("shopper_cell")} AS shopper, {person("session_cell")} AS session,
        id_cell AS id, length(query_cell) AS query_length, coalesce(try_cast(quantity_cell AS DOUBLE) <= 0, false) AS is_returned,
        CASE WHEN locale_cell = '' THEN {literal(mapping.locale)} ELSE replace(locale_cell, '_', '-') END AS locale,
        try_cast({shortened("position_cell")} AS INTEGER) + {shift} AS place,
        {price_ticks("price_cell", mapping)} AS ticks,
        upper(currency_cell) NOT IN ('', {literal(mapping.currency.upper())}) AS is_other_currency
    FROM (SELECT row_number, time, time IS NULL AND product IS NULL AS is_unreadable, {time_cell} AS time_cell, {cells}
    FROM {relation}))))"""
