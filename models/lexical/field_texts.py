"""The fields of the lexical index, and which columns of the products belong to each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Ints
from models.products.product import Product
from models.products.product_table import ATTRIBUTE, BLOCK, ProductTable

FIELDS = ("identifiers", "title", "brand", "category", "attributes", "description")
DESCRIPTION_CHARS = 60  # mean length of the filled cells from which an attribute's column is prose
_SAMPLE = 2_000  # cells that tell what a column holds


@dataclass(frozen=True, slots=True)
class FieldTexts:
    """The texts of consecutive products: for each field the rows of the catalogue that have one, and the texts."""

    start: int  # the first product
    stop: int  # after the last
    cells: dict[str, tuple[Ints, list[str]]]  # a product has a text of a field for each of its columns


def field_texts(table: ProductTable, attributes: Mapping[str, str]) -> Iterator[FieldTexts]:
    """Yields the texts of all products in order of row. `attributes` says which field each belongs to."""
    columns: dict[str, list[str]] = {field: [] for field in FIELDS}
    columns["identifiers"].append("id")
    for name in ("title", "brand", "category"):
        columns[name].append(name)
    for attribute in table.attributes:
        columns[attributes[attribute]].append(ATTRIBUTE + attribute)
    for start in range(0, len(table), BLOCK):
        stop = min(start + BLOCK, len(table))
        yield FieldTexts(start, stop, {field: _cells(table, names, start, stop) for field, names in columns.items()})


def _cells(table: ProductTable, names: Sequence[str], start: int, stop: int) -> tuple[Ints, list[str]]:
    """Returns the filled cells of these columns, column after column."""
    rows: list[Ints] = [np.zeros(0, np.int64)]
    texts: list[str] = []
    for name in names:
        of_column, filled = table.filled(name, start, stop)
        rows.append(of_column)
        texts += map(_readable, filled) if name.startswith(ATTRIBUTE) else filled
    return np.concatenate(rows), texts


def attribute_fields(table: ProductTable, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the field of each attribute: the identifiers if its cells are codes, nearly all of them different; the description if they
    are prose; else the attributes. What is `known` stays."""
    fields = dict(known or {})
    step = max(1, len(table) // _SAMPLE)
    for attribute in table.attributes:
        if attribute not in fields:
            rows, texts = table.filled(ATTRIBUTE + attribute)
            fields[attribute] = _field_of([texts[at] for at in np.flatnonzero(rows % step == 0).tolist()])
    return fields


def product_texts(product: Product, attributes: MutableMapping[str, str]) -> tuple[list[str], ...]:
    """Returns the texts of one product by field, in the order of FIELDS.

    An attribute that `attributes` does not know gets a field there, by its first cell: prose or not. One cell does not show whether an
    attribute holds codes.
    """
    texts: dict[str, list[str]] = {
        "identifiers": [product.id],
        "title": [product.title],
        "brand": [product.brand],
        "category": [product.category],
        "attributes": [],
        "description": [],
    }
    for name, cell in product.attributes.items():
        field = attributes.get(name)
        if field is None:
            is_prose = len(cell) > DESCRIPTION_CHARS and not cell.startswith("{")
            field = attributes[name] = "description" if is_prose else "attributes"
        texts[field].append(_readable(cell))
    return tuple(texts.values())


def _field_of(cells: Sequence[str]) -> str:
    if not cells:
        return "attributes"
    codes = sum(" " not in cell and any(map(str.isdigit, cell)) and len(cell) >= 4 for cell in cells)
    if codes > 0.9 * len(cells) and len(set(cells)) > 0.9 * len(cells):
        return "identifiers"
    objects = sum(cell.startswith("{") for cell in cells)
    if objects < 0.5 * len(cells) and sum(map(len, cells)) > DESCRIPTION_CHARS * len(cells):
        return "description"
    return "attributes"


def _readable(cell: str) -> str:
    """Returns the names and values of a cell that holds a JSON object, and any other cell as it is."""
    if not cell.startswith("{"):
        return cell
    try:
        values = json.loads(cell)
    except ValueError:
        return cell
    return " ; ".join(f"{name} {value}" for name, value in values.items()) if isinstance(values, dict) else cell
