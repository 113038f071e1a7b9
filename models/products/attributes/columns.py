"""The typed attributes of a bundle's products, as mapped arrays.

Each attribute has its distinct values in order (keywords by their letters without case, numbers, dates and bools by size), and the
products of each value. What asks for a range or for any of some values reads slices, and a rare attribute costs what its cells cost:

    attributes.json     name, type, unit and place of each attribute
    strings.arrow       (values,) the keywords; empty for other types
    numbers.npy         (values,) float64; NaN for keywords
    starts.npy          (values + 1,) int64: where the products of each value start in rows.npy
    rows.npy            (entries,) int32: the products of each value, ascending
    codes_1.npy, ...    codes of 1, 2 or 4 bytes by product, of attributes with one value at most that an eighth of the products have

Products that come while Aisle serves are kept in memory, and their new values behind the frozen ones, in the order in which they came.

A cell costs 4 bytes, and 1 to 4 bytes a product where codes by product are kept. At most 2^31 - 1 products and 2^32 - 1 values of one
attribute.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.arrays import Bools, Doubles, Ints
from models.products.attributes.numbered_values import NumberedValues, within
from models.products.attributes.parse import MAX_VALUE_CHARS, read_value
from models.products.attributes.spec import AttributeType
from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts
from models.products.growing import GrowingArray

FACTS_FILE = "attributes.json"
STRINGS_FILE = "strings.arrow"
BY_PRODUCT_WIDTHS = (1, 2, 4)
Rows = npt.NDArray[np.int32]
MIN_SORTED = 1_000  # entries of appended products that are kept in lists until they are sorted
_NO_ROWS: Rows = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeFacts:
    """What `attributes.json` says of one attribute."""

    name: str
    type: AttributeType
    unit: str  # base unit of numbers, "" for none
    cells: int
    unread: int  # cells that have no value of the type
    first_value: int
    num_values: int
    by_product_width: int  # bytes of a code by product, 0 without them
    by_product_start: int


class Selection:
    """Some of the living products, as a mask (products,), and whichever are fewer: those that are in it or those that are not."""

    def __init__(self, mask: Bools) -> None:
        self.mask = mask
        self.size = int(np.count_nonzero(mask))
        self.lists_selected = 2 * self.size <= len(mask)

    @cached_property
    def rows(self) -> Ints:
        """The rows that are selected if `lists_selected`, else those that are not, ascending."""
        return np.flatnonzero(self.mask if self.lists_selected else ~self.mask)


class _Entries:
    """What products that were appended have as an attribute: pairs of row and value, in the order of the rows."""

    def __init__(self) -> None:
        self.rows = GrowingArray[np.int32](_NO_ROWS)
        self.values = GrowingArray[np.int32](_NO_ROWS)
        # By value: of all but the last entries in one array each, and of these in lists.
        self._sorted_rows = _NO_ROWS
        self._starts = np.zeros(1, np.int64)
        self._last: dict[int, list[int]] = {}

    def add(self, pairs: Sequence[tuple[int, int]]) -> None:
        self.values.append([value for _, value in pairs], len(pairs))
        self.rows.append([row for row, _ in pairs], len(pairs))
        for row, value in pairs:
            self._last.setdefault(value, []).append(row)
        if len(self.rows) - len(self._sorted_rows) > MIN_SORTED + len(self._sorted_rows) // 8:
            values = self.values.values
            self._sorted_rows = self.rows.values[np.argsort(values, kind="stable")]
            self._starts = np.concatenate([[0], np.cumsum(np.bincount(values))])
            self._last = {}

    def behind(self, rows: Rows, value: int) -> Rows:
        """Returns rows with those of a value behind them."""
        parts = [rows]
        if value < len(self._starts) - 1 and self._starts[value] < self._starts[value + 1]:
            parts.append(self._sorted_rows[self._starts[value] : self._starts[value + 1]])
        if value in self._last:
            parts.append(np.array(self._last[value], np.int32))
        return rows if len(parts) == 1 else np.concatenate(parts)

    def starting(self, start: int) -> tuple[Rows, Rows]:
        """Returns the rows and the values of the entries from a row."""
        rows, values = self.rows.values, self.values.values
        at = int(np.searchsorted(rows, start)) if start else 0
        return rows[at:], values[at:]

    def values_of(self, rows: Ints) -> Iterator[tuple[int, int]]:
        """Yields the place in `rows` and the number of each value that these products have."""
        firsts, lasts = (np.searchsorted(self.rows.values, rows, side) for side in ("left", "right"))
        for place in np.flatnonzero(firsts < lasts).tolist():
            for value in self.values.values[firsts[place] : lasts[place]].tolist():
                yield place, value


class AttributeColumn(NumberedValues):
    """One attribute. The values of products that were appended are kept as entries of row and value."""

    def __init__(self, facts: AttributeFacts, columns: AttributeColumns) -> None:
        super().__init__(facts.type, facts.num_values)
        self.name, self.unit = facts.name, facts.unit
        self._facts = facts
        self._columns = columns
        self._appended: _Entries | None = None
        self._dead: Ints | None = None  # (values,) how many of the first `_num_settled` removed products had each value
        self._num_settled = 0

    @property
    def num_entries(self) -> int:
        """The values of all products together, removed ones too."""
        appended = len(self._appended.rows) if self._appended else 0
        return int(self._starts[-1] - self._starts[0]) + appended

    @cached_property
    def _starts(self) -> Ints:
        return self._columns.starts[self._facts.first_value : self._facts.first_value + self.num_frozen + 1]

    @property
    def _frozen_numbers(self) -> Doubles:
        return self._columns.numbers[self._facts.first_value : self._facts.first_value + self.num_frozen]

    @cached_property
    def _frozen_strings(self) -> pa.LargeStringArray:
        return self._columns.strings.slice(self._facts.first_value, self.num_frozen)

    @property
    def by_product(self) -> npt.NDArray[Any] | None:
        """Returns (frozen products,) the number of each product's value from 1, 0 for none; None where such codes are not kept."""
        width, start = self._facts.by_product_width, self._facts.by_product_start
        return self._columns.codes[width][start : start + self._columns.num_frozen] if width else None

    @property
    def _all_frozen(self) -> Rows:
        """The frozen products of all values, value by value, ascending within each."""
        return self._columns.rows[self._starts[0] : self._starts[-1]]

    def append(self, rows: Sequence[int], texts: Sequence[str]) -> None:
        """Takes cells of products that were appended. `rows` ascend; a row with several texts is named with each. Texts that are no value
        of the type are not read, and neither are numbers and dates that may mean two things: only a whole column shows which."""
        if self.type is AttributeType.TEXT:
            return
        pairs: dict[tuple[int, int], None] = {}
        for row, text in zip(rows, texts, strict=True):
            for value in read_value(text, self.type, self.unit):
                pairs[row, self.number_of(value)] = None
        if pairs:
            if self._appended is None:
                self._appended = _Entries()
            self._appended.add(list(pairs))

    def rows_of(self, number: int) -> Rows:
        """Returns the products of a value, ascending, removed ones too."""
        frozen = self._frozen_rows(number, number + 1, 0) if number < self.num_frozen else _NO_ROWS
        return frozen if self._appended is None else self._appended.behind(frozen, number)

    def rows_of_any(self, numbers: Sequence[int], start: int = 0) -> Rows:
        """Returns the products of any of some values from the row `start`, in no order and perhaps several times, removed ones too."""
        parts = [self._frozen_rows(number, number + 1, start) for number in numbers if number < self.num_frozen]
        if self._appended is not None:
            rows, values = self._appended.starting(start)
            is_wanted = np.zeros(self.num_values, np.bool_)
            is_wanted[list(numbers)] = True
            parts.append(rows[is_wanted[values]])
        return np.concatenate([_NO_ROWS, *parts])

    def rows_between(self, low: float | None, high: float | None, start: int = 0) -> Rows:
        """Returns the products of an inclusive range of numbers from the row `start`, as `rows_of_any` does."""
        frozen = self._frozen_rows(*self.frozen_range(low, high), start)
        if self._appended is None:
            return frozen
        rows, values = self._appended.starting(start)
        return np.concatenate([frozen, rows[within(self.numbers[values], low, high)]])

    def _frozen_rows(self, first: int, last: int, start: int) -> Rows:
        if start >= self._columns.num_frozen:
            return _NO_ROWS
        rows = self._columns.rows[self._starts[first] : self._starts[last]]
        return rows[rows >= start] if start else rows

    def counts(self, selected: Selection | None = None) -> Ints:
        """Returns (values,) how many products have each value, of all living ones or of a selection of them."""
        if selected is None:
            counts = self._counts_of_all()
            return counts - self._counts_of_dead() if self._columns.num_removed else counts
        codes = self.by_product
        if codes is not None:
            rows = selected.rows
            if self._columns.num_products > len(codes):
                rows = rows[: np.searchsorted(rows, len(codes))]
            counts = histogram(codes.take(rows), self.num_frozen + 1)[1:]
            counts = counts if selected.lists_selected else np.diff(self._starts) - counts
        else:
            counts = self._counts_within(selected.mask)
        return self._with_appended(counts, selected.mask)

    def _counts_within(self, mask: Bools) -> Ints:
        """Returns (frozen values,) how many frozen products that a mask admits have each value."""
        passes = np.zeros(len(self._all_frozen) + 1, np.int64)
        np.cumsum(mask.take(self._all_frozen), out=passes[1:])
        return np.diff(passes[self._starts - self._starts[0]])

    def _counts_of_all(self) -> Ints:
        return self._with_appended(np.diff(self._starts), None)

    def _counts_of_dead(self) -> Ints:
        """Returns (values,) how many removed products had each value."""
        removed = self._columns.removed.values[self._num_settled :]
        if self._dead is None:
            self._dead = np.zeros(self.num_values, np.int64)
        if len(self._dead) < self.num_values:
            self._dead = np.concatenate([self._dead, np.zeros(self.num_values - len(self._dead), np.int64)])
        if len(removed):
            self._dead += self.counts_among(removed)
            self._num_settled += len(removed)
        return self._dead

    def _with_appended(self, counts: Ints, mask: Bools | None) -> Ints:
        """Returns the counts of frozen products (frozen values,) with those of the appended ones that a mask admits, (values,)."""
        if self._appended is None:
            return counts
        rows, values = self._appended.starting(0)
        appended = np.bincount(values if mask is None else values[mask[rows]], minlength=self.num_values)
        appended[: self.num_frozen] += counts
        return appended

    def counts_among(self, rows: Ints) -> Ints:
        """Returns (values,) how many of these products have each value."""
        if self._columns.num_products == self._columns.num_frozen:
            return self._frozen_counts_among(rows)
        counts = self._frozen_counts_among(rows[rows < self._columns.num_frozen])
        return counts if self._appended is None else self._with_appended(counts, self._mask_of(rows))

    def _frozen_counts_among(self, rows: Ints) -> Ints:
        codes = self.by_product
        if codes is not None:
            return histogram(codes.take(rows), self.num_frozen + 1)[1:]
        if self._has_several and len(rows) < len(self._all_frozen) // 16:
            return np.bincount(self._frozen_values_of(rows)[1], minlength=self.num_frozen)
        return self._counts_within(self._mask_of(rows))

    def _mask_of(self, rows: Ints) -> Bools:
        mask = np.zeros(self._columns.num_products, np.bool_)
        mask[rows] = True
        return mask

    @property
    def _has_several(self) -> bool:
        """Says whether the column has no codes by product though many products have values: some have several."""
        return self.by_product is None and len(self._all_frozen) > self._columns.num_frozen // 8

    @cached_property
    def _values_by_row(self) -> tuple[Ints, Rows]:
        """The values of all frozen products, product by product, and where those of each start (frozen products + 1,). Making them takes
        0.2 s for 2,000,000 entries, once, and spares the few products of a search or a change a look at every entry."""
        values = np.repeat(np.arange(self.num_frozen, dtype=np.int32), np.diff(self._starts))
        starts = np.zeros(self._columns.num_frozen + 1, np.int64)
        np.cumsum(np.bincount(self._all_frozen, minlength=self._columns.num_frozen), out=starts[1:])
        return starts, values[np.argsort(self._all_frozen, kind="stable")]

    def _frozen_values_of(self, rows: Ints) -> tuple[Ints, Rows]:
        """Returns the place in `rows` and the number of each value that these frozen products have."""
        starts, values = self._values_by_row
        lengths = starts[rows + 1] - starts[rows]
        ends = np.cumsum(lengths)
        entries = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts[rows] - (ends - lengths), lengths)
        return np.repeat(np.arange(len(rows)), lengths), values[entries]

    def by_row(self, start: int = 0) -> Doubles:
        """Returns (rows,) the number of each product from the row `start`, the smallest where it has several; NaN where it has none."""
        values = np.full(self._columns.num_products - start, np.nan)
        if start < self._columns.num_frozen:
            entry_numbers = np.repeat(self._frozen_numbers, np.diff(self._starts))[::-1]
            rows = self._all_frozen[::-1]
            if start:
                rows, entry_numbers = rows[rows >= start], entry_numbers[rows >= start]
            values[rows - start] = entry_numbers
        if self._appended is not None:
            rows, numbers = self._appended.starting(start)
            np.fmin.at(values, rows - start, self.numbers[numbers])
        return values

    def values_of(self, rows: Ints) -> Iterator[tuple[int, int]]:
        """Yields the place in `rows` and the number of each value that these products have."""
        codes = self.by_product
        places, frozen = None, rows
        if self._columns.num_products > self._columns.num_frozen:
            if self._appended is not None:
                yield from self._appended.values_of(rows)
            places = np.flatnonzero(rows < self._columns.num_frozen)
            frozen = rows[places]
        if codes is not None:
            for at, code in enumerate(codes[frozen].tolist()):
                if code:
                    yield at if places is None else int(places[at]), code - 1
            return
        if self._has_several:
            for at, value in zip(*(array.tolist() for array in self._frozen_values_of(frozen)), strict=True):
                yield at if places is None else int(places[at]), value
            return
        place = {row: at for at, row in enumerate(rows.tolist())}
        is_wanted = np.zeros(self._columns.num_frozen, np.bool_)
        is_wanted[frozen] = True
        entries = np.flatnonzero(is_wanted[self._all_frozen])
        values = np.searchsorted(self._starts - self._starts[0], entries, "right") - 1
        for entry, value in zip(entries.tolist(), values.tolist(), strict=True):
            yield place[int(self._all_frozen[entry])], value


def histogram(codes: npt.NDArray[Any], size: int) -> Ints:
    """Returns (size,) how often each code occurs. FAISS takes 0.5 ms for 500,000, and `np.bincount`, which reads int64 alone, 0.9 ms."""
    import faiss

    counts = np.zeros(size, np.int32)
    numbers = np.ascontiguousarray(codes, np.int32)
    faiss.ivec_hist(len(numbers), faiss.swig_ptr(numbers), size, faiss.swig_ptr(counts))
    return counts.astype(np.int64)


class AttributeColumns(Mapping[str, AttributeColumn]):
    """All typed attributes by name. Prose (AttributeType.TEXT) is among them, without values."""

    def __init__(
        self,
        facts: list[AttributeFacts],
        num_products: int,
        *,
        strings: pa.LargeStringArray,
        numbers: Doubles,
        starts: Ints,
        rows: Rows,
        codes: Mapping[int, npt.NDArray[Any]],
    ) -> None:
        self.num_frozen = num_products
        self.num_products = num_products  # with those that were appended
        self.removed = GrowingArray[np.int64](np.zeros(0, np.int64))  # rows in the order of their removal
        self.strings, self.numbers, self.starts, self.rows, self.codes = strings, numbers, starts, rows, codes
        self._columns = {one.name: AttributeColumn(one, self) for one in facts}

    @classmethod
    def none(cls, num_products: int) -> AttributeColumns:
        """Returns the columns of a bundle without typed attributes."""
        return cls(
            [],
            num_products,
            strings=pa.array([], pa.large_string()),
            numbers=np.zeros(0),
            starts=np.zeros(1, np.int64),
            rows=np.zeros(0, np.int32),
            codes={},
        )

    @classmethod
    def load(cls, folder: Path, num_products: int) -> AttributeColumns:
        """Maps the files. Raises ValueError for arrays that do not fit each other or the number of products."""
        facts = [
            AttributeFacts(**one | {"type": AttributeType(one["type"])})
            for one in json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        ]
        batch = pa.ipc.open_file(pa.memory_map(str(folder / STRINGS_FILE))).get_batch(0)
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("numbers", "starts", "rows")}
        codes = {width: np.load(folder / codes_file(width), mmap_mode="r") for width in BY_PRODUCT_WIDTHS}
        num_values = sum(one.num_values for one in facts)
        lengths = (batch.num_rows, len(arrays["numbers"]), len(arrays["starts"]) - 1)
        if lengths != (num_values,) * 3:
            raise ValueError(f"strings, numbers and starts are of {lengths} values; the attributes have {num_values}")
        rows, starts = arrays["rows"], arrays["starts"]
        if len(rows) != starts[-1] or (len(rows) and not (rows.min() >= 0 and rows.max() < num_products)):
            raise ValueError(
                f"{len(rows)} entries of {starts[-1]}, of products up to {rows.max(initial=0)} of {num_products}"
            )
        for width in BY_PRODUCT_WIDTHS:
            stated = num_products * sum(one.by_product_width == width for one in facts)
            if len(codes[width]) != stated:
                raise ValueError(f"{codes_file(width)} holds {len(codes[width])} codes; the attributes have {stated}")
        # Plain arrays over the maps: indexing a memmap costs 1 us more.
        plain = {name: np.asarray(array) for name, array in arrays.items()}
        return cls(
            facts,
            num_products,
            strings=batch.column(0),
            codes={width: np.asarray(array) for width, array in codes.items()},
            **plain,
        )

    @property
    def num_removed(self) -> int:
        return len(self.removed)

    def append(self, added: AddedProducts) -> None:
        """Takes the attributes of new products. Those that have no column stay without one."""
        cells: dict[str, tuple[list[int], list[str]]] = {}
        for row, product in enumerate(added.products, added.start):
            for name, text in product.attributes.items():
                if name in self._columns:
                    rows, texts = cells.setdefault(name, ([], []))
                    items = [item for item in product.lists.get(name, (text,)) if 0 < len(item) <= MAX_VALUE_CHARS]
                    texts += items
                    rows += [row] * len(items)
        for name, (rows, texts) in cells.items():
            self._columns[name].append(rows, texts)
        self.num_products += len(added.products)

    def remove(self, removed: RemovedProducts) -> None:
        self.removed.append(removed.rows, len(removed.rows))

    def change_offers(self, changed: ChangedOffers) -> None:
        """Does nothing: prices and stock are no attributes."""

    def __getitem__(self, name: str) -> AttributeColumn:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def codes_file(width: int) -> str:
    """Returns the name of the file with codes of so many bytes."""
    return f"codes_{width}.npy"


def write_strings(folder: Path, texts: list[str]) -> None:
    batch = pa.record_batch([pa.array(texts, pa.large_string())], names=["value"])
    with pa.OSFile(str(folder / STRINGS_FILE), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
