"""Rows of JSON: one object a line, or an array of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from models.products.attributes.cells import pairs_of
from models.products.errors import CatalogueError
from models.products.report import Skipped
from models.products.sources.lines import open_file, read_lines
from models.products.sources.source import Row

Parsed = tuple[int, dict[str, object] | Skipped, bytes]  # number of the row, the object or why there is none, the line


class JsonSource:
    """JSON objects, one a line, or all in one array. The columns are the keys of all of them; a row may lack any."""

    num_rows: int | None = None

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        self._path = path
        self._encoding = encoding
        first = next((line.lstrip() for line in read_lines(path) if line.strip()), b"")
        self._is_array = first.startswith(b"[") and first[1:].lstrip()[:1] in (b"{", b"")
        columns: dict[str, None] = {}
        nested: set[str] = set()
        for _, row, _ in self._parsed():
            if isinstance(row, dict):
                columns.update(dict.fromkeys(row))
                nested.update(name for name, value in row.items() if pairs_of(value) is not None)
        self.columns = tuple(columns)
        self.nested = frozenset(nested)
        if not self.columns:
            raise CatalogueError(f"{path}: there is no JSON object in it")

    def files(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield self._path.name, self.columns

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        file = self._path.name
        for number, row, line in self._parsed():
            if isinstance(row, Skipped):
                yield Row(file, number, reason=row, line=line.decode(self._encoding, "replace").rstrip("\r\n"))
            else:
                yield Row(file, number, [row.get(name) for name in names])

    def _parsed(self) -> Iterator[Parsed]:
        return self._items() if self._is_array else self._lines()

    def _lines(self) -> Iterator[Parsed]:
        for number, line in enumerate(read_lines(self._path), 1):
            if line.strip():
                yield number, _parse(line, self._encoding), line

    def _items(self) -> Iterator[Parsed]:
        """Yields the items of the array, one at a time. Raises CatalogueError where it ends early: what follows damage cannot be read."""
        import ijson

        if self._encoding != "utf-8":
            raise CatalogueError(
                f"{self._path}: an array of JSON must be UTF-8; save it as UTF-8, or write one object a line"
            )
        number = 0
        try:
            with open_file(self._path) as stream:
                for item in ijson.items(stream, "item", use_float=True):
                    number += 1
                    row = item if isinstance(item, dict) else Skipped.NOT_AN_OBJECT
                    yield number, row, b"" if isinstance(item, dict) else json.dumps(item, default=str).encode()
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise CatalogueError(f"{self._path}: the array is damaged after item {number} ({error})") from error


def _parse(line: bytes, encoding: str) -> dict[str, object] | Skipped:
    try:
        row = json.loads(line.decode(encoding))
    except UnicodeDecodeError:
        return Skipped.NOT_UTF8
    except (ValueError, RecursionError):
        return Skipped.BROKEN_JSON
    return row if isinstance(row, dict) else Skipped.NOT_AN_OBJECT
