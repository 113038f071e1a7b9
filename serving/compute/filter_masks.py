"""Filters as masks over the products, and what the same columns say of candidates: categories, boosts by type, brands."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.arrays import Bools, Codes, Doubles, Ints
from models.lexical.lexical_index import LexicalIndex
from models.products.attributes.columns import AttributeColumn, AttributeColumns
from models.products.attributes.spec import AttributeType
from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts
from models.products.filter_keys import FilterKeys, category_sets, price_codes, renumbered
from models.products.growing import GrowingArray
from models.products.product_table import ProductTable
from models.ranking.diversity import NO_GROUP
from serving.compute.coded_column import Coded, CodedColumn

MAX_CACHED_MASKS = 64  # of one byte a product each
MAX_NOTED = 100_000  # changes of rows that cached masks can take in; then they are made again
MAX_TRIED = 1_000  # products of a keyword that are looked at first for a living one
PATH_SEPARATOR = " > "
_NO_ROWS: Ints = np.zeros(0, np.int64)
Column = AttributeColumn | CodedColumn[str] | CodedColumn[tuple[str, ...]] | CodedColumn[int | None]
FIELDS = ("brand", "category", "price")  # that are asked for as attributes are; an attribute of the same name is hidden


class AttributeClause(NamedTuple):
    """Passes products with any of the keywords, or a number within inclusive bounds: dates in milliseconds since 1970, bools 0 or 1."""

    name: str
    keywords: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ProductFilter:
    """Passes products that fulfil every field that is set. Prices are in minor units, bounds inclusive."""

    brands: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    min_price_minor: int | None = None
    max_price_minor: int | None = None
    in_stock_only: bool = False
    attributes: tuple[AttributeClause, ...] = ()
    excluded_words: tuple[str, ...] = ()  # words, or words together, that no field of a product may hold
    before_row: int | None = None  # passes only rows before it

    def without(self, name: str) -> ProductFilter:
        """Returns what the filter says of everything but one field or attribute."""
        if name == "brand":
            return dataclasses.replace(self, brands=())
        if name == "category":
            return dataclasses.replace(self, categories=())
        if name == "price":
            return dataclasses.replace(self, min_price_minor=None, max_price_minor=None)
        return dataclasses.replace(self, attributes=tuple(clause for clause in self.attributes if clause.name != name))

    def of_what_is_fixed(self) -> ProductFilter:
        """Returns what the filter says of everything but price and stock, which change while a row stays."""
        if self.min_price_minor is None and self.max_price_minor is None and not self.in_stock_only:
            return self
        return dataclasses.replace(self, min_price_minor=None, max_price_minor=None, in_stock_only=False)


NO_FILTER = ProductFilter()


class _Mask:
    """A mask that is kept: it is right for the first rows of the catalogue and the first `num_changes` changes of rows."""

    __slots__ = ("num_changes", "passes")

    def __init__(self, passes: Bools, num_changes: int) -> None:
        self.passes = GrowingArray[np.bool_](passes)
        self.num_changes = num_changes


class FilterMasks:
    """Which products pass a filter, from columns that are coded once. `attributes` None: the catalogue has none that are typed. Without
    `lexical`, no words are excluded.

    Removed products pass no filter. Of every change, `table`, `attributes` and `lexical` are told before this is.
    """

    def __init__(
        self,
        table: ProductTable,
        attributes: AttributeColumns | None = None,
        lexical: LexicalIndex | None = None,
        keys: FilterKeys | None = None,
    ) -> None:
        """`keys` are those of the whole catalogue where the table is a shard of it."""
        self._table = table
        self._lexical = lexical
        self.attributes = AttributeColumns.none(len(table)) if attributes is None else attributes
        self.version = 0  # of the catalogue: the number of changes
        self._keys = keys
        brands, categories = table.distinct("brand"), category_sets(table)
        if keys:
            brands, categories = renumbered(*brands, keys.brands), renumbered(*categories, keys.categories)
        self._brands = Coded(*brands, table.alive)
        self._categories = Coded(*categories, table.alive)  # keys: the paths of a product, its own category first
        self._prices: Coded[int | None] | None = None  # made with its column
        self._brand_codes: dict[str, list[int]] = defaultdict(list)  # by brand without case
        self._category_codes: dict[str, list[int]] = defaultdict(list)  # by prefix of a path without case
        self._num_indexed = {"brand": 0, "category": 0}  # keys whose codes are in these
        self._brand_numbers: dict[str, int] = {}
        self._number_of_brand = GrowingArray(_NO_ROWS)  # by code
        self._index_keys()
        self._masks: OrderedDict[ProductFilter, _Mask] = OrderedDict()
        self._rows_of: dict[str, tuple[Ints, int, int]] = {}  # by category: its rows, of so many rows and changes
        self._changed = GrowingArray(_NO_ROWS)  # rows that were removed or got another offer
        self._columns: dict[str, Column] = {}

    def __len__(self) -> int:
        return len(self._table)

    @property
    def num_alive(self) -> int:
        return self._table.num_alive

    @property
    def category_keys(self) -> Sequence[tuple[str, ...]]:
        """The distinct sets of paths that products are in; new ones come behind them."""
        return self._categories.keys

    @property
    def category_codes(self) -> Codes:
        """(rows,) places in `category_keys`."""
        return self._categories.codes

    def append(self, added: AddedProducts) -> None:
        self._brands.append([product.brand for product in added.products])
        self._categories.append([(product.category, *product.other_categories) for product in added.products])
        if self._prices:
            self._prices.append([product.price_minor for product in added.products])
        self._index_keys()
        self.version += 1

    def remove(self, removed: RemovedProducts) -> None:
        self._brands.remove(removed.rows)
        self._categories.remove(removed.rows)
        if self._prices:
            self._prices.remove(removed.rows)
        self._note(removed.rows)

    def change_offers(self, changed: ChangedOffers) -> None:
        if self._prices:
            self._prices.change(changed.rows, [product.price_minor for product in changed.products])
        self._note(changed.rows)

    def _note(self, rows: Ints) -> None:
        if len(self._changed) + len(rows) > MAX_NOTED:
            self._masks.clear()
            self._rows_of.clear()
            self._changed = GrowingArray(_NO_ROWS)
        else:
            self._changed.append(rows, len(rows))
        self.version += 1

    def _index_keys(self) -> None:
        """Makes the keys that came since findable."""
        for code in range(self._num_indexed["brand"], len(self._brands.keys)):
            name = self._brands.keys[code].casefold()
            self._brand_codes[name].append(code)
            number = self._brand_numbers.setdefault(name, len(self._brand_numbers)) if name else NO_GROUP
            self._number_of_brand.append(number, 1)
        for code in range(self._num_indexed["category"], len(self._categories.keys)):
            paths = self._categories.keys[code]
            for form in dict.fromkeys(form.casefold() for path in paths for form in _prefixes(path)):
                self._category_codes[form].append(code)
        self._num_indexed = {"brand": len(self._brands.keys), "category": len(self._categories.keys)}

    def mask(self, product_filter: ProductFilter) -> Bools | None:
        """Returns (rows,) True where the product passes; None for the empty filter while no product was removed. Read-only: it is shared,
        and right until the next change."""
        if product_filter.before_row is None:
            return self._mask(product_filter)
        mask = self._mask(dataclasses.replace(product_filter, before_row=None))
        if product_filter.before_row >= len(self):
            return mask
        mask = np.ones(len(self), np.bool_) if mask is None else mask.copy()
        mask[product_filter.before_row :] = False
        return mask

    def _mask(self, product_filter: ProductFilter) -> Bools | None:
        if product_filter == NO_FILTER:
            return None if self.num_alive == len(self._table) else self._table.alive
        mask = self._masks.get(product_filter)
        if mask is None:
            mask = self._masks[product_filter] = _Mask(self._make(product_filter), len(self._changed))
            if len(self._masks) > MAX_CACHED_MASKS:
                self._masks.popitem(last=False)
        else:
            self._masks.move_to_end(product_filter)
            if mask.num_changes < len(self._changed) or len(mask.passes) < len(self._table):
                self._update(mask, product_filter)
        return mask.passes.values

    def _make(self, product_filter: ProductFilter) -> Bools:
        fixed = product_filter.of_what_is_fixed()
        if fixed == product_filter:
            return self._passes(product_filter, 0)
        mask = self.mask(fixed)
        passing = self._has_offer(product_filter, slice(None))
        return passing if mask is None else passing & mask

    def _update(self, mask: _Mask, product_filter: ProductFilter) -> None:
        """Brings a mask up to date."""
        start, rows = len(mask.passes), self._changed.values[mask.num_changes :]
        fixed = product_filter.of_what_is_fixed()
        if fixed == product_filter:
            if start < len(self._table):
                mask.passes.append(self._passes(product_filter, start), len(self._table) - start)
            mask.passes.writable()[rows] &= self._table.alive[rows]
        else:
            within = self.mask(fixed)
            for part in (slice(start, None), rows):
                passing = self._has_offer(product_filter, part)
                passing = passing if within is None else passing & within[part]
                if isinstance(part, slice):
                    mask.passes.append(passing, len(passing))
                else:
                    mask.passes.writable()[part] = passing
        mask.num_changes = len(self._changed)

    def column(self, name: str) -> Column | None:
        """Returns the column of "brand", "category" (each prefix of a path is a value), "price" or an attribute; None for other names."""
        if name not in FIELDS:
            return self.attributes.get(name)
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = self._make_column(name)
        if isinstance(column, CodedColumn):
            column.take_in()
        return column

    def warm_up(self) -> None:
        """Makes the columns of brand, category and price, which facets read."""
        for name in FIELDS:
            self.column(name)

    def holds(self, name: str, value: str) -> bool:
        """Says whether any product has this "brand" or is in this "category", compared without case."""
        if name == "brand":
            return any(map(self._brands.is_living, self._brand_codes.get(value.casefold(), ())))
        return any(map(self._categories.is_living, self._category_codes.get(value.casefold(), ())))

    def holds_keyword(self, name: str, keyword: str) -> bool:
        """Says whether any product has a keyword as this attribute, compared without case."""
        column = self.attributes[name]
        number = column.find(keyword)
        if number is None or self.num_alive == len(self._table):
            return number is not None
        rows = column.rows_of(number)
        return bool(self._table.alive[rows[:MAX_TRIED]].any() or self._table.alive[rows].any())

    def rows_of_category(self, path: str) -> Ints:
        """Returns the rows of all living products in a category and below it, in ascending order."""
        key = path.casefold()
        rows, num_rows, num_changes = self._rows_of.get(key, (_NO_ROWS, 0, 0))
        if num_rows < len(self._table) or num_changes < len(self._changed):
            passes = _with_any(self._categories.keys, self._category_codes, (path,))
            if num_rows < len(self._table):
                new = num_rows + np.flatnonzero(passes[self._categories.codes[num_rows:]])
                rows = np.concatenate([rows, new]) if num_rows else new
            if self.num_alive < len(self._table):
                rows = rows[self._table.alive[rows]]
            self._rows_of[key] = rows, len(self._table), len(self._changed)
        return rows

    def type_boosts(self, by_category: Sequence[tuple[str, float]], rows: Ints) -> Doubles:
        """Returns (rows,) the largest boost among the categories that each product is in; 0 where there is none."""
        if not by_category:
            return np.zeros(len(rows))
        boost_of = np.zeros(len(self._categories.keys))
        for path, boost in by_category:
            within = self._category_codes.get(path.casefold(), [])
            boost_of[within] = np.maximum(boost_of[within], boost)
        return boost_of[self._categories.codes[rows]]

    def categories(self, rows: Sequence[int]) -> list[str]:
        """Returns the first category of each row, "" where it has none."""
        return [self._categories.keys[code][0] for code in self._categories.codes[list(rows)].tolist()]

    def brands(self, rows: Sequence[int]) -> Ints:
        """Returns (rows,) a number for the brand of each product, compared without case; NO_GROUP where it has none."""
        return self._number_of_brand.values[self._brands.codes[list(rows)]]

    def brand_numbers(self, names: Sequence[str]) -> Ints:
        """Returns (names,) the number of each brand, as `brands` has it. Brands that the catalogue lacks get numbers of their own."""
        new: dict[str, int] = {}
        known = self._brand_numbers
        keys = [name.casefold() for name in names]
        return np.array(
            [
                known[key] if key in known else new.setdefault(key, len(known) + len(new)) if key else NO_GROUP
                for key in keys
            ],
            np.int64,
        )

    def _passes(self, product_filter: ProductFilter, start: int) -> Bools:
        """Returns (rows from `start`,) True for living products that fulfil what does not change while a row stays."""
        mask = self._table.alive[start:].copy()
        if product_filter.brands:
            mask &= _with_any(self._brands.keys, self._brand_codes, product_filter.brands)[self._brands.codes[start:]]
        if product_filter.categories:
            passing = _with_any(self._categories.keys, self._category_codes, product_filter.categories)
            mask &= passing[self._categories.codes[start:]]
        for clause in product_filter.attributes:
            mask &= self._attribute_mask(clause, start)
        if self._lexical:
            for words in product_filter.excluded_words:
                holding = self._lexical.holding(words)
                mask[holding[np.searchsorted(holding, start) :] - start] = False
        return mask

    def _has_offer(self, product_filter: ProductFilter, rows: slice | Ints) -> Bools:
        """Returns (rows,) True where price and stock are as asked for."""
        table, low, high = self._table, product_filter.min_price_minor, product_filter.max_price_minor
        in_stock = table.in_stock[rows]
        mask = in_stock.copy() if product_filter.in_stock_only else np.ones(len(in_stock), np.bool_)
        if low is not None or high is not None:
            mask &= table.has_price[rows]
        if low is not None:
            mask &= table.prices[rows] >= low
        if high is not None:
            mask &= table.prices[rows] <= high
        return mask

    def _attribute_mask(self, clause: AttributeClause, start: int) -> Bools:
        mask = np.zeros(len(self._table) - start, np.bool_)
        column = self.attributes.get(clause.name)
        if column is None:
            return mask
        if clause.keywords:
            numbers = {number for keyword in clause.keywords if (number := column.find(keyword)) is not None}
            mask[column.rows_of_any(list(numbers), start) - start] = True
        else:
            mask[column.rows_between(clause.low, clause.high, start) - start] = True
        return mask

    def _make_column(self, name: str) -> Column:
        if name == "brand":
            return CodedColumn(AttributeType.KEYWORD, self._brands, lambda brand: (brand,) if brand else ())
        if name == "category":
            return CodedColumn(AttributeType.KEYWORDS, self._categories, _forms)
        codes, keys = price_codes(self._table)
        if self._keys:
            codes, keys = renumbered(codes, keys, self._keys.prices)
        self._prices = Coded(codes, keys, self._table.alive)
        return CodedColumn(AttributeType.NUMBER, self._prices, lambda price: () if price is None else (float(price),))


def _with_any(keys: Sized, codes_of: Mapping[str, list[int]], values: Iterable[str]) -> Bools:
    """Returns (keys,) True for the codes of any of some values."""
    chosen = np.zeros(len(keys), np.bool_)
    chosen[[code for value in values for code in codes_of.get(value.casefold(), ())]] = True
    return chosen


def _prefixes(path: str) -> list[str]:
    parts = path.split(PATH_SEPARATOR)
    return [PATH_SEPARATOR.join(parts[: n + 1]) for n in range(len(parts))]


def _forms(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the prefixes of all paths."""
    return tuple(dict.fromkeys(form for path in paths if path for form in _prefixes(path)))
