"""Catalogue files of every format are read whole; a damaged row is lost alone, and a damaged file is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.products.errors import CatalogueError
from models.products.mapping import ColumnMapping
from models.products.product import Product
from models.products.reader import CatalogueReader
from models.products.report import Repaired, Skipped

HEADER = "id,title,brand,category,price,in_stock\n"


def write(folder: Path, content: str | bytes, name: str = "shop.csv") -> Path:
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def read(path: Path, mapping: ColumnMapping | None = None) -> tuple[list[Product], CatalogueReader]:
    reader = CatalogueReader(path, mapping)
    return list(reader.products()), reader


def ids(products: Sequence[Product]) -> list[str]:
    return [product.id for product in products]


SOFA = Product("1", "Velvet Sofa", "Halden", "Furniture > Sofas", 129_900, True)
LAMP = Product("2", "Desk Lamp", in_stock=False)
RECORDS = [
    {
        "id": "1",
        "title": "Velvet Sofa",
        "brand": "Halden",
        "category": "Furniture > Sofas",
        "price": "1299",
        "in_stock": True,
    },
    {"id": "2", "title": "Desk Lamp", "brand": None, "category": None, "price": None, "in_stock": False},
]


class TestFormats:
    @pytest.mark.parametrize("name", ["shop.csv", "shop.csv.gz", "SHOP.CSV"])
    def test_csv_is_read_plain_and_gzipped(self, tmp_path: Path, name: str) -> None:
        text = HEADER + "1,Velvet Sofa,Halden,Furniture > Sofas,1299,yes\n2,Desk Lamp,,,,no\n"
        products, reader = read(write(tmp_path, text, name))
        assert products == [SOFA, LAMP]
        assert reader.num_rows is None

    @pytest.mark.parametrize("name", ["shop.jsonl", "shop.jsonl.gz"])
    def test_json_lines_are_read_plain_and_gzipped(self, tmp_path: Path, name: str) -> None:
        text = "\n".join(json.dumps(record) for record in RECORDS)
        assert read(write(tmp_path, text, name))[0] == [SOFA, LAMP]

    def test_parquet_is_read_with_its_number_of_rows(self, tmp_path: Path) -> None:
        pq.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "shop.parquet")
        products, reader = read(tmp_path / "shop.parquet")
        assert products == [SOFA, LAMP]
        assert reader.num_rows == 2

    def test_folder_of_parquet_files_is_read_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        for number, record in enumerate(reversed(RECORDS)):
            pq.write_table(pa.Table.from_pylist([record]), tmp_path / f"part-{number}.parquet")
        (tmp_path / "_SUCCESS").touch()
        products, reader = read(tmp_path)
        assert ids(products) == ["2", "1"]
        assert reader.num_rows == 2

    def test_byte_order_mark_windows_line_ends_and_blank_lines(self, tmp_path: Path) -> None:
        text = "\ufeffid,title\r\n1,Sofa\r\n\r\n2,Lamp\r\n"
        assert ids(read(write(tmp_path, text))[0]) == ["1", "2"]
        text = '\ufeff{"id": 1, "title": "Sofa"}\r\n\r\n{"id": 2, "title": "Lamp"}'
        assert ids(read(write(tmp_path, text, "shop.jsonl"))[0]) == ["1", "2"]

    def test_quoted_cells_hold_commas_quotes_and_line_breaks(self, tmp_path: Path) -> None:
        products, reader = read(write(tmp_path, 'id,title\n1,"Sofa, 3 seats,\n""Halden"""\n,Lamp\n'))
        assert products[0].title == 'Sofa, 3 seats, "Halden"'
        assert reader.report.examples[0].row == 4

    def test_reading_again_starts_again(self, tmp_path: Path) -> None:
        reader = CatalogueReader(write(tmp_path, "id,title\n1,Sofa\n1,Sofa\n"))
        assert list(reader.products()) == list(reader.products())
        assert reader.report.rows == 2

    def test_numbers_in_typed_columns_become_text(self, tmp_path: Path) -> None:
        table = pa.table(
            {"id": [7.0, 8.0], "title": ["Sofa", "Lamp"], "price": [Decimal("19.99"), None], "size": [2, 3]}
        )
        pq.write_table(table, tmp_path / "shop.parquet")
        mapping = ColumnMapping(price="price", attributes=("size",))
        assert read(tmp_path / "shop.parquet", mapping)[0] == [
            Product("7", "Sofa", price_minor=1999, attributes={"size": "2"}),
            Product("8", "Lamp", attributes={"size": "3"}),
        ]

    def test_json_lists_and_objects_become_text(self, tmp_path: Path) -> None:
        row = {"id": 1, "title": "Sofa", "tags": ["red", "soft", None], "box": {"cm": 20}}
        mapping = ColumnMapping(attributes=("tags", "box"))
        products, _ = read(write(tmp_path, json.dumps(row), "shop.jsonl"), mapping)
        assert products[0].attributes == {"tags": "red, soft", "box": '{"cm": 20}'}


class TestRefusedFiles:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("shop.txt", b"id,title\n", "not a known format"),
            ("shop.csv", b"", "must name the columns"),
            ("shop.csv", "id,title\n".encode("utf-16"), "UTF-16"),
            ("shop.csv", b"id,t\xefitle\n", "header line cannot be read"),
            ("shop.jsonl", b"", "no JSON object"),
            ("shop.jsonl", b"[1]\n[2]\n", "no JSON object"),
            ("shop.parquet", b"PAR1 but not really", "cannot be opened as Parquet"),
        ],
    )
    def test_a_file_that_cannot_be_read_is_refused_with_the_reason(
        self, tmp_path: Path, name: str, content: bytes, message: str
    ) -> None:
        with pytest.raises(CatalogueError, match=message):
            CatalogueReader(write(tmp_path, content, name))

    def test_a_missing_file_and_an_empty_folder_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CatalogueError, match="no such file"):
            CatalogueReader(tmp_path / "shop.csv")
        with pytest.raises(CatalogueError, match=r"\*\.parquet"):
            CatalogueReader(tmp_path)

    def test_cut_gzip_ends_with_an_error_not_with_fewer_products(self, tmp_path: Path) -> None:
        rows = "".join(f"{number},Product {number * 7919}\n" for number in range(20_000))
        whole = gzip.compress(("id,title\n" + rows).encode())
        path = tmp_path / "shop.csv.gz"
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CatalogueError, match="cut short"):
            list(CatalogueReader(path).products())


class TestDamagedRows:
    def test_each_damage_of_a_json_line_has_its_reason(self, tmp_path: Path) -> None:
        lines = [b'{"id": "1", "title": "Sofa"}', b'{"id": "2", "title": ', b'"3"', b'{"id": "4", "title": "\xff"}']
        products, reader = read(write(tmp_path, b"\n".join(lines), "shop.jsonl"))
        assert ids(products) == ["1"]
        assert dict(reader.report.skipped) == {Skipped.BROKEN_JSON: 1, Skipped.NOT_AN_OBJECT: 1, Skipped.NOT_UTF8: 1}

    def test_quote_that_is_never_closed_costs_only_its_row(self, tmp_path: Path) -> None:
        rows = [f"{number},Lamp {number}" for number in range(200)]
        rows[50] = '50,"Lamp'
        products, reader = read(write(tmp_path, "id,title\n" + "\n".join(rows)))
        assert len(products) == 199
        assert [(problem.row, problem.content) for problem in reader.report.examples] == [(52, '50,"Lamp')]

    def test_parquet_text_that_is_not_utf8_costs_only_its_row(self, tmp_path: Path) -> None:
        titles = pa.array([b"Sofa", b"Caf\xe9", b"Lamp"]).view(pa.string())
        prices = pa.array([b"5", b"6", b"\xe9"]).view(pa.string())
        pq.write_table(pa.table({"id": ["1", "2", "3"], "title": titles, "price": prices}), tmp_path / "shop.parquet")
        products, reader = read(tmp_path / "shop.parquet")
        assert [(product.id, product.price_minor) for product in products] == [("1", 500), ("3", None)]
        assert [(problem.row, problem.reason) for problem in reader.report.examples] == [
            (2, Skipped.NOT_UTF8),
            (3, Repaired.PRICE_NOT_A_NUMBER),
        ]
