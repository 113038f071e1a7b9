"""The products of a bundle as an Arrow file that is mapped, not loaded: a row costs no memory until it is read. Products that come while
Aisle serves are appended in memory.

Strings are read through the columns' raw buffers, which takes 75 us for 24 products of 6 fields, against 204 us through `pyarrow`'s
scalars.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Bools, Codes, Ints
from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts
from models.products.growing import GrowingArray
from models.products.product import Product

BLOCK_BITS = 14
BLOCK = 1 << BLOCK_BITS  # rows of every record batch but the last
CORE_FIELDS = ("title", "brand", "category", "price_minor", "in_stock")
OTHER_CATEGORIES = "other_categories"
ATTRIBUTE = "attributes."
RARE = "rare_attributes"  # the column of attributes without a column of their own: numbers of their names, and texts
MAX_CACHED_IDS = 100_000  # whose rows are kept, some 150 bytes each; a look-up takes 10 to 20 us
NAMES_SUFFIX = ".names.json"  # of the file with these names


def write_products(
    path: Path, products: Iterable[Product], attributes: Sequence[str], *, keeps_rare: bool = False
) -> int:
    """Writes products in blocks and returns their number. Each of `attributes` gets a column. Others share one if `keeps_rare`, where they
    cost nothing for products without them, and are dropped otherwise."""
    rare: dict[str, int] = {}
    named = set(attributes)
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("title", pa.string()),
            ("brand", pa.string()),
            ("category", pa.string()),
            ("price_minor", pa.int64()),
            ("in_stock", pa.bool_()),
            (OTHER_CATEGORIES, pa.list_(pa.string())),
            *([(RARE, pa.map_(pa.int32(), pa.string()))] if keeps_rare else []),
            *((ATTRIBUTE + name, pa.string()) for name in attributes),
        ]
    )
    count = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for block in _blocks(products):
            columns: list[list[Any]] = [
                [p.id for p in block],
                [p.title for p in block],
                [p.brand for p in block],
                [p.category for p in block],
                [p.price_minor for p in block],
                [p.in_stock for p in block],
                [p.other_categories for p in block],
                *([[_rare(p.attributes, named, rare) for p in block]] if keeps_rare else []),
                *([p.attributes.get(name, "") for p in block] for name in attributes),
            ]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            count += len(block)
    if keeps_rare:
        path.with_name(path.name + NAMES_SUFFIX).write_text(
            json.dumps(list(rare), ensure_ascii=False, indent=0), encoding="utf-8"
        )
    return count


def _rare(attributes: Mapping[str, str], named: set[str], numbers: dict[str, int]) -> list[tuple[int, str]]:
    return [(numbers.setdefault(name, len(numbers)), text) for name, text in attributes.items() if name not in named]


def _blocks(products: Iterable[Product]) -> Iterator[list[Product]]:
    block: list[Product] = []
    for product in products:
        block.append(product)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


class StringColumn:
    """Random access to one string column of a mapped Arrow file."""

    def __init__(self, chunks: Sequence[pa.StringArray]) -> None:
        self._offsets: list[Codes] = []
        self._data: list[memoryview] = []
        for chunk in chunks:
            _, offsets, data = chunk.buffers()
            self._offsets.append(np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1])
            self._data.append(memoryview(data) if data is not None else memoryview(b""))

    def __getitem__(self, row: int) -> str:
        block, at = row >> BLOCK_BITS, row & (BLOCK - 1)
        offsets = self._offsets[block]
        return str(self._data[block][offsets[at] : offsets[at + 1]], "utf-8")

    def item(self, at: int) -> str:
        """Returns a string of a column of one chunk of any length."""
        offsets = self._offsets[0]
        return str(self._data[0][offsets[at] : offsets[at + 1]], "utf-8")

    def lengths(self) -> Ints:
        """Returns the length of every string in bytes, (rows,)."""
        return np.concatenate([np.diff(offsets).astype(np.int64) for offsets in self._offsets])


class _ListColumn:
    """Random access to a column of lists of a mapped Arrow file: where the items of each row are."""

    def __init__(self, chunks: Sequence[pa.ListArray]) -> None:
        self._offsets = [np.asarray(chunk.offsets) for chunk in chunks]

    def span(self, row: int) -> tuple[int, int, int]:
        """Returns block, first item and the one after the last."""
        block, at = row >> BLOCK_BITS, row & (BLOCK - 1)
        offsets = self._offsets[block]
        return block, int(offsets[at]), int(offsets[at + 1])

    def rows_of(self, block: int, items: Ints) -> Ints:
        """Returns the rows within a block that these items belong to."""
        return np.searchsorted(self._offsets[block], items, side="right") - 1


class RareAttributes:
    """The attributes of each product that have no column of their own."""

    def __init__(self, chunks: Sequence[pa.MapArray], names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._rows = _ListColumn(chunks)
        self._numbers = [np.asarray(chunk.keys) for chunk in chunks]
        self._texts = [StringColumn([chunk.items]) for chunk in chunks]
        self._number_of = {name: number for number, name in enumerate(names)}
        self._by_name: dict[int, tuple[Ints, Ints]] = {}  # of each block that was asked for, see `filled`
        if any(len(numbers) and numbers.max() >= len(names) for numbers in self._numbers):
            raise ValueError(
                f"an attribute has the number {max(map(np.max, self._numbers))}, there are {len(names)} names"
            )

    def __contains__(self, name: str) -> bool:
        return name in self._number_of

    def of(self, row: int) -> dict[str, str]:
        """Returns the attributes of a product by name."""
        block, first, last = self._rows.span(row)
        texts = self._texts[block]
        return {
            self.names[number]: texts.item(at)
            for at, number in zip(range(first, last), self._numbers[block][first:last].tolist(), strict=True)
        }

    def text(self, name: str, row: int) -> str:
        block, first, last = self._rows.span(row)
        places = np.flatnonzero(self._numbers[block][first:last] == self._number_of[name])
        return self._texts[block].item(first + int(places[0])) if len(places) else ""

    def filled(self, name: str, block: int) -> tuple[Ints, list[str]]:
        """Returns the rows within a block that have an attribute, ascending, and its texts. Looking at every product for each of thousands
        of attributes took minutes."""
        if block not in self._by_name:
            order = np.argsort(self._numbers[block], kind="stable")
            ends = np.searchsorted(self._numbers[block][order], np.arange(len(self.names) + 1))
            self._by_name[block] = order, ends
        order, ends = self._by_name[block]
        number = self._number_of[name]
        places = order[ends[number] : ends[number + 1]]
        return self._rows.rows_of(block, places), [self._texts[block].item(at) for at in places.tolist()]


def _string(product: Product, field: str) -> str:
    """Returns what `ProductTable.string` returns."""
    if field.startswith(ATTRIBUTE):
        return product.attributes.get(field.removeprefix(ATTRIBUTE), "")
    return str(getattr(product, field))


class ProductList:
    """Products outside any table, with the reading methods of ProductTable."""

    def __init__(self, products: Sequence[Product]) -> None:
        self._products = products

    def __len__(self) -> int:
        return len(self._products)

    def string(self, field: str, row: int) -> str:
        """Returns what `ProductTable.string` returns."""
        return _string(self._products[row], field)

    def product(self, row: int) -> Product:
        return self._products[row]


class ProductTable:
    """The products of a bundle by row number, and behind them those that were appended, which are kept in memory."""

    def __init__(self, path: Path) -> None:
        self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [self._file.get_batch(i) for i in range(self._file.num_record_batches)]
        self._table = pa.Table.from_batches(batches, self._file.schema)
        columns = self._file.schema.names
        names = [name for name in columns if name not in ("price_minor", "in_stock", OTHER_CATEGORIES, RARE)]
        self._strings = {name: StringColumn([batch.column(name) for batch in batches]) for name in names}
        self._plain = tuple(n.removeprefix(ATTRIBUTE) for n in names if n.startswith(ATTRIBUTE))
        rare_names = json.loads(path.with_name(path.name + NAMES_SUFFIX).read_text("utf-8")) if RARE in columns else ()
        self._rare = RareAttributes([batch.column(RARE) for batch in batches] if RARE in columns else [], rare_names)
        self._others = (
            _ListColumn([batch.column(OTHER_CATEGORIES) for batch in batches]) if OTHER_CATEGORIES in columns else None
        )
        self._other_paths = [
            StringColumn([batch.column(OTHER_CATEGORIES).values]) for batch in batches if OTHER_CATEGORIES in columns
        ]
        self.attributes = (*self._plain, *self._rare.names)
        # The fields that a request may name. A product with a new attribute makes this another tuple.
        self.fields = (*CORE_FIELDS, *(ATTRIBUTE + name for name in self.attributes))
        prices = self._table["price_minor"]
        self._has_price = GrowingArray[np.bool_](_numpy(prices.is_valid(), np.bool_))
        self._prices = GrowingArray[np.int64](_numpy(prices.fill_null(0), np.int64))
        self._in_stock = GrowingArray[np.bool_](_numpy(self._table["in_stock"], np.bool_))
        self._num_frozen = self._num_rows = int(self._table.num_rows)
        self._appended: list[Product] = []  # of the rows from `_num_frozen`
        self._appended_rows: dict[str, int] = {}  # living ones by id
        self._alive = GrowingArray[np.bool_](np.ones(self._num_rows, np.bool_))
        self.num_alive = self._num_rows
        self._frozen_row_of = functools.lru_cache(MAX_CACHED_IDS)(self._find_frozen)

    def __len__(self) -> int:
        return self._num_rows

    @property
    def plain_attributes(self) -> tuple[str, ...]:
        """The attributes that have a column of their own in the file."""
        return self._plain

    @property
    def prices(self) -> Ints:
        """Returns (rows,) prices in minor units, 0 where there is none."""
        return self._prices.values

    @property
    def has_price(self) -> Bools:
        return self._has_price.values

    @property
    def in_stock(self) -> Bools:
        return self._in_stock.values

    @property
    def alive(self) -> Bools:
        """Returns (rows,) False where the product was removed. What was in such a row can still be read."""
        return self._alive.values

    def append(self, added: AddedProducts) -> None:
        """Takes new products. Raises ValueError unless they start after the last row."""
        products = [_without_empty_attributes(product) for product in added.products]
        if added.start != self._num_rows:
            raise ValueError(f"products of row {added.start} and on, but there are {self._num_rows} rows")
        count = len(products)
        self._prices.append([product.price_minor or 0 for product in products], count)
        self._has_price.append([product.price_minor is not None for product in products], count)
        self._in_stock.append([product.in_stock for product in products], count)
        self._alive.append(True, count)
        new = dict.fromkeys(name for product in products for name in product.attributes)
        known = self._known_attributes
        if names := [name for name in new if name not in known]:
            known.update(names)
            self.attributes = (*self.attributes, *names)
            self.fields = (*self.fields, *(ATTRIBUTE + name for name in names))
        self._appended += products
        self.num_alive += count
        self._num_rows += count  # last, with the ids: who finds a row finds all of it
        self._appended_rows.update((product.id, added.start + at) for at, product in enumerate(products))

    def remove(self, removed: RemovedProducts) -> None:
        self._alive.writable()[removed.rows] = False
        self.num_alive -= len(removed.rows)
        for row in removed.rows.tolist():
            if row >= self._num_frozen:
                product_id = self._appended[row - self._num_frozen].id
                if self._appended_rows.get(product_id) == row:
                    del self._appended_rows[product_id]

    def change_offers(self, changed: ChangedOffers) -> None:
        products = changed.products
        self._prices.writable()[changed.rows] = [product.price_minor or 0 for product in products]
        self._has_price.writable()[changed.rows] = [product.price_minor is not None for product in products]
        self._in_stock.writable()[changed.rows] = [product.in_stock for product in products]

    @functools.cached_property
    def _known_attributes(self) -> set[str]:
        return set(self.attributes)

    def row_of(self, product_id: str) -> int | None:
        """Returns the newest row of a product, None for an id that is not in the table or was removed. 20 us among 10,000,000 the first
        time: a binary search, whose result is kept."""
        row = self._appended_rows.get(product_id)
        if row is None:
            row = self._frozen_row_of(product_id)
        return row if row is not None and self._alive.values[row] else None

    def _find_frozen(self, product_id: str) -> int | None:
        rows, ids = self._rows_by_id, self._strings["id"]
        low, high = 0, len(rows)
        while low < high:
            middle = (low + high) // 2
            if ids[int(rows[middle])] < product_id:
                low = middle + 1
            else:
                high = middle
        return int(rows[low]) if low < len(rows) and ids[int(rows[low])] == product_id else None

    def product_of(self, product_id: str) -> Product | None:
        """Returns the product with this id, None for an id that is not in the table or was removed."""
        row = self.row_of(product_id)
        return None if row is None else self.product(row)

    @functools.cached_property
    def _rows_by_id(self) -> npt.NDArray[np.uint64]:
        """The frozen rows in the order of their ids' bytes, which is also the order of Python's strings."""
        rows: npt.NDArray[np.uint64] = pc.sort_indices(self._table["id"]).to_numpy()
        return rows

    def id(self, row: int) -> str:
        return self._strings["id"][row] if row < self._num_frozen else self._appended[row - self._num_frozen].id

    def string(self, field: str, row: int) -> str:
        """Returns a string field or "attributes.NAME" of one product, "" if it has none. Raises KeyError for an attribute that no product
        of the table has had."""
        if row >= self._num_frozen:
            return _string(self._appended[row - self._num_frozen], field)
        column = self._strings.get(field)
        if column is not None:
            return column[row]
        name = field.removeprefix(ATTRIBUTE)
        if name in self._rare:
            return self._rare.text(name, row)
        if name in self._known_attributes:
            return ""
        raise KeyError(field)

    def attributes_of(self, row: int) -> dict[str, str]:
        """Returns the attributes of one product that are not empty."""
        if row >= self._num_frozen:
            return dict(self._appended[row - self._num_frozen].attributes)
        text = self._strings
        plain = {name: value for name in self._plain if (value := text[ATTRIBUTE + name][row])}
        return plain | self._rare.of(row) if self._rare.names else plain

    def attributes_between(self, start: int, stop: int) -> Iterator[dict[str, str]]:
        """Yields what `attributes_of` returns of consecutive products, faster."""
        frozen = min(stop, self._num_frozen)
        columns = [self._frozen_strings(ATTRIBUTE + name, start, frozen) for name in self._plain]
        for at, row in enumerate(range(start, frozen)):
            plain = {name: value for name, column in zip(self._plain, columns, strict=True) if (value := column[at])}
            yield plain | self._rare.of(row) if self._rare.names else plain
        yield from map(self.attributes_of, range(max(start, frozen), stop))

    def other_categories(self, row: int) -> tuple[str, ...]:
        """Returns the paths of one product beyond `category`."""
        if row >= self._num_frozen:
            return self._appended[row - self._num_frozen].other_categories
        if self._others is None:
            return ()
        block, first, last = self._others.span(row)
        return tuple(self._other_paths[block].item(at) for at in range(first, last))

    def rows_in_several_categories(self) -> Ints:
        """Returns the rows of products with other categories, ascending."""
        later = [self._num_frozen + at for at, product in enumerate(self._appended) if product.other_categories]
        appended = np.array(later, np.int64)
        if self._others is None:
            return appended
        frozen = np.flatnonzero(pc.list_value_length(self._table[OTHER_CATEGORIES]).to_numpy())
        return np.concatenate([frozen, appended])

    def lengths(self, field: str) -> Ints:
        """Returns the length in bytes of a string field or "attributes.NAME", (rows,); zeros for a field that the table lacks."""
        column = self._strings.get(field)
        if column is not None:
            frozen = column.lengths()
        elif field.removeprefix(ATTRIBUTE) in self._rare:
            frozen = np.array([len(text.encode()) for text in self._frozen_strings(field)], np.int64)
        else:
            frozen = np.zeros(self._num_frozen, np.int64)
        appended = np.array([len(_string(product, field).encode()) for product in self._appended], np.int64)
        return np.concatenate([frozen, appended])

    def strings(self, field: str, start: int = 0, stop: int | None = None) -> list[str]:
        """Returns a string field or "attributes.NAME" of consecutive products: 20,000 take 2 ms, and 20 ms one by one."""
        stop = self._num_rows if stop is None else stop
        frozen = min(stop, self._num_frozen)
        appended = [self.string(field, row) for row in range(max(start, frozen), stop)]
        return self._frozen_strings(field, start, frozen) + appended

    def filled(self, field: str, start: int = 0, stop: int | None = None) -> tuple[Ints, list[str]]:
        """Returns those of consecutive rows whose string field or "attributes.NAME" is not empty, ascending, and the strings."""
        stop = self._num_rows if stop is None else stop
        name = field.removeprefix(ATTRIBUTE)
        if field in self._strings or name not in self._rare:
            texts = self.strings(field, start, stop)
            at = [at for at, text in enumerate(texts) if text]
            return start + np.array(at, np.int64), [texts[one] for one in at]
        rows: list[Ints] = []
        filled: list[str] = []
        frozen = min(stop, self._num_frozen)
        for block in range(start >> BLOCK_BITS, -(-frozen >> BLOCK_BITS)):
            inside, texts = self._rare.filled(name, block)
            inside = inside + (block << BLOCK_BITS)
            first, last = np.searchsorted(inside, (start, frozen))
            rows.append(inside[first:last])
            filled += texts[first:last]
        appended = [(row, text) for row in range(max(start, frozen), stop) if (text := self.string(field, row))]
        rows.append(np.array([row for row, _ in appended], np.int64))
        return np.concatenate(rows), filled + [text for _, text in appended]

    def _frozen_strings(self, field: str, start: int = 0, stop: int | None = None) -> list[str]:
        stop = self._num_frozen if stop is None else stop
        if field.removeprefix(ATTRIBUTE) in self._rare and field not in self._strings:
            texts = [""] * max(0, stop - start)
            for row, text in zip(*self.filled(field, start, stop), strict=True):
                texts[row - start] = text
            return texts
        if field not in self._strings:
            return [self.string(field, row) for row in range(start, stop)]
        return list(self._table[field][start : max(start, stop)].to_pylist())

    def price_minor(self, row: int) -> int | None:
        """Returns the price of a product in minor units, None if it is unknown."""
        return int(self.prices[row]) if self.has_price[row] else None

    def product(self, row: int) -> Product:
        price, in_stock = self.price_minor(row), bool(self.in_stock[row])
        if row >= self._num_frozen:
            product = self._appended[row - self._num_frozen]
            if (product.price_minor, product.in_stock) == (price, in_stock):
                return product
            return dataclasses.replace(product, price_minor=price, in_stock=in_stock)
        text = self._strings
        return Product(
            id=text["id"][row],
            title=text["title"][row],
            brand=text["brand"][row],
            category=text["category"][row],
            price_minor=price,
            in_stock=in_stock,
            attributes=self.attributes_of(row),
            other_categories=self.other_categories(row),
        )

    def products(self, start: int = 0, stop: int | None = None) -> Iterator[Product]:
        """Yields the products of consecutive rows, removed ones too."""
        for row in range(start, len(self) if stop is None else stop):
            yield self.product(row)

    def distinct(self, field: str) -> tuple[Codes, list[str]]:
        """Returns codes (rows,) and the distinct values that they index."""
        chunks = self._table[field].combine_chunks().dictionary_encode()
        if isinstance(chunks, pa.ChunkedArray):
            chunks = chunks.combine_chunks() if chunks.num_chunks != 1 else chunks.chunk(0)
        codes = chunks.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        values: list[str] = chunks.dictionary.to_pylist()
        if not self._appended:
            return codes, values
        code_of = {value: code for code, value in enumerate(values)}
        appended = [code_of.setdefault(_string(product, field), len(code_of)) for product in self._appended]
        return np.concatenate([codes, appended], dtype=np.int32), list(code_of)

    def category_by_id(self) -> dict[str, str]:
        """Returns product id -> category, "" if the catalogue has none."""
        codes, categories = self.distinct("category")
        return {self.id(row): categories[codes[row]] for row in np.flatnonzero(self.alive).tolist()}


def _without_empty_attributes(product: Product) -> Product:
    if all(product.attributes.values()):
        return product
    return dataclasses.replace(product, attributes={name: text for name, text in product.attributes.items() if text})


def _numpy(column: pa.ChunkedArray, dtype: Any) -> Any:
    return np.asarray(column.to_numpy(), dtype)
