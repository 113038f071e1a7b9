"""The invented brands and product lines; `data/brands.toml` and `data/series.toml` hold them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from models.sample_store.data_file import DataFileError, DataTable, read_data_file
from models.sample_store.product_types import departments
from models.sample_store.words import load_words, sellers

MAX_TIER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Brand:
    """An invented maker."""

    name: str
    departments: tuple[str, ...]
    tier: int  # price positioning, -MAX_TIER (budget) to MAX_TIER (luxury)
    styles: tuple[str, ...]  # half of its products have one of these, where the product type has them


@cache
def load_brands() -> tuple[Brand, ...]:
    """Reads the brands, once in a process. Raises DataFileError if the file is wrong."""
    file = read_data_file("brands.toml")
    brands = tuple(read_brand(file.table(name), name) for name in file)
    for department in departments():
        if not any(department in brand.departments for brand in brands):
            raise DataFileError(f"brands.toml: no brand has the department {department!r}")
    return brands


@cache
def load_series() -> tuple[str, ...]:
    """Reads the product lines, once in a process: names that sellers put before a noun and shoppers never search for."""
    return read_data_file("series.toml").texts("series")


def read_brand(table: DataTable, name: str) -> Brand:
    """Reads the table of a brand."""
    brand = Brand(
        name=name,
        departments=table.texts("departments", allowed=departments()),
        tier=table.integer("tier", -MAX_TIER, MAX_TIER),
        styles=table.texts("styles", allowed=sellers(load_words().styles)),
    )
    table.end()
    return brand
