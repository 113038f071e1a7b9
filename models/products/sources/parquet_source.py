"""Rows of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.products.errors import CatalogueError
from models.products.sources.source import Row

BATCH_ROWS = 4_096  # decoded at a time


class ParquetSource:
    """Parquet files, read one after another."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._columns: dict[Path, tuple[str, ...]] = {}
        self.num_rows: int | None = 0
        nested: set[str] = set()
        for path in paths:
            with _open(path) as file:
                nested.update(field.name for field in file.schema_arrow if _is_nested(field.type))
                self._columns[path] = tuple(file.schema_arrow.names)
                self.num_rows += file.metadata.num_rows
        self.columns = self._columns[paths[0]]
        self.nested = frozenset(nested)

    def files(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        for path, columns in self._columns.items():
            yield path.name, columns

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        for path in self._paths:
            number = 0
            with _open(path) as file:
                for batch in _batches(path, file, names):
                    for values in zip(*(_cells(batch.column(name)) for name in names), strict=True):
                        number += 1
                        yield Row(path.name, number, values)


def _is_nested(of_type: pa.DataType) -> bool:
    if pa.types.is_list(of_type) or pa.types.is_large_list(of_type):
        return bool(pa.types.is_struct(of_type.value_type))
    return bool(pa.types.is_map(of_type) or pa.types.is_struct(of_type))


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise CatalogueError(f"{path}: cannot be opened as Parquet ({error})") from error


def _batches(path: Path, file: pq.ParquetFile, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=list(names))
    except (pa.ArrowException, OSError) as error:
        raise CatalogueError(f"{path}: is damaged ({error})") from error


def _cells(column: pa.Array) -> list[object]:
    """Returns Python values. Text that is not UTF-8 is returned as bytes, so that only its row is lost."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_cell(scalar) for scalar in column]


def _cell(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        is_text = isinstance(scalar, pa.StringScalar | pa.LargeStringScalar)
        return scalar.as_buffer().to_pybytes() if is_text else b"\xff"
