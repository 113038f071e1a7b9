"""What a filter passes, and what else the products' columns tell of whole sets of candidates: categories, gains by type, brands."""

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
    """All that is set must hold. Prices are in minor units, bounds inclusive."""

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

    def mask(self, wanted: ProductFilter) -> Bools | None:
        """(products,) True where the product passes; None for the empty filter. Read-only: it is shared."""
        if wanted == NO_FILTER:
            return None
        mask = self._cache.get(wanted)
        if mask is None:
            mask = self._cache[wanted] = self._make(wanted)
            if len(self._cache) > MAX_CACHED_MASKS:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(wanted)
        return mask

    def knows(self, name: str, value: str) -> bool:
        return value.casefold() in self._codes_of[name]

    def rows_of_category(self, path: str) -> Ints:
        """Rows of all products of a category and below it, in order."""
        rows = self._rows_of.get(path)
        if rows is None:
            codes, _ = self._columns["category"]
            rows = self._rows_of[path] = np.flatnonzero(
                np.isin(codes, self._codes_of["category"].get(path.casefold(), []))
            )
        return rows

    def gains(self, by_category: Sequence[tuple[str, float]], rows: Ints) -> Doubles:
        """(rows,) the greatest gain among the categories that each product is in; 0 where there is none."""
        codes, distinct = self._columns["category"]
        gain_of = np.zeros(len(distinct))
        for path, gain in by_category:
            within = self._codes_of["category"].get(path.casefold(), [])
            gain_of[within] = np.maximum(gain_of[within], gain)
        return gain_of[codes[rows]]

    def categories(self, rows: Sequence[int]) -> list[str]:
        """The category of each row, "" where it has none."""
        codes, distinct = self._columns["category"]
        return [distinct[code] for code in codes[list(rows)].tolist()]

    def brands(self, rows: Sequence[int]) -> Ints:
        """(rows,) a number for the brand of each product, compared without case; NO_GROUP where it has none."""
        return self._brands[list(rows)]

    def brand_numbers(self, names: Sequence[str]) -> Ints:
        """(names,) the number of each brand, as `brands` has it; those that the catalogue has not get others."""
        numbers = dict(self._brand_numbers)
        new = self._num_brands
        found = [numbers.setdefault(name.casefold(), new + len(numbers)) if name else NO_GROUP for name in names]
        return np.array(found, np.int64)

    def _make(self, wanted: ProductFilter) -> Bools:
        table = self._table
        mask: Bools = table.in_stock.copy() if wanted.in_stock_only else np.ones(len(table), np.bool_)
        for name, values in (("brand", wanted.brands), ("category", wanted.categories)):
            if values:
                codes, distinct = self._columns[name]
                passes = np.zeros(len(distinct), np.bool_)
                for value in values:
                    passes[self._codes_of[name].get(value.casefold(), [])] = True
                mask &= passes[codes]
        if wanted.min_price_minor is not None:
            mask &= table.has_price & (table.prices >= wanted.min_price_minor)
        if wanted.max_price_minor is not None:
            mask &= table.has_price & (table.prices <= wanted.max_price_minor)
        return mask


def _prefixes(path: str) -> list[str]:
    parts = path.split(PATH_SEPARATOR)
    return [PATH_SEPARATOR.join(parts[: n + 1]) for n in range(len(parts))]
