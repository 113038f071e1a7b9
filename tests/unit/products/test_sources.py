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

    def test_json_lists_and_encoded_objects_become_text(self, tmp_path: Path) -> None:
        row = {"id": 1, "title": "Sofa", "tags": ["red", "soft", None], "box": {"cm": 20}}
        mapping = ColumnMapping(attributes=("tags",), text=("box",))
        products, _ = read(write(tmp_path, json.dumps(row), "shop.jsonl"), mapping)
        assert products[0].attributes == {"tags": "red, soft", "box": '{"cm": 20}'}
        assert products[0].lists == {"tags": ("red", "soft")}

    def test_objects_maps_and_name_value_lists_give_an_attribute_for_each_key(self, tmp_path: Path) -> None:
        row = {
            "id": 1,
            "title": "Sofa",
            "box": {"size": {"cm": 20}, "weight": "3 kg", "empty": None},
            "facts": [{"name": "Colour", "value": "red"}, {"name": "Feet", "value": 4}],
        }
        path = write(tmp_path, json.dumps(row), "shop.jsonl")
        products, reader = read(path, ColumnMapping(attributes=("box", "facts.*")))
        flat = {"box.size.cm": "20", "box.weight": "3 kg", "Colour": "red", "Feet": "4"}
        assert products[0].attributes == flat
        assert (reader.plain_attributes, reader.has_keys) == ((), True)
        assert read(path, ColumnMapping(attributes=("box.size.cm",)))[0][0].attributes == {"box.size.cm": "20"}
        maps = pa.array([[("Colour", "red")], None], pa.map_(pa.string(), pa.string()))
        pq.write_table(
            pa.table({"id": ["1", "2"], "title": ["Sofa", "Lamp"], "facts": maps}), tmp_path / "shop.parquet"
        )
        products, _ = read(tmp_path / "shop.parquet", ColumnMapping(attributes=("facts.*",)))
        assert [product.attributes for product in products] == [{"Colour": "red"}, {}]

    def test_a_key_that_is_repeated_has_several_values(self, tmp_path: Path) -> None:
        maps = pa.array([[("Size", "40"), ("Size", "41"), ("Colour", "red")]], pa.map_(pa.string(), pa.string()))
        pq.write_table(pa.table({"id": ["1"], "title": ["Shoe"], "facts": maps}), tmp_path / "shop.parquet")
        products, _ = read(tmp_path / "shop.parquet", ColumnMapping(attributes=("facts.*",)))
        assert products[0].attributes == {"Size": "40, 41", "Colour": "red"}
        assert products[0].lists == {"Size": ("40", "41")}

    def test_a_key_of_an_object_that_no_column_has_is_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path, "id,title,box\n")
        with pytest.raises(CatalogueError, match="no column 'bix.cm'"):
            CatalogueReader(path, ColumnMapping(attributes=("bix.cm",)))

    def test_several_categories_are_a_list_or_separated(self, tmp_path: Path) -> None:
        rows = [
            {"id": 1, "title": "Sofa", "category": ["Home > Sofas", "Sale", "Home > Sofas"]},
            {"id": 2, "title": "Sofa", "category": "Home>Sofas | Sale"},
        ]
        products, _ = read(write(tmp_path, "\n".join(map(json.dumps, rows)), "shop.jsonl"))
        assert [(product.category, product.other_categories) for product in products] == [
            ("Home > Sofas", ("Sale",))
        ] * 2

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("shop.csv", "id;title;price\n1;Sofa, red;1.299,00\n"),
            ("shop.csv", "id\ttitle\tprice\n1\tSofa, red\t1.299,00\n"),
            ("shop.tsv", "id\ttitle\tprice\n1\tSofa, red\t1.299,00\n"),
            ("shop.csv", "sep=|\r\nid|title|price\r\n1|Sofa, red|1.299,00\r\n"),
            ("shop.csv", 'id,title,price\n1,"Sofa, red","1.299,00"\n'),
            ("shop.json", ' [\n {"id": 1, "title": "Sofa, red", "price": "1.299,00"}\n]'),
            ("shop.json.gz", '[{"id": 1, "title": "Sofa, red", "price": "1.299,00"}]'),
        ],
    )
    def test_delimiters_and_arrays_are_recognised(self, tmp_path: Path, name: str, text: str) -> None:
        assert read(write(tmp_path, text, name))[0] == [Product("1", "Sofa, red", price_minor=129_900)]

    def test_rows_after_a_stated_delimiter_keep_their_lines(self, tmp_path: Path) -> None:
        _, reader = read(write(tmp_path, "sep=;\nid;title\n;Lamp\n"))
        assert reader.report.examples[0].row == 3

    def test_a_text_file_in_another_encoding_is_read_when_that_is_stated(self, tmp_path: Path) -> None:
        text = "id;title\n1;Stühle für 5 €\n"
        path = write(tmp_path, text.encode("windows-1252"))
        assert [p.title for p in CatalogueReader(path, encoding="windows-1252").products()] == ["Stühle für 5 €"]
        with pytest.raises(CatalogueError, match="--encoding windows-1252"):
            list(CatalogueReader(path, max_lost=0.2).products())
        with pytest.raises(CatalogueError, match="--encoding windows-1252"):
            CatalogueReader(write(tmp_path, "id;Größe\n".encode("windows-1252")))
        for encoding in ("utf-16", "ebcdic-cp-us", "klingon"):
            with pytest.raises(CatalogueError, match="not an encoding that can be read"):
                CatalogueReader(path, encoding=encoding)

    def test_a_key_of_a_late_line_is_a_column(self, tmp_path: Path) -> None:
        lines = [json.dumps({"id": n, "title": "Sofa"}) for n in range(1500)]
        lines.append(json.dumps({"id": "last", "title": "Sofa", "brand": "Halden", "colour": "red"}))
        products, _ = read(write(tmp_path, "\n".join(lines), "shop.jsonl"))
        assert products[-1].brand == "Halden"

    def test_a_damaged_array_is_refused_with_the_place(self, tmp_path: Path) -> None:
        with pytest.raises(CatalogueError, match="damaged after item 1"):
            CatalogueReader(write(tmp_path, '[{"id": 1, "title": "Sofa"}, {"id": ', "shop.json"))
        products, reader = read(write(tmp_path, '[{"id": 1, "title": "Sofa"}, 7]', "shop.json"))
        assert (ids(products), dict(reader.report.skipped)) == (["1"], {Skipped.NOT_AN_OBJECT: 1})


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
