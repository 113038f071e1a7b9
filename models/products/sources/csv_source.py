"""Rows of comma-separated values."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from models.products.errors import CatalogueError
from models.products.report import Skipped
from models.products.sources.lines import read_lines
from models.products.sources.source import Row

_DELIMITERS = ",;\t|"
_STATED_DELIMITER = re.compile(rb'"?sep=(.)"?\s*', re.IGNORECASE)  # the first line of files that Excel reads


class CsvSource:
    """Values separated by a comma, semicolon, tab or vertical bar, with a header line. Quoted cells may contain line breaks.

    The delimiter is the one that a first line "sep=;" states, else the one that splits the header into the most columns.
    """

    num_rows: int | None = None
    nested: frozenset[str] = frozenset()

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        self._path = path
        self._encoding = encoding
        stated = _STATED_DELIMITER.fullmatch(next(read_lines(path), b""))
        self._lines_before = 1 if stated else 0
        try:
            headers = {
                delimiter: self._header(delimiter) for delimiter in (stated[1].decode() if stated else _DELIMITERS)
            }
        except UnicodeDecodeError as error:
            raise CatalogueError(
                f"{path}: the header line cannot be read as {encoding} ({error}); "
                "state the file's encoding, as --encoding windows-1252"
            ) from error
        except csv.Error as error:
            raise CatalogueError(f"{path}: the header line cannot be read as {encoding} CSV ({error})") from error
        self._delimiter = max(headers, key=lambda delimiter: len(headers[delimiter]))
        self.columns = tuple(name.strip() for name in headers[self._delimiter])
        if not any(self.columns):
            raise CatalogueError(f"{path}: the first line must name the columns, and it is empty")

    def files(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield self._path.name, self.columns

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        file = self._path.name
        places = [self.columns.index(name) for name in names]
        lines = _RowLines(self._lines(), self._encoding, self._lines_before)
        reader = csv.reader(lines, strict=True, delimiter=self._delimiter)
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
                if not lines.are_decoded:
                    reason = Skipped.NOT_UTF8
                elif len(cells) != len(self.columns):
                    reason = Skipped.WRONG_CELLS
            if reason is None:
                yield Row(file, lines.row_start, [cells[place] for place in places])
            else:
                yield Row(file, lines.row_start, reason=reason, line=lines.row_text())

    def _lines(self) -> Iterator[bytes]:
        return islice(read_lines(self._path), self._lines_before, None)

    def _header(self, delimiter: str) -> list[str]:
        lines = (line.decode(self._encoding) for line in self._lines())
        return next(csv.reader(lines, strict=True, delimiter=delimiter), [])


class _RowLines:
    """Feeds lines to a csv reader and remembers those of the current row.

    A quote that is never closed makes the reader swallow the lines after it. They are pushed back, so that such a row
    costs only itself.
    """

    def __init__(self, lines: Iterator[bytes], encoding: str, lines_before: int) -> None:
        self._unread = lines
        self._encoding = encoding
        self._pushed_back: deque[bytes] = deque()
        self._row: list[bytes] = []
        self.row_start = 1 + lines_before
        self.are_decoded = True

    def __iter__(self) -> _RowLines:
        return self

    def __next__(self) -> str:
        line = self._pushed_back.popleft() if self._pushed_back else next(self._unread)
        self._row.append(line)
        try:
            return line.decode(self._encoding)
        except UnicodeDecodeError:
            self.are_decoded = False
            return line.decode(self._encoding, "replace")

    def start_row(self) -> None:
        self.row_start += len(self._row)
        self._row.clear()
        self.are_decoded = True

    def push_back_all_but_first(self) -> None:
        self._pushed_back.extendleft(reversed(self._row[1:]))
        del self._row[1:]

    def row_text(self) -> str:
        return b"".join(self._row).decode(self._encoding, "replace").rstrip("\r\n")
