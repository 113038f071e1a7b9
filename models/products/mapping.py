"""Maps the columns of a catalogue file to the fields of a product."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models.products.attributes.spec import ALL_KEYS, AttributeSpec
from models.products.errors import CatalogueError


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMapping:
    """The column of the file that holds each field. None: the file does not have the field."""

    id: str = "id"
    title: str = "title"
    brand: str | None = None
    category: str | None = None
    price: str | None = None
    in_stock: str | None = None
    text: tuple[str, ...] = ()  # attributes that are also encoded
    attributes: tuple[str, ...] = ()  # attributes that are not encoded, named as in AttributeSpec
    identifiers: tuple[str, ...] = ()  # attributes, not encoded, that are looked up exactly: gtin, mpn
    types: tuple[AttributeSpec, ...] = ()  # attributes of a stated type

    @classmethod
    def by_name(cls, columns: Iterable[str]) -> ColumnMapping:
        """Maps each column that is named like a field. `id` and `title` are mapped even if the file lacks them."""
        present = set(columns)
        brand, category, price, in_stock = (
            name if name in present else None for name in ("brand", "category", "price", "in_stock")
        )
        return cls(brand=brand, category=category, price=price, in_stock=in_stock)

    def field_columns(self) -> dict[str, str]:
        """Returns field -> column for the fields that have a column."""
        fields = ("id", "title", "brand", "category", "price", "in_stock")
        return {name: column for name in fields if (column := getattr(self, name)) is not None}

    def attribute_columns(self) -> tuple[str, ...]:
        """Returns the columns that become attributes, or keys of them, those that are encoded first."""
        return tuple(dict.fromkeys((*self.text, *self.attributes, *self.identifiers)))

    def check(self, columns: Sequence[str], file: str) -> None:
        """Raises one CatalogueError that names every mapped column which the file lacks or has twice."""
        uses = [(column, f"as {name}") for name, column in self.field_columns().items()]
        uses += [(column_of(name, columns), "as an attribute") for name in self.attribute_columns()]
        violations = [_violation(column, use, columns) for column, use in uses if columns.count(column) != 1]
        if violations:
            raise CatalogueError(f"{file}: {'; '.join(violations)}. Its columns are: {', '.join(columns)}")


def column_of(name: str, columns: Sequence[str]) -> str:
    """Returns the column that an attribute is read from: "box" of "box.*" and of "box.cm", unless there is a column "box.cm"."""
    if name in columns:
        return name
    column = name.removesuffix(ALL_KEYS)
    while column not in columns and "." in column:
        column = column.rpartition(".")[0]
    return column if column in columns else name


def _violation(column: str, use: str, columns: Sequence[str]) -> str:
    if column in columns:
        return f"column {column!r} (mapped {use}) is there more than once; rename one"
    by_lower = {name.lower(): name for name in columns}
    near = difflib.get_close_matches(column.lower(), by_lower, n=1)
    hint = f", did you mean {by_lower[near[0]]!r}?" if near else ""
    return f"no column {column!r} (mapped {use}){hint}"
