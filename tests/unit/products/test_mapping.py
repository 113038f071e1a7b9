"""A mapping finds the columns named like the fields, and refuses what a file does not have."""

from __future__ import annotations

import pytest

from models.products.errors import CatalogueError
from models.products.mapping import ColumnMapping


def test_columns_named_like_the_fields_are_mapped() -> None:
    mapping = ColumnMapping.by_name(["sku", "brand", "price"])
    assert mapping == ColumnMapping(brand="brand", price="price")
    assert mapping.field_columns() == {"id": "id", "title": "title", "brand": "brand", "price": "price"}


def test_an_attribute_that_is_encoded_and_kept_is_one_column() -> None:
    assert ColumnMapping(text=("notes", "size"), attributes=("size", "colour")).attribute_columns() == (
        "notes",
        "size",
        "colour",
    )


def test_identifiers_are_attributes_too() -> None:
    mapping = ColumnMapping(text=("notes",), attributes=("gtin", "size"), identifiers=("mpn", "gtin"))
    assert mapping.attribute_columns() == ("notes", "gtin", "size", "mpn")
    with pytest.raises(CatalogueError, match="no column 'mpn'"):
        mapping.check(["id", "title", "notes", "gtin", "size"], "shop.csv")


def test_every_missing_and_repeated_column_is_named_in_one_error() -> None:
    mapping = ColumnMapping(brand="maker", attributes=("colour",))
    with pytest.raises(CatalogueError) as error:
        mapping.check(["id", "title", "title", "color"], "shop.csv")
    message = str(error.value)
    assert message.startswith("shop.csv: column 'title' (mapped as title) is there more than once; rename one; ")
    assert "no column 'maker' (mapped as brand)" in message
    assert "no column 'colour' (mapped as an attribute), did you mean 'color'?" in message


def test_a_file_with_every_mapped_column_passes() -> None:
    ColumnMapping(attributes=("colour",)).check(["id", "title", "colour", "other"], "shop.csv")
