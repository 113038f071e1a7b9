"""Chooses the format of a catalogue or log by its file name."""

from __future__ import annotations

import codecs
from pathlib import Path

from models.products.errors import CatalogueError
from models.products.sources.csv_source import CsvSource
from models.products.sources.json_source import JsonSource
from models.products.sources.parquet_source import ParquetSource
from models.products.sources.source import RowSource


def open_source(path: Path, encoding: str = "utf-8") -> RowSource:
    """Opens CSV, TSV, JSON lines or an array of JSON (each also gzipped), Parquet, or a folder of Parquet files.

    `encoding` is that of a text file. Raises CatalogueError for a missing file, an unknown format or encoding, or a file whose columns
    cannot be read.
    """
    if not path.exists():
        raise CatalogueError(f"{path}: there is no such file")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.parquet") if not file.name.startswith((".", "_")))
        if not files:
            raise CatalogueError(f"{path}: a folder must hold *.parquet files, and this one has none")
        return ParquetSource(files)
    name = path.name.lower().removesuffix(".gz")
    if path.name.lower().endswith(".parquet"):
        return ParquetSource([path])
    if name.endswith((".csv", ".tsv")):
        return CsvSource(path, _line_encoding(encoding))
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return JsonSource(path, _line_encoding(encoding))
    raise CatalogueError(
        f"{path}: not a known format; use .csv, .tsv, .jsonl, .json (or any with .gz), .parquet or a folder of it"
    )


def _line_encoding(name: str) -> str:
    """Returns the encoding as Python names it. Raises CatalogueError for one whose lines do not end as those of ASCII do."""
    try:
        encoding = codecs.lookup(name).name
        is_usable = 'a,"\n'.encode(encoding) == b'a,"\n'
    except (LookupError, UnicodeError):
        is_usable, encoding = False, ""
    if not is_usable:
        raise CatalogueError(
            f"{name!r} is not an encoding that can be read; use utf-8, windows-1252 or another superset of ASCII"
        )
    return encoding
