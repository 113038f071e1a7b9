"""The interface of every format of a catalogue or log: its columns, and its rows in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from models.products.report import Skipped


@dataclass(slots=True)
class Row:
    """The requested cells of a row in the order of their names, or the reason and the line if it could not be parsed."""

    file: str
    number: int  # the line on which the row starts, or the row from 1 (Parquet)
    values: Sequence[object] = ()
    reason: Skipped | None = None
    line: str = ""


class RowSource(Protocol):
    """A file, or a folder of files, that is read row by row."""

    columns: tuple[str, ...]  # of the first file
    num_rows: int | None  # None if only reading the whole file would tell
    nested: frozenset[str]  # columns of which a cell holds an object, a map, or names with their values

    def files(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yields each file's name and columns."""
        ...

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """Yields every row from the start, with the cells of the columns `names`."""
        ...
