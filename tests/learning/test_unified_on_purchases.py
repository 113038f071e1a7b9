"""The unified model learns from invoices alone: customers who buy the same again are recognised by the words of what they bought."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.studies.purchases.evaluate_online_retail import evaluate_online_retail, trained_rankers
from models.studies.purchases.online_retail import FILE
from models.train_all import LoopRecipe
from serving.cli.served_search import ServedSearch

MUGS, CUSTOMERS, INVOICES = 60, 120, 12


def test_a_customer_is_offered_what_they_bought_before(
    tmp_path: Path, tiny_loop: LoopRecipe, silent: Callable[[str, int, int | None], None]
) -> None:
    """Each customer buys one of sixty mugs; the word "mug" alone cannot tell which."""
    random = np.random.default_rng(0)
    rows = [
        (
            datetime(2011, 1, 1) + timedelta(days=invoice, minutes=customer),
            f"{536000 + invoice * CUSTOMERS + customer}",
            customer,
        )
        for invoice in range(INVOICES)
        for customer in random.permutation(CUSTOMERS).tolist()
    ]
    mugs = [customer % MUGS for _, _, customer in rows]
    columns = {
        "InvoiceNo": [invoice for _, invoice, _ in rows],
        "StockCode": [f"{10000 + mug}" for mug in mugs],
        "Description": [f"{chr(65 + mug % 26) * 3}{chr(65 + mug // 26) * 3} MUG" for mug in mugs],
        "Quantity": [1] * len(rows),
        "InvoiceDate": [date for date, _, _ in rows],
        "UnitPrice": [2.0] * len(rows),
        "CustomerID": [float(customer) for _, _, customer in rows],
        "Country": ["Malta"] * len(rows),
    }
    pq.write_table(pa.table(columns), tmp_path / FILE)
    recipe = replace(tiny_loop, unified=replace(tiny_loop.unified, epochs=40))
    make_rankers = trained_rankers(recipe, tmp_path / "work", ServedSearch)
    found = evaluate_online_retail(tmp_path / FILE, silent, make_rankers=make_rankers).summary
    known, hidden = (found.overall[name]["recall@5"] for name in ("unified", "unified, history hidden"))
    assert known.low > hidden.high
    assert known.value > 0.5
