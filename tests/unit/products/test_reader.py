"""Each row of a catalogue becomes a product or a counted problem."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.products.decimals import DecimalMark
from models.products.errors import CatalogueError
from models.products.mapping import ColumnMapping
from models.products.product import Product
from models.products.reader import CatalogueReader
from models.products.report import MAX_EXAMPLES, Repaired, Skipped
from models.products.text import clean_text

HEADER = "id,title,brand,category,price,in_stock\n"


def write(folder: Path, content: str | bytes, name: str = "shop.csv") -> Path:
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def read(path: Path, mapping: ColumnMapping | None = None) -> tuple[list[Product], CatalogueReader]:
    reader = CatalogueReader(path, mapping)
    products = list(reader.products())
    report = reader.report
    assert report.rows == report.products + sum(report.skipped.values())
    assert report.products == len(products)
    return products, reader


def ids(products: Sequence[Product]) -> list[str]:
    return [product.id for product in products]


class TestMapping:
    def test_columns_are_mapped_and_empty_attributes_left_out(self, tmp_path: Path) -> None:
        text = "sku,name,maker,colour,notes,unused\nA,Sofa,Halden,red,,x\n"
        mapping = ColumnMapping(id="sku", title="name", brand="maker", text=("notes",), attributes=("colour",))
        products, _ = read(write(tmp_path, text), mapping)
        assert products == [Product("A", "Sofa", "Halden", attributes={"colour": "red"})]

    def test_all_missing_columns_are_named_at_once_with_the_nearest(self, tmp_path: Path) -> None:
        path = write(tmp_path, "SKU,title,colour\n")
        mapping = ColumnMapping(id="sku", price="cost", text=("color",))
        with pytest.raises(CatalogueError) as error:
            CatalogueReader(path, mapping)
        message = str(error.value)
        assert "'sku' (mapped as id), did you mean 'SKU'?" in message
        assert "'cost' (mapped as price);" in message
        assert "did you mean 'colour'?" in message
        assert message.endswith("Its columns are: SKU, title, colour")

    def test_id_and_title_are_required(self, tmp_path: Path) -> None:
        with pytest.raises(CatalogueError, match="no column 'title'"):
            CatalogueReader(write(tmp_path, "id,name\n"))

    def test_column_named_twice_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CatalogueError, match=r"'title'.*more than once"):
            CatalogueReader(write(tmp_path, "id,title,title\n"))

    def test_each_file_of_a_folder_is_checked(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"id": ["1"], "title": ["Sofa"]}), tmp_path / "a.parquet")
        pq.write_table(pa.table({"id": ["1"], "name": ["Sofa"]}), tmp_path / "b.parquet")
        with pytest.raises(CatalogueError, match=r"b\.parquet: no column 'title'"):
            CatalogueReader(tmp_path)

    def test_json_key_may_be_missing_from_some_rows(self, tmp_path: Path) -> None:
        text = '{"id": "1", "title": "Sofa"}\n{"id": "2", "title": "Lamp", "brand": "Halden"}\n'
        assert [product.brand for product in read(write(tmp_path, text, "shop.jsonl"))[0]] == ["", "Halden"]


class TestSkippedRows:
    def test_each_reason_with_its_line(self, tmp_path: Path) -> None:
        lines = [
            b"id,title",
            b"1,Sofa",
            b",No id",  # line 3
            b"i" * 257 + b",Long id",
            b"1,Sofa again",
            b"2, \t ",
            b"3,Caf\xe9",
            b"4",
            b"5,Lamp,extra",
            b'6,"Lamp" shade',
            b"7,Lamp",
        ]
        products, reader = read(write(tmp_path, b"\n".join(lines)))
        assert ids(products) == ["1", "7"]
        assert [(problem.row, problem.reason) for problem in reader.report.examples] == [
            (3, Skipped.NO_ID),
            (4, Skipped.LONG_ID),
            (5, Skipped.DUPLICATE_ID),
            (6, Skipped.NO_TITLE),
            (7, Skipped.NOT_UTF8),
            (8, Skipped.WRONG_CELLS),
            (9, Skipped.WRONG_CELLS),
            (10, Skipped.BROKEN_QUOTES),
        ]
        assert all(problem.lost and problem.file == "shop.csv" for problem in reader.report.examples)
        assert json.loads(reader.report.examples[2].content) == {"id": "1", "title": "Sofa again"}
        assert reader.report.examples[5].content == "4"

    def test_id_of_a_lost_row_is_free_for_a_later_one(self, tmp_path: Path) -> None:
        products, reader = read(write(tmp_path, "id,title\n1,\n1,Sofa\n"))
        assert products == [Product("1", "Sofa")]
        assert dict(reader.report.skipped) == {Skipped.NO_TITLE: 1}

    def test_repeated_ids_are_found_far_apart(self, tmp_path: Path) -> None:
        numbers = [*range(30_000), *range(0, 30_000, 3)]
        table = pa.table(
            {"id": [str(number) for number in numbers], "title": [f"Product {at}" for at in range(40_000)]}
        )
        pq.write_table(table, tmp_path / "shop.parquet")
        products, reader = read(tmp_path / "shop.parquet")
        assert [product.title for product in products] == [f"Product {at}" for at in range(30_000)]
        assert dict(reader.report.skipped) == {Skipped.DUPLICATE_ID: 10_000}

    def test_entities_stay_in_ids(self, tmp_path: Path) -> None:
        assert ids(read(write(tmp_path, "id,title\na&amp;b,Sofa\n"))[0]) == ["a&amp;b"]


class TestRepairedRows:
    def test_each_repair_keeps_the_row(self, tmp_path: Path) -> None:
        text = HEADER + f'1,{"x" * 3000},,,-5,perhaps\n2,Lamp,,,"1299,00 each",\n3,Rug,,,9e99,1\n4,Pot,,,{"9" * 30},1\n'
        products, reader = read(write(tmp_path, text))
        assert [(len(product.title), product.price_minor, product.in_stock) for product in products] == [
            (2000, None, True),
            (4, None, True),
            (3, None, True),
            (3, None, True),
        ]
        assert dict(reader.report.repaired) == {
            Repaired.TITLE_CUT: 1,
            Repaired.NEGATIVE_PRICE: 1,
            Repaired.STOCK_UNCLEAR: 1,
            Repaired.PRICE_NOT_A_NUMBER: 2,
            Repaired.PRICE_TOO_LARGE: 1,
        }
        assert not any(problem.lost for problem in reader.report.examples)
        assert reader.report.examples[1].value == "-5"


class TestLostRows:
    TEXT = "id,title\n1,Sofa\n1,Again\n,Lamp\n2,Lamp\n"

    def test_a_catalogue_that_lost_too_many_rows_is_refused_with_the_reasons(self, tmp_path: Path) -> None:
        path = write(tmp_path, self.TEXT)
        with pytest.raises(CatalogueError) as error:
            list(CatalogueReader(path, max_lost=0.4).products())
        message = str(error.value)
        assert "2 of 4 rows are lost, more than 40%" in message
        assert "--max-lost" in message
        assert "skipped 1: duplicate id, first at shop.csv:3" in message
        assert ids(list(CatalogueReader(path, max_lost=0.5).products())) == ["1", "2"]


class TestPrices:
    def prices(self, folder: Path, texts: Sequence[str], **options: Any) -> tuple[list[int | None], CatalogueReader]:
        rows = "".join(f'{n},Sofa,"{text}"\n' for n, text in enumerate(texts))
        reader = CatalogueReader(write(folder, "id,title,price\n" + rows), **options)
        return [product.price_minor for product in reader.products()], reader

    def test_the_column_shows_the_decimal_mark(self, tmp_path: Path) -> None:
        assert self.prices(tmp_path, ["1.299", "12,50 €", "7"])[0] == [129_900, 1250, 700]
        assert self.prices(tmp_path, ["1,299", "12.50", "7"])[0] == [129_900, 1250, 700]

    def test_what_the_column_does_not_show_is_reported_until_it_is_stated(self, tmp_path: Path) -> None:
        prices, reader = self.prices(tmp_path, ["1.299", "2.499"])
        assert prices == [None, None]
        assert dict(reader.report.repaired) == {Repaired.PRICE_UNCLEAR: 2}
        assert self.prices(tmp_path, ["1.299", "2.499"], mark=DecimalMark.COMMA)[0] == [129_900, 249_900]
        assert self.prices(tmp_path, ["1.299", "2.499"], mark=DecimalMark.POINT)[0] == [130, 250]

    def test_another_currency_is_reported(self, tmp_path: Path) -> None:
        prices, reader = self.prices(tmp_path, ["CHF 5", "5 EUR", "5"], currency="EUR")
        assert prices == [None, 500, 500]
        assert dict(reader.report.repaired) == {Repaired.OTHER_CURRENCY: 1}


class TestReport:
    def test_counts_go_on_after_the_examples_are_full(self, tmp_path: Path) -> None:
        reader = read(write(tmp_path, "id,title\n" + ",x\n" * 250))[1]
        assert len(reader.report.examples) == MAX_EXAMPLES
        assert reader.report.skipped[Skipped.NO_ID] == 250

    def test_prints_and_goes_into_json(self, tmp_path: Path) -> None:
        reader = read(write(tmp_path, "id,title,price\n1,Sofa,cheap\n1,Sofa,5\n"))[1]
        assert str(reader.report).splitlines() == [
            "2 rows read, 1 products kept",
            "  skipped 1: duplicate id, first at shop.csv:3 ('1')",
            "  repaired 1: price not a number, first at shop.csv:2 ('cheap')",
        ]
        values = json.loads(json.dumps(reader.report.as_json()))
        assert values["skipped"] == {"duplicate id": 1}
        assert values["examples"][0] == {
            "file": "shop.csv",
            "row": 2,
            "reason": "price not a number",
            "lost": False,
            "value": "cheap",
            "content": '{"id": "1", "title": "Sofa", "price": "cheap"}',
        }


class TestAnyContent:
    CELLS = st.text(st.sampled_from('ab1"\n, &é\t'), max_size=6)

    @given(rows=st.lists(st.tuples(st.integers(0, 5), CELLS), max_size=12))
    def test_well_formed_csv_gives_each_row_back(self, tmp_path: Path, rows: list[tuple[int, str]]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows([("id", "title"), *rows])
        products, reader = read(write(tmp_path, text.getvalue()))
        expected: dict[str, str] = {}
        for number, title in rows:
            if clean_text(title):
                expected.setdefault(str(number), clean_text(title))
        assert {product.id: product.title for product in products} == expected
        assert reader.report.rows == len(rows)

    @given(data=st.binary(max_size=200), name=st.sampled_from(["shop.csv", "shop.jsonl"]))
    def test_no_bytes_stop_the_reading(self, tmp_path: Path, data: bytes, name: str) -> None:
        first = b"id,title\n1,Sofa\n" if name == "shop.csv" else b'{"id": 1, "title": "Sofa"}\n'
        assert read(write(tmp_path, first + data, name))[0][0] == Product("1", "Sofa")

    @given(
        rows=st.lists(
            st.dictionaries(
                st.sampled_from(["id", "title", "price", "in_stock", "brand"]),
                st.integers()
                | st.floats()
                | st.text(max_size=8)
                | st.sampled_from([None, True, "\ud800", [], ["a", None, ["b"]], {"a": {"b": [1]}}, 10**400, -0.0]),
                max_size=5,
            ),
            max_size=8,
        )
    )
    def test_no_json_values_stop_the_reading(self, tmp_path: Path, rows: list[dict[str, object]]) -> None:
        lines = [{"id": "first", "title": "Sofa", "price": 1, "in_stock": 1, "brand": ""}, *rows]
        _, reader = read(write(tmp_path, "\n".join(map(json.dumps, lines)), "shop.jsonl"))
        assert reader.report.rows == len(lines)
        json.dumps(reader.report.as_json(), ensure_ascii=False).encode()
        str(reader.report).encode()


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(num_rows: int) -> int:
        titles = np.char.add("A product with a title of some length ", np.arange(num_rows).astype(str))
        pq.write_table(pa.table({"id": np.arange(num_rows).astype(str), "title": titles}), tmp_path / "shop.parquet")
        tracemalloc.start()
        try:
            assert sum(1 for _ in CatalogueReader(tmp_path / "shop.parquet").products()) == num_rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # 40,000 products would take 8 MB; the ids that are remembered of them take 0.3 MB.
    assert peak(50_000) < peak(10_000) + 2_000_000
