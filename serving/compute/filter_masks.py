"""Filters as masks over the products, and what the same columns say of candidates: categories, boosts by type, brands.

A filter on another attribute (a colour, say) is a field of `ProductFilter`, a column in `FilterMasks.__init__` and a pair of column and
values in `FilterMasks._make`.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Bools, Doubles, Ints
from models.products.product_table import ProductTable
from models.ranking.diversity import NO_GROUP

MAX_CACHED_MASKS = 64  # of one byte a product each
PATH_SEPARATOR = " > "


@dataclass(frozen=True, slots=True)
class ProductFilter:
    """Passes products that fulfil every field that is set. Prices are in minor units, bounds inclusive."""

    brands: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    min_price_minor: int | None = None
    max_price_minor: int | None = None
    in_stock_only: bool = False


NO_FILTER = ProductFilter()


class FilterMasks:
    """Which products pass a filter, from columns that are coded once."""

    def __init__(self, table: ProductTable) -> None:
        self._table = table
        self._columns = {name: table.distinct(name) for name in ("brand", "category")}
        self._codes_of: dict[str, dict[str, list[int]]] = {}
        for name, (_, values) in self._columns.items():
            by_value: dict[str, list[int]] = defaultdict(list)
            for code, value in enumerate(values):
                for form in _prefixes(value) if name == "category" else (value,):
                    by_value[form.casefold()].append(code)
            self._codes_of[name] = dict(by_value)
        self._cache: OrderedDict[ProductFilter, Bools] = OrderedDict()
        self._rows_of: dict[str, Ints] = {}
        codes, names = self._columns["brand"]
        self._num_brands = len(names)
        self._brand_numbers = {name.casefold(): at for at, name in enumerate(names) if name}
        self._brands = self.brand_numbers(names)[codes]

    def mask(self, product_filter: ProductFilter) -> Bools | None:
        """Returns (products,) True where the product passes; None for the empty filter. Read-only: it is shared."""
        if product_filter == NO_FILTER:
            return None
        mask = self._cache.get(product_filter)
        if mask is None:
            mask = self._cache[product_filter] = self._make(product_filter)
            if len(self._cache) > MAX_CACHED_MASKS:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(product_filter)
        return mask

    def holds(self, name: str, value: str) -> bool:
        """Says whether any product has this "brand" or is in this "category", compared without case."""
        return value.casefold() in self._codes_of[name]

    def rows_of_category(self, path: str) -> Ints:
        """Returns the rows of all products in a category and below it, in ascending order."""
        rows = self._rows_of.get(path)
        if rows is None:
            codes, _ = self._columns["category"]
            rows = self._rows_of[path] = np.flatnonzero(
                np.isin(codes, self._codes_of["category"].get(path.casefold(), []))
            )
        return rows

    def type_boosts(self, by_category: Sequence[tuple[str, float]], rows: Ints) -> Doubles:
        """Returns (rows,) the largest boost among the categories that each product is in; 0 where there is none."""
        codes, distinct = self._columns["category"]
        boost_of = np.zeros(len(distinct))
        for path, boost in by_category:
            within = self._codes_of["category"].get(path.casefold(), [])
            boost_of[within] = np.maximum(boost_of[within], boost)
        return boost_of[codes[rows]]

    def categories(self, rows: Sequence[int]) -> list[str]:
        """Returns the category of each row, "" where it has none."""
        codes, distinct = self._columns["category"]
        return [distinct[code] for code in codes[list(rows)].tolist()]

    def brands(self, rows: Sequence[int]) -> Ints:
        """Returns (rows,) a number for the brand of each product, compared without case; NO_GROUP where it has none."""
        return self._brands[list(rows)]

    def brand_numbers(self, names: Sequence[str]) -> Ints:
        """Returns (names,) the number of each brand, as `brands` has it. Brands that the catalogue lacks get numbers of their own."""
        numbers = dict(self._brand_numbers)
        new = self._num_brands
        return np.array(
            [numbers.setdefault(name.casefold(), new + len(numbers)) if name else NO_GROUP for name in names], np.int64
        )

    def _make(self, product_filter: ProductFilter) -> Bools:
        table = self._table
        mask: Bools = table.in_stock.copy() if product_filter.in_stock_only else np.ones(len(table), np.bool_)
        for name, values in (("brand", product_filter.brands), ("category", product_filter.categories)):
            if values:
                codes, distinct = self._columns[name]
                passes = np.zeros(len(distinct), np.bool_)
                for value in values:
                    passes[self._codes_of[name].get(value.casefold(), [])] = True
                mask &= passes[codes]
        if product_filter.min_price_minor is not None:
            mask &= table.has_price & (table.prices >= product_filter.min_price_minor)
        if product_filter.max_price_minor is not None:
            mask &= table.has_price & (table.prices <= product_filter.max_price_minor)
        return mask


def _prefixes(path: str) -> list[str]:
    parts = path.split(PATH_SEPARATOR)
    return [PATH_SEPARATOR.join(parts[: n + 1]) for n in range(len(parts))]
