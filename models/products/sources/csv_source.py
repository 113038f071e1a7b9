"""Rows of comma-separated values."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from models.products.errors import CatalogueError
from models.products.report import Skipped
from models.products.sources.lines import read_lines
from models.products.sources.source import Row


class CsvSource:
    """Comma-separated values with a header line. Quoted cells may contain line breaks."""

    num_rows: int | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            header = next(csv.reader((line.decode("utf-8") for line in read_lines(path)), strict=True), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise CatalogueError(f"{path}: the header line cannot be read as UTF-8 CSV ({error})") from error
        self.columns = tuple(name.strip() for name in header)
        if not any(self.columns):
            raise CatalogueError(f"{path}: the first line must name the columns, and it is empty")

    def files(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield self._path.name, self.columns

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        file = self._path.name
        places = [self.columns.index(name) for name in names]
        lines = _RowLines(read_lines(self._path))
        reader = csv.reader(lines, strict=True)
        next(reader)
        while True:
            lines.start_row()
            reason = None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                reason = Skipped.BROKEN_QUOTES
                lines.push_back_all_but_first()
            if reason is None:
                if not cells:
                    continue
                if not lines.are_utf8:
                    reason = Skipped.NOT_UTF8
                elif len(cells) != len(self.columns):
                    reason = Skipped.WRONG_CELLS
            if reason is None:
                yield Row(file, lines.row_start, [cells[place] for place in places])
            else:
                yield Row(file, lines.row_start, reason=reason, line=lines.row_text())


class _RowLines:
    """Feeds lines to a csv reader and remembers those of the current row.

    A quote that is never closed makes the reader swallow the lines after it. They are pushed back, so that such a row
    costs only itself.
    """

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._unread = lines
        self._pushed_back: deque[bytes] = deque()
        self._row: list[bytes] = []
        self.row_start = 1
        self.are_utf8 = True

    def __iter__(self) -> _RowLines:
        return self

    def __next__(self) -> str:
        line = self._pushed_back.popleft() if self._pushed_back else next(self._unread)
        self._row.append(line)
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            self.are_utf8 = False
            return line.decode("utf-8", "replace")

    def start_row(self) -> None:
        self.row_start += len(self._row)
        self._row.clear()
        self.are_utf8 = True

    def push_back_all_but_first(self) -> None:
        self._pushed_back.extendleft(reversed(self._row[1:]))
        del self._row[1:]

    def row_text(self) -> str:
        return b"".join(self._row).decode("utf-8", "replace").rstrip("\r\n")
