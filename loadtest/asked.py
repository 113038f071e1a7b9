"""Do the first hits hold what a query names? Queries of two attributes and a type, against a real service.

python -m loadtest.asked --bundle bundles/personal
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from aisle.client import AisleClient
from aisle.v1 import search_pb2
from loadtest.benchmarks.service import served
from loadtest.errors import LoadError
from models.bundles.bundle import Bundle
from models.products.attributes.spec import AttributeType
from serving.cli.failures import failures

FIRST = 10  # hits that are looked at
MANY = 10  # products from which a combination has enough of them to fill these
MAX_VALUES = 200  # of an attribute that shoppers name; of more it is a model number or a size of many kinds
MIN_SHARE = 0.1  # of the products that have the attribute
TIMEOUT_S = 60.0
WEIGHTS = (0.0, 2.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True, slots=True)
class Combination:
    """What a query names, and the products that have all of it."""

    query: str
    product_ids: frozenset[str]


@dataclass(slots=True)
class Asked:
    """By setting, the share of the first hits of each query that hold everything named, of those that could."""

    shares: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def mean(self, setting: str) -> float:
        return float(np.mean(self.shares[setting]))


def combinations_of(bundle: Bundle, count: int, seed: int, *, rare: bool) -> list[Combination]:
    """Draws combinations of two keyword attributes and the last step of the category that at least MANY products have, or fewer if `rare`.
    Raises LoadError if the catalogue has none."""
    table, columns = bundle.products(), bundle.attributes()
    names = [
        name
        for name, column in columns.items()
        if column.type is AttributeType.KEYWORD
        and 2 <= column.num_values <= MAX_VALUES
        and column.num_entries >= MIN_SHARE * len(table)
    ]
    values = {name: dict(columns[name].values_of(np.arange(len(table)))) for name in names}
    types = [path.split(" > ")[-1] for path in table.strings("category")]
    rows_of: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for first, second in combinations(names, 2):
        for row in values[first].keys() & values[second].keys():
            if types[row]:
                named = (str(columns[one].value(values[one][row])) for one in (first, second))
                rows_of[(*named, types[row])].append(row)  # type: ignore[index]  # two names and a type
    fitting = sorted(named for named, rows in rows_of.items() if (len(rows) < MANY) == rare)
    if not fitting:
        raise LoadError(
            f"{bundle.folder}: no two keyword attributes and category go together; build it with --attribute"
        )
    chosen = random.Random(seed).sample(fitting, min(count, len(fitting)))
    return [
        Combination(" ".join(named).lower(), frozenset(table.id(row) for row in rows_of[named])) for named in chosen
    ]


def ask(client: AisleClient, asked: list[Combination]) -> Asked:
    """Asks each query unranked and ranked with several weights of what was asked for."""
    result = Asked()
    for one in asked:
        requests = {"not ranked": search_pb2.SearchRequest(rank_model=search_pb2.RANK_MODEL_NONE)}
        requests |= {"vectors alone, not ranked": search_pb2.SearchRequest(rank_depth=0, lexical_weight=0)}
        requests |= {f"asked_weight {weight:g}": search_pb2.SearchRequest(asked_weight=weight) for weight in WEIGHTS}
        requests |= {"vectors alone, asked_weight 0": search_pb2.SearchRequest(lexical_weight=0, asked_weight=0)}
        for name, request in requests.items():
            request.query, request.page_size = one.query, FIRST
            hits = client.search(request).hits
            right = sum(hit.product_id in one.product_ids for hit in hits)
            result.shares[name].append(right / min(FIRST, len(one.product_ids)))
    return result


def main(
    bundle: Annotated[Path, typer.Option(help="The bundle to serve and to ask.")],
    queries: Annotated[int, typer.Option(min=1, help="Queries of each kind.")] = 300,
    seed: Annotated[int, typer.Option(help="Another seed draws other queries.")] = 0,
) -> None:
    """Prints the share of the first ten hits that hold everything that a query names: both attributes and the type."""
    with failures(), served(bundle) as service, AisleClient(service.address, timeout_s=TIMEOUT_S) as client:
        kinds = {
            kind: ask(client, combinations_of(Bundle(bundle), queries, seed, rare=rare))
            for kind, rare in ((f"at least {MANY} products", False), ("fewer products, of those there are", True))
        }
    table = Table("setting", *kinds, title=f"{bundle}, seed {seed}")
    for setting in next(iter(kinds.values())).shares:
        table.add_row(setting, *(f"{asked.mean(setting):.3f}" for asked in kinds.values()))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
