"""Catalogue files of every format are read whole: each row becomes a product or a counted problem."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import tracemalloc
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.products.currency import currency_digits
from models.products.errors import CatalogueError
from models.products.mapping import ColumnMapping
from models.products.product import Product, product_text
from models.products.reader import CatalogueReader
from models.products.report import MAX_EXAMPLES, Repaired, Skipped
from models.products.text import clean_text
from models.products.values import parse_in_stock, parse_price

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
    def test_csv(self, tmp_path: Path, name: str) -> None:
        text = HEADER + "1,Velvet Sofa,Halden,Furniture > Sofas,1299,yes\n2,Desk Lamp,,,,no\n"
        products, reader = read(write(tmp_path, text, name))
        assert products == [SOFA, LAMP]
        assert reader.num_rows is None

    @pytest.mark.parametrize("name", ["shop.jsonl", "shop.jsonl.gz"])
    def test_json_lines(self, tmp_path: Path, name: str) -> None:
        text = "\n".join(json.dumps(record) for record in RECORDS)
        assert read(write(tmp_path, text, name))[0] == [SOFA, LAMP]

    def test_parquet(self, tmp_path: Path) -> None:
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
    def test_message_says_what_is_wrong(self, tmp_path: Path, name: str, content: bytes, message: str) -> None:
        with pytest.raises(CatalogueError, match=message):
            CatalogueReader(write(tmp_path, content, name))

    def test_missing_file_and_empty_folder(self, tmp_path: Path) -> None:
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

    def test_json_reasons(self, tmp_path: Path) -> None:
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


class TestRepairedRows:
    def test_each_repair_keeps_the_row(self, tmp_path: Path) -> None:
        text = HEADER + f'1,{"x" * 3000},,,-5,perhaps\n2,Lamp,,,"1299,00",\n3,Rug,,,9e99,1\n4,Pot,,,{"9" * 30},1\n'
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

    @pytest.mark.parametrize(
        ("value", "minor"),
        [
            ("12.99", 1299),
            ("$1,299.00", 129_900),
            ("€ 5", 500),
            ("1,234,567.8", 123_456_780),
            (".5", 50),
            ("0", 0),
            (" 7 ", 700),
            ("12.995", 1300),
            (12.99, 1299),
            (12, 1200),
            (Decimal("0.1"), 10),
            ("", None),
            (None, None),
            (float("nan"), None),
            ("1299,00", Repaired.PRICE_NOT_A_NUMBER),
            ("1,29", Repaired.PRICE_NOT_A_NUMBER),
            ("12.99 USD", Repaired.PRICE_NOT_A_NUMBER),
            ("free", Repaired.PRICE_NOT_A_NUMBER),
            ("$", Repaired.PRICE_NOT_A_NUMBER),
            (True, Repaired.PRICE_NOT_A_NUMBER),
            (float("inf"), Repaired.PRICE_NOT_A_NUMBER),
            ("-$5", Repaired.NEGATIVE_PRICE),
            ("$-5", Repaired.NEGATIVE_PRICE),
            (-0.01, Repaired.NEGATIVE_PRICE),
            (10**400, Repaired.PRICE_TOO_LARGE),
        ],
    )
    def test_prices(self, value: object, minor: object) -> None:
        assert parse_price(value, 2) == minor

    @given(minor=st.integers(0, 10**14), digits=st.sampled_from([0, 2, 3]))
    def test_price_survives_being_written_with_or_without_commas(self, minor: int, digits: int) -> None:
        amount = Decimal(minor).scaleb(-digits)
        for text in (f"{amount:f}", f"{amount:,f}", f"£{amount:,f}"):
            assert parse_price(text, digits) == minor
        assert parse_price(amount, digits) == minor

    @pytest.mark.parametrize(
        ("value", "in_stock"),
        [
            *(
                (value, True)
                for value in (True, 1, 25, "1", "TRUE", "Yes", "in stock", "In_Stock", "12", "3.0", "", None)
            ),
            *((value, False) for value in (False, 0, 0.0, "0", "no", "Out of Stock", "out_of_stock", "sold-out")),
            *((value, None) for value in ("maybe", "-", "2 weeks", [], "preorder")),
            (float("nan"), True),
            (10**400, True),
        ],
    )
    def test_stock(self, value: object, in_stock: bool | None) -> None:
        assert parse_in_stock(value) is in_stock


class TestText:
    @pytest.mark.parametrize(
        ("raw", "clean"),
        [
            ("Salt &amp; Pepper&#8482;", "Salt & Pepper\u2122"),
            ("  two\t\nlines\x00here  ", "two lines here"),
            ("Cafe\u0301", "Caf\u00e9"),
            ("a\u00a0\u2003b", "a b"),
            ("half \ud83d of one", "half \ufffd of one"),
            ("\u0000", ""),
        ],
    )
    def test_cleaning(self, raw: str, clean: str) -> None:
        assert clean_text(raw) == clean

    @given(st.text(st.characters(exclude_characters="&")))
    def test_clean_text_is_one_printable_line_and_stays_so(self, text: str) -> None:
        clean = clean_text(text)
        assert clean_text(clean) == clean
        assert clean == clean.strip()
        assert "  " not in clean
        assert len(clean.splitlines()) <= 1
        clean.encode()

    def test_entities_stay_in_ids(self, tmp_path: Path) -> None:
        assert ids(read(write(tmp_path, "id,title\na&amp;b,Sofa\n"))[0]) == ["a&amp;b"]

    def test_product_text(self) -> None:
        product = Product(
            "1", "Velvet Sofa.", "Halden", "Furniture > Living Room > Sofas", attributes={"note": "Seats 3.", "x": "y"}
        )
        assert product_text(product, ("note", "absent")) == "Velvet Sofa. Halden. Living Room, Sofas. Seats 3"

    def test_brand_in_the_title_is_not_said_twice(self) -> None:
        assert product_text(Product("1", "HALDEN Sofa", "Halden")) == "HALDEN Sofa"

    def test_product_is_hashable_and_travels_between_processes(self) -> None:
        product = Product("1", "Sofa", attributes={"colour": "red"})
        assert pickle.loads(pickle.dumps(product)) == product  # noqa: S301 - its own bytes
        assert len({product, product}) == 1


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


@pytest.mark.parametrize(("code", "digits"), [("USD", 2), ("eur", 2), ("JPY", 0), ("KRW", 0), ("KWD", 3), ("CLF", 4)])
def test_currency_digits(code: str, digits: int) -> None:
    assert currency_digits(code) == digits


def test_what_is_no_currency_is_refused() -> None:
    with pytest.raises(CatalogueError, match="three letters"):
        currency_digits("$")
