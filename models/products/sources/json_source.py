"""Rows of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from models.products.errors import CatalogueError
from models.products.report import Skipped
from models.products.sources.lines import read_lines
from models.products.sources.source import Row

LINES_FOR_COLUMNS = 1_000


class JsonSource:
    """One JSON object a line. The columns are the keys of the first 1,000 lines; a row may lack any of them."""

    num_rows: int | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        first = (_parse(line) for line in islice(read_lines(path), LINES_FOR_COLUMNS))
        self.columns = tuple(dict.fromkeys(chain.from_iterable(row for row in first if isinstance(row, dict))))
        if not self.columns:
            raise CatalogueError(f"{path}: no JSON object in the first {LINES_FOR_COLUMNS:,} lines")

    def files(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield self._path.name, self.columns

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        file = self._path.name
        for number, line in enumerate(read_lines(self._path), 1):
            if not line.strip():
                continue
            row = _parse(line)
            if isinstance(row, Skipped):
                yield Row(file, number, reason=row, line=line.decode("utf-8", "replace").rstrip("\r\n"))
            else:
                yield Row(file, number, [row.get(name) for name in names])


def _parse(line: bytes) -> dict[str, object] | Skipped:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return Skipped.NOT_UTF8
    except (ValueError, RecursionError):
        return Skipped.BROKEN_JSON
    return row if isinstance(row, dict) else Skipped.NOT_AN_OBJECT
