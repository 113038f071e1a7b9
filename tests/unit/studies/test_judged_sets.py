"""WANDS and ESCI are read as they are published; what is missing or wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.studies.text_encoder.esci import EXAMPLES_FILE, PRODUCTS_FILE, read_esci
from models.studies.text_encoder.judged_set import JudgedSet, JudgedSetError, Pool, Protocol
from models.studies.text_encoder.wands import read_wands

PRODUCT_COLUMNS = (
    "product_id\tproduct_name\tproduct_class\tcategory hierarchy\tproduct_description\tproduct_features\trating_count"
    "\taverage_rating\treview_count"
)
PRODUCTS = [
    "0\tsolid wood platform bed\tBeds\tFurniture / Beds\tgood , deep sleep .\tcolor:brown|size:queen\t15.0\t4.5\t15.0",
    '7\tgriffin 29 \'\' bar stool\tBar Stools|Stools\tFurniture\t"two\nlines, ""quoted"""\t\t\t\t',
    "9\tsalon chair\t\tFurniture\t\t\t\t\t",
]
QUERIES = ["query_id\tquery\tquery_class", "0\tsalon chair\tMassage Chairs", "483\trustic twig\tFaux Plants"]
LABELS = ["id\tquery_id\tproduct_id\tlabel", "0\t0\t9\tExact", "1\t0\t7\tPartial", "2\t483\t0\tIrrelevant"]


def wands(folder: Path, **files: list[str]) -> Path:
    contents = {"product": [PRODUCT_COLUMNS, *PRODUCTS], "query": QUERIES, "label": LABELS, **files}
    for name, lines in contents.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_wands_is_read_with_its_grades(tmp_path: Path) -> None:
    judged = read_wands(wands(tmp_path))
    assert judged.queries == ["salon chair", "rustic twig"]
    assert judged.products == [
        "solid wood platform bed. Beds. good , deep sleep",
        "griffin 29 '' bar stool. Bar Stools, Stools. two lines, \"quoted\"",
        "salon chair",
    ]
    assert list(zip(judged.query_rows.tolist(), judged.product_rows.tolist(), judged.gains.tolist(), strict=True)) == [
        (0, 1, 0.5),
        (0, 2, 1.0),
        (1, 0, 0.0),
    ]
    assert judged.is_relevant.tolist() == [False, True, False]
    assert judged.protocol.pool is Pool.CATALOGUE


def test_wands_fields_are_a_choice_and_its_description_s_name_of_the_hierarchy_is_known(tmp_path: Path) -> None:
    judged = read_wands(wands(tmp_path), fields=("product_name", "category_hierarchy"))
    assert judged.products[2] == "salon chair. Furniture"
    assert "product_name, category_hierarchy" in judged.protocol.describe()


def test_a_pair_that_was_judged_twice_keeps_the_higher_grade_and_is_counted(tmp_path: Path) -> None:
    judged = read_wands(wands(tmp_path, label=[*LABELS, "3\t0\t7\tExact", "4\t0\t7\tIrrelevant"]))
    assert judged.gains.tolist() == [1.0, 1.0, 0.0]
    assert judged.num_repeated == 2


def test_what_wands_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(JudgedSetError, match=r"WANDS needs query\.csv"):
        read_wands(tmp_path)
    with pytest.raises(JudgedSetError, match=r"label\.csv: the columns label are missing"):
        read_wands(wands(tmp_path, label=["id\tquery_id\tproduct_id", "0\t0\t9"]))
    with pytest.raises(JudgedSetError, match="record 2: label 'Good' is unknown"):
        read_wands(wands(tmp_path, label=[LABELS[0], "0\t0\t9\tGood"]))
    with pytest.raises(JudgedSetError, match="record 3: product_id '8' is unknown"):
        read_wands(wands(tmp_path, label=[*LABELS[:2], "0\t0\t8\tExact"]))
    with pytest.raises(JudgedSetError, match="0 judgements"):
        read_wands(wands(tmp_path, label=LABELS[:1]))


Example = tuple[str, int, str, str, str, int, str]
EXAMPLES: list[Example] = [  # query, query_id, product_id, locale, label, small_version, split
    ("usb cable", 11, "B1", "us", "E", 1, "test"),
    ("usb cable", 11, "B2", "us", "S", 1, "test"),
    ("bed", 5, "B3", "us", "C", 1, "test"),
    ("bed", 5, "B1", "us", "I", 1, "test"),
    ("bed", 5, "B2", "us", "E", 0, "test"),
    ("sofa", 6, "B2", "us", "E", 1, "train"),
    ("cama", 7, "B1", "es", "E", 1, "test"),
]
ESCI_PRODUCTS: list[dict[str, Any]] = [
    {"product_id": "B1", "product_title": "USB cable 2 m", "product_brand": "Acme", "product_locale": "us"},
    {"product_id": "B2", "product_title": "USB  hub", "product_brand": None, "product_locale": "us"},
    {"product_id": "B3", "product_title": None, "product_brand": "Acme", "product_locale": "us"},
    {"product_id": "B1", "product_title": "Cable USB", "product_brand": "Acme", "product_locale": "es"},
]


def esci(
    folder: Path, examples: list[Example] = EXAMPLES, products: list[dict[str, Any]] = ESCI_PRODUCTS, **left_out: str
) -> Path:
    names = ("query", "query_id", "product_id", "product_locale", "esci_label", "small_version", "split")
    columns: dict[str, Any] = dict(zip(names, map(list, zip(*examples, strict=True)), strict=True))
    columns |= {"example_id": list(range(len(examples))), "large_version": [1] * len(examples)}
    columns.pop(left_out.get("column", ""), None)
    pq.write_table(pa.table(columns), folder / EXAMPLES_FILE)
    rows = [{"product_description": "", "product_bullet_point": "", "product_color": "", **row} for row in products]
    pq.write_table(pa.Table.from_pylist(rows), folder / PRODUCTS_FILE)
    return folder


def test_esci_is_one_locale_of_the_small_test_part_with_the_paper_s_gains(tmp_path: Path) -> None:
    judged = read_esci(esci(tmp_path))
    assert judged.queries == ["bed", "usb cable"]  # by id
    assert judged.products == ["USB cable 2 m", "USB hub", ""]  # a product without a title stays: it was judged
    assert list(zip(judged.query_rows.tolist(), judged.product_rows.tolist(), judged.gains.tolist(), strict=True)) == [
        (0, 0, 0.0),
        (0, 2, 0.01),
        (1, 0, 1.0),
        (1, 1, 0.1),
    ]
    assert judged.protocol.ndcg_at is None
    assert judged.protocol.pool is Pool.JUDGED


def test_other_parts_of_esci_can_be_asked_for(tmp_path: Path) -> None:
    folder = esci(tmp_path)
    assert read_esci(folder, locale="es").products == ["Cable USB"]
    assert read_esci(folder, split="train").queries == ["sofa"]
    assert len(read_esci(folder, version="large").labels) == 5
    assert read_esci(folder, max_queries=1).queries == ["bed"]
    assert read_esci(folder, fields=("product_title", "product_brand")).products[0] == "USB cable 2 m. Acme"


def test_what_esci_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(JudgedSetError, match="ESCI needs shopping_queries_dataset_examples.parquet"):
        read_esci(tmp_path)
    with pytest.raises(JudgedSetError, match="columns esci_label are missing"):
        read_esci(esci(tmp_path, column="esci_label"))
    with pytest.raises(JudgedSetError, match="locale is 'de', ESCI has us, es, jp"):
        read_esci(esci(tmp_path), locale="de")
    with pytest.raises(JudgedSetError, match="no judgement of locale jp"):
        read_esci(esci(tmp_path), locale="jp")
    with pytest.raises(JudgedSetError, match="1 judged products of locale us are missing, for example 'B3'"):
        read_esci(esci(tmp_path, products=ESCI_PRODUCTS[:2]))
    with pytest.raises(JudgedSetError, match="esci_label 'X' is not one of E, S, C, I"):
        read_esci(esci(tmp_path, [("bed", 5, "B1", "us", "X", 1, "test")]))
    (tmp_path / EXAMPLES_FILE).write_text("no parquet")
    with pytest.raises(JudgedSetError, match="cannot be read as Parquet"):
        read_esci(tmp_path)


def test_a_protocol_refuses_relevant_labels_without_a_gain() -> None:
    with pytest.raises(ValueError, match="relevant labels no need a gain above 0"):
        Protocol({"yes": 1.0, "no": 0.0}, ("no",), Pool.JUDGED)


def test_judgements_of_rows_that_are_not_there_are_refused() -> None:
    protocol = Protocol({"yes": 1.0}, ("yes",), Pool.JUDGED)
    rows = np.array([0]), np.array([3]), np.array([0], np.int32)
    with pytest.raises(JudgedSetError, match="product rows 0 to 1"):
        JudgedSet.from_judgements("set", protocol, ["a"], ["b", "c"], rows)
