"""Chooses the format of a catalogue or log by its file name."""

from __future__ import annotations

from pathlib import Path

from models.products.errors import CatalogueError
from models.products.sources.csv_source import CsvSource
from models.products.sources.json_source import JsonSource
from models.products.sources.parquet_source import ParquetSource
from models.products.sources.source import RowSource


def open_source(path: Path) -> RowSource:
    """Opens CSV, JSON lines (each also gzipped), Parquet, or a folder of Parquet files.

    Raises CatalogueError for a missing file, an unknown format, or a file whose columns cannot be read.
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
    if name.endswith(".csv"):
        return CsvSource(path)
    if name.endswith(".jsonl"):
        return JsonSource(path)
    raise CatalogueError(
        f"{path}: not a known format; use .csv, .jsonl (or either with .gz), .parquet or a folder of it"
    )
