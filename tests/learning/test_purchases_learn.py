"""A shop whose products are told apart by nothing but their ids: what a customer buys again is known by who bought it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.arrays import silent
from models.studies.purchases.evaluate_online_retail import evaluate_online_retail, trained_rankers
from models.studies.purchases.online_retail import FILE
from models.train_all import LoopRecipe
from serving.cli.served_search import ServedSearch

CUSTOMERS, VISITS = 40, 20
START = datetime(2011, 1, 4, 9, 30)


def purchases(path: Path, *, same_again: bool) -> Path:
    """Every customer buys one of forty mugs of one name a visit: always the same one, or each time the next."""
    visits = [(visit, customer) for visit in range(VISITS) for customer in range(CUSTOMERS)]
    mugs = [customer if same_again else (7 * customer + 11 * visit) % CUSTOMERS for visit, customer in visits]
    table = {
        "InvoiceNo": [f"{536000 + number}" for number in range(len(visits))],
        "StockCode": [f"{10000 + mug}" for mug in mugs],
        "Description": ["PLAIN MUG"] * len(visits),
        "Quantity": [1] * len(visits),
        "UnitPrice": [1.0] * len(visits),
        "CustomerID": [float(customer) for _, customer in visits],
        "Country": ["Malta"] * len(visits),
        "InvoiceDate": [START + timedelta(hours=number) for number in range(len(visits))],
    }
    pq.write_table(pa.table(table), path)
    return path


def recall_at_5(tmp_path: Path, recipe: LoopRecipe, *, same_again: bool) -> dict[str, float]:
    evaluation = evaluate_online_retail(
        purchases(tmp_path / FILE, same_again=same_again),
        silent,
        make_rankers=trained_rankers(recipe, tmp_path / "work", ServedSearch),
    )
    return {name: of_ranker["recall@5"].value for name, of_ranker in evaluation.summary.overall.items()}


def test_what_a_customer_buys_again_comes_first(tmp_path: Path, tiny_loop: LoopRecipe) -> None:
    recipe = replace(tiny_loop, ranker=replace(tiny_loop.ranker, epochs=40))
    again = recall_at_5(tmp_path, recipe, same_again=True)
    assert again["as served"] > 0.9
    assert again["as served, history hidden"] < 0.4
    assert again["unified"] < 0.4  # it knows words, and all have the same


def test_where_nobody_buys_again_the_ranker_learns_nothing_of_it(tmp_path: Path, tiny_loop: LoopRecipe) -> None:
    recipe = replace(tiny_loop, ranker=replace(tiny_loop.ranker, epochs=40))
    assert recall_at_5(tmp_path, recipe, same_again=False)["as served"] < 0.4
