"""The files of an import: found, recognised, and read by DuckDB with cells as text."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from models.events.errors import LogError
from models.events.importing.cells import literal, number_text, quoted, shortened, text
from models.events.importing.mapping import SourceMapping

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_ALL = (*TEXT_SUFFIXES, *JSON_SUFFIXES, ".parquet")
_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 20_480  # of JSON, in which its keys are looked for
_MAX_LINE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file with rows. `columns` are name -> type, all VARCHAR but those of Parquet."""

    path: Path
    columns: dict[str, str]
    delimiter: str = ""  # of a text file
    is_strict: bool = True  # False: lines may end in several ways

    @property
    def is_parquet(self) -> bool:
        return suffix_of(self.path) == ".parquet"


def suffix_of(path: Path) -> str:
    """Returns the suffix that says what a file holds; "" if it is none that can be read. `.gz` is no part of it."""
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in _ALL if name.endswith(suffix)), "")


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Returns the files of `paths`, those of folders in order of their names. Raises LogError if there is none, or one of no known form."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and suffix_of(file))
            found = [
                file for file in inside if not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
            ]
            if not found:
                raise LogError(f"{path} holds no file that ends in {', '.join(_ALL)}, or .gz of them")
            files += found
        elif not path.is_file():
            raise LogError(f"there is no {path}")
        elif not suffix_of(path):
            raise LogError(f"{path} must end in {', '.join(_ALL)}, or .gz of them")
        else:
            files.append(path)
    return list(dict.fromkeys(files))


def repeated_files(files: Sequence[Path]) -> dict[Path, Path]:
    """Returns the files that are byte for byte another one before them, with that one."""
    by_size: dict[int, list[Path]] = {}
    for file in files:
        by_size.setdefault(file.stat().st_size, []).append(file)
    repeated: dict[Path, Path] = {}
    for same in by_size.values():
        first: dict[bytes, Path] = {}
        for file in same if len(same) > 1 else ():
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").digest()
            if first.setdefault(digest, file) != file:
                repeated[file] = first[digest]
    return repeated


def open_file(connection: duckdb.DuckDBPyConnection, path: Path, source: SourceMapping | None = None) -> SourceFile:
    """Looks at the columns of a file. Raises LogError for a damaged or an empty file."""
    source = source or SourceMapping()
    suffix = suffix_of(path)
    try:
        if suffix in TEXT_SUFFIXES:
            names, delimiter = _header(path, source)
            return SourceFile(path=path, columns=dict.fromkeys(names, "VARCHAR"), delimiter=delimiter)
        if suffix == ".parquet":
            described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({_pattern(path)})").fetchall()
            return SourceFile(path=path, columns={row[0]: row[1] for row in described})
        described = connection.execute(
            f"DESCRIBE SELECT * FROM read_json({_pattern(path)}, sample_size={_SAMPLE_ROWS}, maximum_depth=1, "
            f"ignore_errors=true{_json_form(path)})"
        ).fetchall()
        return SourceFile(path=path, columns={row[0]: "VARCHAR" for row in described})
    except UnicodeDecodeError:
        raise LogError(
            f"{path}: the header is not {source.encoding}; a mapping's source may have encoding = 'latin-1'"
        ) from None
    except (duckdb.Error, OSError, EOFError) as error:
        raise LogError(f"{path}: cannot be opened ({_first_line(error)})") from None


def rows_of(file: SourceFile, columns: Sequence[str], source: SourceMapping) -> str:
    """Returns SQL of a relation with these columns of a file. Rows of text that cannot be split are kept in DuckDB's reject_errors."""
    path = _pattern(file.path)
    if file.is_parquet:
        return f"read_parquet({path})"
    if file.delimiter:
        types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in file.columns)
        quote = literal(source.quote)
        return (
            f"read_csv({path}, auto_detect=false, header={str(not source.header).lower()}, delim={literal(file.delimiter)}, "
            f"quote={quote}, escape={quote}, columns={{{types}}}, store_rejects=true, rejects_limit=0, "
            f"maximum_line_size={_MAX_LINE_BYTES}, strict_mode={str(file.is_strict).lower()}, "
            f"encoding={literal(source.encoding)})"
        )
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in columns)
    return (
        f"read_json({path}, columns={{{types}}}, ignore_errors=true, maximum_object_size={_MAX_LINE_BYTES}"
        f"{_json_form(file.path)})"
    )


def top_column(file: SourceFile, column: str) -> str | None:
    """Returns the column of a file that `column` names or leads into; None if it has none."""
    if column in file.columns:
        return column
    top = column.partition(".")[0]
    return top if top in file.columns else None


def cell_of(file: SourceFile, column: str) -> str:
    """Returns SQL of a column, or of a value inside a nested one, as text."""
    top = top_column(file, column)
    if top is None:
        raise LogError(f"{file.path} has no column {column!r}; its columns are {', '.join(file.columns)}")
    of_type = file.columns[top]
    cell = quoted(top)
    if top != column:
        nested = cell if of_type == "VARCHAR" else f"to_json({cell})"
        path = "$" + "".join(f".{quoted(part)}" for part in column.split(".")[1:])
        return f"CASE WHEN json_valid({nested}) THEN json_extract_string({nested}, {literal(path)}) END"
    if of_type == "VARCHAR":
        return cell
    if of_type in ("DOUBLE", "FLOAT") or of_type.startswith("DECIMAL"):
        # A DOUBLE would change ids of more than 15 digits.
        is_exact = of_type.startswith("DECIMAL")
        return f"regexp_replace({cell}::VARCHAR, '\\.0+$', '')" if is_exact else number_text(f"{cell}::DOUBLE")
    if of_type.endswith("]") or of_type.startswith(("STRUCT", "MAP")):
        return f"to_json({cell})::VARCHAR"
    if of_type == "BLOB":
        return f"TRY(decode({cell}))"
    return f"{cell}::VARCHAR"


def is_time(of_type: str) -> bool:
    return of_type.startswith("TIMESTAMP") or of_type == "DATE"


def _header(path: Path, source: SourceMapping) -> tuple[list[str], str]:
    """Returns the names of a text file's columns, and what separates them: what splits the first line into the most."""
    with _opened(path) as file:
        line = (
            file.readline(1 << 20).decode("utf-8-sig" if source.encoding == "utf-8" else source.encoding).rstrip("\r\n")
        )
    quote = source.quote or None
    split = {
        delimiter: next(
            csv.reader(
                io.StringIO(line),
                delimiter=delimiter,
                quotechar=quote,
                quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
            ),
            [],
        )
        for delimiter in _DELIMITERS
    }
    delimiter = max(split, key=lambda one: len(split[one]))
    names = list(source.header) or [name.strip() for name in split[delimiter]]
    if not any(names):
        raise LogError(f"{path}: the first line must name the columns, and it is empty")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise LogError(f"{path}: column {twice[0]!r} is there more than once; rename one")
    return names, delimiter


def _opened(path: Path) -> Any:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _pattern(path: Path) -> str:
    """Returns the literal of a path that DuckDB takes for nothing but this file."""
    return literal("".join(f"[{sign}]" if sign in "*?[" else sign for sign in str(path)))


def _json_form(path: Path) -> str:
    is_lines = suffix_of(path) != ".json"
    return ", format='newline_delimited'" if is_lines else ", format='auto'"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def distinct_ids(catalogue: Path, column: str) -> pa.Array:
    """Returns the distinct product ids in a column of a catalogue, as the events' ids are read. Raises LogError."""
    with duckdb.connect(config={"memory_limit": "1GiB", "autoinstall_known_extensions": "false"}) as connection:
        ids: list[pa.ChunkedArray] = []
        for path in find_files([catalogue]):
            file = open_file(connection, path)
            cell = cell_of(file, column)
            cell = text(cell if file.is_parquet else shortened(cell))
            try:
                found = connection.sql(
                    f"SELECT DISTINCT {cell} AS id FROM {rows_of(file, [column.partition('.')[0]], SourceMapping())}"
                )
                table: Any = found.to_arrow_table()
                ids.append(table["id"].cast(pa.large_string()))
            except duckdb.Error as error:
                raise LogError(f"{path}: cannot be read ({_first_line(error)})") from None
    return pa.chunked_array([chunk for one in ids for chunk in one.chunks], pa.large_string()).combine_chunks()
