"""Gathers the attributes of products while they stream by, and writes their typed columns.

A cell costs 8 bytes while it waits, and each distinct text of an attribute is held once. Longer texts than MAX_VALUE_CHARS are counted
alone: prose is no value.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Ints
from models.products.attributes.columns import (
    BY_PRODUCT_WIDTHS,
    FACTS_FILE,
    AttributeFacts,
    codes_file,
    write_strings,
)
from models.products.attributes.parse import MAX_VALUE_CHARS, TypedValues, typed_values
from models.products.attributes.spec import AttributeSpec, AttributeType
from models.products.errors import CatalogueError
from models.products.product import Product

MAX_ATTRIBUTES = 20_000
DENSE_SHARE = 1 / 8  # of the products must have a value for a column of codes by product to pay


@dataclass(slots=True)
class _Cells:
    """The cells of one attribute: the product and the text of each, as numbers. A cell with a list has an entry for each item."""

    texts: dict[str, int] = field(default_factory=dict)
    rows: array[int] = field(default_factory=lambda: array("i"))
    codes: array[int] = field(default_factory=lambda: array("i"))
    holds_lists: bool = False
    num_long: int = 0  # cells that are counted alone


@dataclass(frozen=True, slots=True)
class _Column:
    """A typed column: its distinct values in order, and the products of each value in ascending order."""

    strings: list[str]  # (values,) empty strings for numbers
    numbers: Doubles  # (values,) NaN for keywords
    rows: npt.NDArray[np.int32]  # (entries,)
    starts: Ints  # (values,) where the products of each value start in `rows`


class AttributeCollector:
    """`specs` are the attributes whose type is stated. With `keeps_types` they are those of an older generation, and products have their
    values as lists: texts are not read again, an attribute that no product has any more keeps its column, and new attributes beyond
    MAX_ATTRIBUTES have none, as while the older generation served."""

    def __init__(self, specs: Sequence[AttributeSpec] = (), *, keeps_types: bool = False) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._keeps_types = keeps_types
        self._cells: dict[str, _Cells] = {spec.name: _Cells() for spec in specs} if keeps_types else {}
        self._num_products = 0

    def add(self, product: Product) -> None:
        """Takes the next product. Raises CatalogueError for more than MAX_ATTRIBUTES names."""
        row = self._num_products
        for name, text in product.attributes.items():
            cells = self._cells.get(name)
            if cells is None:
                if self._keeps_types and len(self._cells) == MAX_ATTRIBUTES:
                    continue
                cells = self._cells[name] = self._new_attribute(name)
            items = product.lists.get(name)
            if items is None and self._keeps_types and name in self._specs:
                cells.num_long += 1  # there is no value
                continue
            cells.holds_lists |= items is not None
            for item in items or (text,):
                if len(item) > MAX_VALUE_CHARS:
                    cells.num_long += 1
                    continue
                cells.rows.append(row)
                cells.codes.append(cells.texts.setdefault(item, len(cells.texts)))
        self._num_products += 1

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes the columns and returns what is to be told of them: the type and unit of each, and how many cells have no value of it."""
        folder.mkdir()
        facts: list[AttributeFacts] = []
        columns: list[_Column] = []
        by_product: dict[int, list[npt.NDArray[Any]]] = {width: [] for width in BY_PRODUCT_WIDTHS}
        num_values = num_entries = 0
        for name in sorted(self._cells):
            cells = self._cells.pop(name)
            typed, num_cells, unread, column = self._typed(name, cells)
            width = _by_product_width(column, self._num_products)
            start = 0
            if width:
                start = len(by_product[width]) * self._num_products
                by_product[width].append(_by_product(column, self._num_products, width))
            facts.append(
                AttributeFacts(
                    name=name,
                    type=typed.type,
                    unit=typed.unit,
                    cells=num_cells,
                    unread=unread,
                    first_value=num_values,
                    num_values=len(column.strings),
                    by_product_width=width,
                    by_product_start=start,
                )
            )
            columns.append(_Column(column.strings, column.numbers, column.rows, column.starts + num_entries))
            num_values += len(column.strings)
            num_entries += len(column.rows)
        write_strings(folder, [text for column in columns for text in column.strings])
        np.save(folder / "numbers.npy", _joined([column.numbers for column in columns], np.float64))
        np.save(folder / "rows.npy", _joined([column.rows for column in columns], np.int32))
        starts = _joined([column.starts for column in columns], np.int64)
        np.save(folder / "starts.npy", np.append(starts, num_entries))
        for width, parts in by_product.items():
            np.save(folder / codes_file(width), _joined(parts, np.dtype(f"<u{width}")))
        (folder / FACTS_FILE).write_text(
            json.dumps([asdict(one) for one in facts], ensure_ascii=False, indent=0), encoding="utf-8"
        )
        return {
            one.name: {"type": str(one.type), "unit": one.unit, "cells": one.cells, "unread": one.unread}
            for one in facts
        }

    def _new_attribute(self, name: str) -> _Cells:
        if len(self._cells) == MAX_ATTRIBUTES:
            raise CatalogueError(
                f"the catalogue has more than {MAX_ATTRIBUTES:,} attributes, such as {name[:80]!r}; "
                "name those that are needed with --attribute"
            )
        return _Cells()

    def _typed(self, name: str, cells: _Cells) -> tuple[TypedValues, int, int, _Column]:
        codes, rows = np.array(cells.codes, np.int32), np.array(cells.rows, np.int32)
        counts = np.bincount(codes, minlength=len(cells.texts))
        spec = self._specs.get(name, AttributeSpec(name))
        by_text: Mapping[str, int] = dict(zip(cells.texts, counts.tolist(), strict=True))
        typed = typed_values(
            by_text, stated=spec.type, unit=spec.unit, num_long=cells.num_long, holds_lists=cells.holds_lists
        )
        unread = 0
        if typed.type is not AttributeType.TEXT:
            unread = cells.num_long + sum(count for text, count in by_text.items() if text not in typed.by_text)
        return typed, len(codes) + cells.num_long, unread, _column(typed, list(cells.texts), codes, rows)


def _column(
    typed: TypedValues, texts: Sequence[str], codes: npt.NDArray[np.int32], rows: npt.NDArray[np.int32]
) -> _Column:
    """Returns the column of a type: keywords that differ in case alone are one value, spelt as the first of them is."""
    are_words = typed.type in (AttributeType.KEYWORD, AttributeType.KEYWORDS)
    spelling: dict[Any, str] = {}
    for text in texts:
        for value in typed.by_text.get(text, ()):
            key = value.casefold() if are_words else value
            spelling.setdefault(key, value if are_words else "")
    keys = sorted(spelling)
    number_of = {key: number for number, key in enumerate(keys)}
    values = [
        [number_of[value.casefold() if are_words else value] for value in typed.by_text.get(text, ())] for text in texts
    ]
    lengths = np.array([len(numbers) for numbers in values], np.int64)
    firsts = np.concatenate(([0], np.cumsum(lengths)))
    flat = np.array([number for numbers in values for number in numbers], np.int64)
    repeats = lengths[codes]  # (cells,)
    entry_rows = np.repeat(rows, repeats).astype(np.int64)
    within = np.arange(len(entry_rows)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    entry_values = flat[np.repeat(firsts[codes], repeats) + within]
    # Pairs of value and row in order, each once.
    num_rows = int(rows[-1]) + 1 if len(rows) else 1
    pairs = np.sort(entry_values * num_rows + entry_rows)
    pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)]]  # twice as fast as np.unique
    numbers = np.array([np.nan if are_words else float(key) for key in keys], np.float64)
    starts = np.searchsorted(pairs, np.arange(len(keys)) * num_rows)
    return _Column([spelling[key] for key in keys], numbers, (pairs % num_rows).astype(np.int32), starts)


def _by_product_width(column: _Column, num_products: int) -> int:
    """Returns the bytes of a code by product; 0 where few products have a value or one has several."""
    num_entries = len(column.rows)
    has_value = np.zeros(num_products, np.bool_)
    has_value[column.rows] = True
    if num_entries < DENSE_SHARE * num_products or np.count_nonzero(has_value) < num_entries:
        return 0
    return next(width for width in BY_PRODUCT_WIDTHS if len(column.strings) < 1 << 8 * width)


def _by_product(column: _Column, num_products: int, width: int) -> npt.NDArray[Any]:
    """Returns (products,) the number of each product's value from 1; 0 for none."""
    codes = np.zeros(num_products, np.dtype(f"<u{width}"))
    codes[column.rows] = np.repeat(
        np.arange(1, len(column.strings) + 1), np.diff(np.append(column.starts, len(column.rows)))
    )
    return codes


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)
