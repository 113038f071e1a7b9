"""Attributes are typed by what their columns show, and their columns answer as a loop over the products would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.products.attributes.collector import MAX_ATTRIBUTES, AttributeCollector
from models.products.attributes.columns import AttributeColumns, Selection
from models.products.attributes.parse import MAX_VALUE_CHARS, day_ms, read_dates, read_numbers, typed_values
from models.products.attributes.spec import AttributeSpec, AttributeType
from models.products.changes import AddedProducts, RemovedProducts
from models.products.errors import CatalogueError
from models.products.product import Product

KEYWORD, KEYWORDS, NUMBER, BOOL, DATE, TEXT = AttributeType


class TestSpec:
    @pytest.mark.parametrize(
        ("text", "spec"),
        [
            ("colour", AttributeSpec("colour")),
            ("weight:number", AttributeSpec("weight", NUMBER)),
            ("box.weight:number:kg", AttributeSpec("box.weight", NUMBER, "kg")),
            ("dc:title", AttributeSpec("dc:title", None)),
            ("a:b:keywords", AttributeSpec("a:b", KEYWORDS)),
        ],
    )
    def test_name_type_and_unit(self, text: str, spec: AttributeSpec) -> None:
        assert AttributeSpec.parse(text) == spec

    def test_a_unit_needs_a_number(self) -> None:
        with pytest.raises(CatalogueError, match="a unit goes with the type number, not date"):
            AttributeSpec.parse("released:date:kg")


class TestTypes:
    @pytest.mark.parametrize(
        ("texts", "kind"),
        [
            (["red", "blue"], KEYWORD),
            (["red|soft", "blue"], KEYWORDS),
            (["True", "N", "yes"], BOOL),
            (["1", "0"], NUMBER),
            (["12 in", "30 cm"], NUMBER),
            (["12 in", "30 kg"], KEYWORD),
            (["1.5", "-2", "1e3"], NUMBER),
            (["0 - 40", "5 - 35"], KEYWORD),
            (["5901234123457", "4006381333931"], KEYWORD),
            (["007", "012"], KEYWORD),
            (["2024-05-31", "2024-06-01T10:00:00Z"], DATE),
            (["31.05.2024"], DATE),
        ],
    )
    def test_the_column_shows_its_type(self, texts: list[str], kind: AttributeType) -> None:
        assert typed_values(dict.fromkeys(texts, 1)).type is kind

    def test_a_few_cells_of_another_kind_do_not_change_the_type(self) -> None:
        typed = typed_values({"5": 99, "unknown": 1})
        assert (typed.type, typed.by_text) == (NUMBER, {"5": (5.0,)})
        assert typed_values({"5": 90, "unknown": 10}).type is KEYWORD

    def test_a_column_of_mostly_long_texts_is_prose(self) -> None:
        assert typed_values({"short": 1}, num_long=2).type is TEXT
        assert typed_values({}, num_long=1).type is TEXT
        assert typed_values({"short": 2}, num_long=1).type is KEYWORD

    def test_a_stated_type_stands(self) -> None:
        assert typed_values({"1": 1, "0": 1}, stated=BOOL).by_text == {"1": (True,), "0": (False,)}
        assert typed_values({"a|b": 1}, stated=KEYWORD).by_text == {"a|b": ("a|b",)}
        assert typed_values({"a | b|a": 1}, stated=KEYWORDS).by_text == {"a | b|a": ("a", "b")}


class TestNumbers:
    def test_units_become_the_most_frequent_one(self) -> None:
        assert read_numbers({"30 cm": 3, "12 in": 1, '2"': 1, "1.5 m": 1, "7": 1, "3 kg": 1}) == (
            "cm",
            {"30 cm": 30.0, "12 in": 30.48, '2"': 5.08, "1.5 m": 150.0, "7": 7.0},
        )

    def test_or_the_stated_one(self) -> None:
        assert read_numbers({"800 g": 5, "1,2 kg": 1}, "kg") == ("kg", {"800 g": 0.8, "1,2 kg": 1.2})
        assert read_numbers({"68 °F": 1, "0 °C": 2}) == ("°C", {"68 °F": 20.0, "0 °C": 0.0})

    def test_a_unit_that_nobody_knows_is_kept(self) -> None:
        assert read_numbers({"12 Blatt": 2, "0 blatt": 1}) == ("Blatt", {"12 Blatt": 12.0, "0 blatt": 0.0})

    def test_what_may_be_either_is_not_read_until_the_column_shows_it(self) -> None:
        assert read_numbers({"1.250": 1})[1] == {}
        assert read_numbers({"1.250": 1, "2,5": 1})[1] == {"1.250": 1250.0, "2,5": 2.5}
        assert read_numbers({"1.250": 1, "2.5": 1})[1] == {"1.250": 1.25, "2.5": 2.5}


class TestDates:
    def test_iso_dates_with_and_without_time(self) -> None:
        day = 86_400_000
        assert read_dates({"1970-01-02": 1, "1970-01-01T12:00:00+12:00": 1, "1970-13-01": 1, "20": 1}) == {
            "1970-01-02": day,
            "1970-01-01T12:00:00+12:00": 0,
        }
        assert day_ms("1970-01-02") == day
        assert day_ms("02.01.1970") is None

    def test_the_column_shows_whether_the_day_comes_first(self) -> None:
        assert read_dates({"02/01/1970": 1, "31/12/1969": 1})["02/01/1970"] == 86_400_000
        assert read_dates({"01/02/1970": 1, "12/31/1969": 1})["01/02/1970"] == 86_400_000
        assert read_dates({"02/01/1970": 1}) == {}


def columns_of(folder: Path, products: Sequence[Product], *specs: AttributeSpec) -> AttributeColumns:
    collector = AttributeCollector(specs)
    for product in products:
        collector.add(product)
    collector.save(folder / "attributes")
    return AttributeColumns.load(folder / "attributes", len(products))


def product(**attributes: Any) -> Product:
    lists = {name: tuple(value) for name, value in attributes.items() if isinstance(value, list)}
    texts = {name: ", ".join(value) if isinstance(value, list) else value for name, value in attributes.items()}
    return Product("id", "T", attributes=texts, lists=lists)


WORDS = ["red", "Red", "blue", "größe", "GRÖSSE", "x, y"]
rows = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "colour": st.sampled_from(WORDS),
            "tags": st.lists(st.sampled_from(WORDS), min_size=1, max_size=3),
            "size": st.sampled_from(["1 cm", "2 cm", "1 in", "-3 cm"]),
        },
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(rows=rows, data=st.data())
def test_columns_answer_as_a_loop_would(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    columns = columns_of(
        tmp_path_factory.mktemp("x"), [product(**row) for row in rows], AttributeSpec("tags", KEYWORDS)
    )
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    for name in ("colour", "tags"):
        cells = [{word.casefold() for word in np.atleast_1d(row.get(name, []))} for row in rows]
        if not any(cells):
            assert name not in columns
            continue
        column = columns[name]
        words = [column.value(number).casefold() for number in range(column.num_values)]  # type: ignore[union-attr]
        assert words == sorted(set().union(*cells))
        for number, word in enumerate(words):
            assert column.find(word.upper() if word != "größe" else "GRÖßE") in (number, column.find(word))
            assert column.find(word) == number
            holders = [row for row, cell in enumerate(cells) if word in cell]
            assert column.rows_of(number).tolist() == holders
            assert column.counts()[number] == len(holders)
            assert column.counts(Selection(mask))[number] == int(mask[holders].sum())
        assert column.find("absent") is None
        wanted = np.flatnonzero(mask)
        found = {(int(wanted[at]), words[value]) for at, value in column.values_of(wanted)}
        assert found == {(int(row), word) for row in wanted for word in cells[row]}
    if "size" in columns:
        size = {"1 cm": 1.0, "2 cm": 2.0, "1 in": 2.54, "-3 cm": -3.0}
        unit = columns["size"].unit
        factor = 1.0 if unit == "cm" else 1 / 2.54
        expected = [n for n, row in enumerate(rows) if "size" in row and 0 <= size[row["size"]] <= 2.2]
        assert sorted(columns["size"].rows_between(0, 2.2 * factor).tolist()) == expected


class TestColumns:
    def test_rare_attributes_have_no_column_by_product(self, tmp_path: Path) -> None:
        products = [product(colour="red") for _ in range(100)] + [product(rare="x", many=["a", "b"])]
        columns = columns_of(tmp_path, products)
        assert columns["colour"].by_product is not None
        assert columns["colour"].by_product.tolist() == [1] * 100 + [0]
        assert columns["rare"].by_product is None
        assert columns["rare"].counts().tolist() == [1]
        assert sum(len(codes) for codes in columns.codes.values()) == len(products)

    def test_long_values_are_counted_and_not_filtered_by(self, tmp_path: Path) -> None:
        collector = AttributeCollector()
        for text in ("x" * (MAX_VALUE_CHARS + 1), "short", "short"):
            collector.add(product(note=text))
        facts = collector.save(tmp_path / "attributes")
        assert facts["note"] == {"type": "keyword", "unit": "", "cells": 3, "unread": 1}

    def test_prose_is_named_and_has_no_values(self, tmp_path: Path) -> None:
        column = columns_of(tmp_path, [product(note="x" * 300)])["note"]
        assert (column.type, column.num_values, column.counts().tolist()) == (TEXT, 0, [])

    def test_words_within_values(self, tmp_path: Path) -> None:
        column = columns_of(tmp_path, [product(c="Dark Red"), product(c="blue"), product(c="redwood")])["c"]
        assert [column.value(int(number)) for number in column.containing("RED")] == ["Dark Red", "redwood"]

    def test_too_many_names_are_refused(self) -> None:
        collector = AttributeCollector()
        crowded = product(**{f"key {number}": "x" for number in range(MAX_ATTRIBUTES + 1)})
        with pytest.raises(CatalogueError, match=f"more than {MAX_ATTRIBUTES:,} attributes"):
            collector.add(crowded)

    def test_no_attributes(self, tmp_path: Path) -> None:
        assert len(columns_of(tmp_path, [product()])) == 0
        assert len(AttributeColumns.none(3)) == 0

    def test_files_that_do_not_fit_are_refused(self, tmp_path: Path) -> None:
        columns_of(tmp_path, [product(colour="red"), product(colour="blue")])
        with pytest.raises(ValueError, match=r"products up to 1 of 1"):
            AttributeColumns.load(tmp_path / "attributes", 1)
        np.save(tmp_path / "attributes" / "numbers.npy", np.zeros(5))
        with pytest.raises(ValueError, match="the attributes have 2"):
            AttributeColumns.load(tmp_path / "attributes", 2)


class TestChanges:
    """`tests/unit/compute/test_catalogue_changes.py` compares columns after random changes with those of the living products."""

    def appended(self, columns: AttributeColumns, *products: Product) -> None:
        columns.append(AddedProducts(columns.num_products, products, np.zeros((len(products), 4), np.float16)))

    def test_texts_are_read_as_the_type_of_their_column(self, tmp_path: Path) -> None:
        first = product(size="3 cm", sold="yes", day="2024-05-31", tags="a|b", note="x" * 300)
        columns = columns_of(tmp_path, [first], AttributeSpec("sold", BOOL), AttributeSpec("tags", KEYWORDS))
        self.appended(
            columns,
            product(size="1 in", sold="no", day="1.6.2024", tags=["B", "c"], note="short", other="x"),
            product(size="big", sold="perhaps", day="1/2/2024", tags="x" * (MAX_VALUE_CHARS + 1)),
            product(size="1.250"),
        )
        assert "other" not in columns
        assert columns["note"].num_values == 0
        assert columns["size"].numbers.tolist() == [3.0, 2.54]
        assert columns["sold"].numbers.tolist() == [1.0, 0.0]
        assert columns["day"].numbers.tolist() == [day_ms("2024-05-31"), day_ms("2024-06-01")]
        assert [columns["tags"].value(number) for number in range(3)] == ["a", "b", "c"]
        assert columns["tags"].rows_of(1).tolist() == [0, 1]
        assert columns["size"].rows_between(2, 3).tolist() == [0, 1]
        assert columns["size"].rows_between(2, 3, start=1).tolist() == [1]
        assert np.isnan(columns["size"].by_row(2)).all()

    def test_values_that_come_later_are_ordered_and_found_as_the_others_are(self, tmp_path: Path) -> None:
        columns = columns_of(tmp_path, [product(c="Beige"), product(c="red")])
        self.appended(columns, product(c="Dark Red"), product(c="azure"), product(c="BEIGE"))
        column = columns["c"]
        assert (column.find("DARK red"), column.find("beige"), column.find("pink")) == (2, 0, None)
        assert column.counts().tolist() == [2, 1, 1, 1]
        assert [column.value(number) for number in column.most_frequent(column.counts(), np.arange(4), 3)] == [
            "Beige",
            "azure",
            "Dark Red",
        ]
        assert column.containing("RED").tolist() == [1, 2]
        columns.remove(RemovedProducts(np.array([1, 3]), [product(c="red"), product(c="azure")]))
        assert column.counts().tolist() == [2, 0, 1, 0]
