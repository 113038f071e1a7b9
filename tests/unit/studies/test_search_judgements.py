"""Judgements of a shop's own: what is read, what is left out, what is refused, and figures worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.arrays import silent
from models.bundles.bundle import Bundle
from models.studies.search.evaluate_search import BM25, evaluate_search
from models.studies.search.judgements import JudgementColumns, Judgements, JudgementsError, read_judgements


def read(folder: Path, shop_bundle: Path, text: str) -> Judgements:
    path = folder / "judged.csv"
    path.write_text("query,product_id,rating\n" + text)
    return read_judgements(path, Bundle(shop_bundle).products(), JudgementColumns())


def test_unknown_products_and_queries_without_hope_are_counted_and_left_out(shop_bundle: Path, tmp_path: Path) -> None:
    rows = "sofa,A-1001,3\nsofa,A-1003,1\nsofa,A-1003,2\nsofa,A-1006,0\nsofa,gone,3\nlamp,gone,3\nlamp,A-1001,0\n"
    judged = read(tmp_path, shop_bundle, rows)
    assert judged.queries == ["sofa"]
    assert judged.rated.rows.tolist() == [0, 2]
    assert judged.rated.grades.tolist() == [3, 1.5]  # the mean of a pair that was judged twice
    assert [rows.tolist() for rows in judged.judged] == [[0, 2, 5]]
    counts = (judged.num_judgements, judged.num_unknown, judged.num_hopeless, judged.num_repeated)
    assert counts == (7, 2, 1, 1)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("sofa,A-1001,good\n", "judged.csv:2: rating is 'good'; it must be a number of 0 or more"),
        ("sofa,A-1001,-1\n", "rating is '-1'"),
        ("sofa,A-1001,nan\n", "rating is 'nan'"),
        (" ,A-1001,1\n", "judged.csv:2: query is empty"),
        ("sofa,gone,1\n", "1 name products that it does not hold"),
        ("sofa,A-1001,0\n", "of 1 judgements none is above 0"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(
    shop_bundle: Path, tmp_path: Path, text: str, error: str
) -> None:
    with pytest.raises(JudgementsError, match=error):
        read(tmp_path, shop_bundle, text)


def test_a_missing_column_is_named_with_those_that_there_are(shop_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "judged.csv"
    path.write_text("q,id,rating\nsofa,A-1001,1\n")
    table = Bundle(shop_bundle).products()
    with pytest.raises(
        JudgementsError, match=r"no column query, product_id; its columns are q, id, rating\. Name yours"
    ):
        read_judgements(path, table, JudgementColumns())
    judged = read_judgements(path, table, JudgementColumns(query="q", product="id"))
    assert judged.queries == ["sofa"]


def test_the_figures_are_those_worked_out_by_hand(shop_bundle: Path, tmp_path: Path) -> None:
    judged = read(tmp_path, shop_bundle, "sofa,A-1001,3\nsofa,A-1003,1\nsofa,A-1006,0\ntable,A-1004,2\n")
    answers = {
        "first": {"sofa": ["A-1005", "A-1003", "A-1001"], "table": []},
        "second": {"sofa": ["A-1001", "unknown", "A-1003"], "table": ["A-1004"]},
    }
    ways = {name: of.__getitem__ for name, of in answers.items()}
    evaluate_search(judged, Bundle(shop_bundle), ways, tmp_path / "report", silent)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["finding"].startswith("NDCG@10 over 2 queries: ")
    full, alone = (
        {name: cells[0]["value"] for name, cells in section["tables"][0]["rows"]} for section in report["sections"]
    )
    ideal = 3 + 1 / np.log2(3)
    assert full["second"] == alone["second"] == pytest.approx(1)
    assert full["first"] == pytest.approx((1 / np.log2(3) + 3 / 2) / ideal / 2)
    assert alone["first"] == pytest.approx((1 + 3 / np.log2(3)) / ideal / 2)
    assert BM25 in full
