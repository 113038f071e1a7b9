"""What a shop lacks is said before training, the rest is trained, and nothing that could be known at the start fails later."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from models.bundle_parts import verify_bundle
from models.bundles.build import Recipe
from models.bundles.bundle import Bundle
from models.bundles.source import Source
from models.index.tuner import IndexTarget
from models.needs.matrix import RANKER, REPORT, STAGES, TEACHER, TEXT, TYPES, UNIFIED
from models.products.product import Product
from models.query_types.bundle_part import TYPES_PART
from models.ranking.bundle_part import RANKER_PART
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.train_all import Look, LoopRecipe, Shop, TrainedAll, look, train_all
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import read_spec
from models.unified.shopping_log import LogError
from serving.cli.main import app

if TYPE_CHECKING:
    from tests.learning.conftest import Planted

DAYS_MS = 4 * 86_400_000
LEFT_OUT, LESS, TRAINED = "left out", "trained with less", "trained"

Lacking = Callable[[pa.Table], pa.Table]


def where(table: pa.Table, kind: str, *, keep: bool) -> pa.Table:
    matches = pc.equal(table["kind"].cast(pa.string()), kind)
    return table.filter(matches if keep else pc.invert(matches))


def put(table: pa.Table, name: str, values: object) -> pa.Table:
    column = pa.array(values, table.schema.field(name).type)
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)


def emptied(table: pa.Table, name: str) -> pa.Table:
    return put(table, name, [""] * table.num_rows)


def clicks_alone(table: pa.Table) -> pa.Table:
    return where(table, "impression", keep=False)


def views_alone(table: pa.Table) -> pa.Table:
    """Sessions of several views without any query, as a shop without search logs them."""
    clicked = where(table, "click", keep=True)
    times = np.asarray(clicked["time"].cast(pa.int64()))
    sessions = [
        f"{name} {time // DAYS_MS}" for name, time in zip(clicked["shopper_id"].to_pylist(), times, strict=True)
    ]
    return emptied(put(clicked, "session_id", sessions), "query")


def several_locales(table: pa.Table) -> pa.Table:
    return put(table, "locale", [("en-US", "en-GB")[at // 4 % 2] for at in range(table.num_rows)])


def some_unknown(table: pa.Table) -> pa.Table:
    ids = [f"OTHER-{name}" if at % 10 == 0 else name for at, name in enumerate(table["product_id"].to_pylist())]
    return put(table, "product_id", ids)


def spelt(table: pa.Table) -> pa.Table:
    searches = [int(name.partition(" ")[2]) for name in table["session_id"].to_pylist()]
    words = ("", "nice ", "cheap ", "new ", "good ")
    queries = [words[at % 5] + query for at, query in zip(searches, table["query"].to_pylist(), strict=True)]
    return put(table, "query", queries)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the matrix: how the planted shop gets it, and what becomes of it."""

    log: Lacking = lambda table: table
    product: Callable[[Product], Product] = lambda product: product
    lacks: str
    outcomes: dict[str, str]


ROWS = {
    "clicks alone": Row(
        log=clicks_alone, lacks="impressions", outcomes={TEACHER: LEFT_OUT, RANKER: LESS, REPORT: LESS, TYPES: LESS}
    ),
    "views alone": Row(log=views_alone, lacks="queries", outcomes={UNIFIED: LESS, TEACHER: LEFT_OUT, RANKER: LESS}),
    "empty locale": Row(log=lambda log: emptied(log, "locale"), lacks="locales", outcomes={TYPES: LESS}),
    "no shoppers": Row(log=lambda log: emptied(log, "shopper_id"), lacks="shoppers", outcomes={UNIFIED: LESS}),
    "empty sessions": Row(log=lambda log: emptied(log, "session_id"), lacks="sessions", outcomes={UNIFIED: LESS}),
    "no categories": Row(
        product=lambda product: replace(product, category=""),
        lacks="queries of known types",
        outcomes={TYPES: LEFT_OUT, RANKER: LESS},
    ),
    "no prices": Row(
        product=lambda product: replace(product, price_minor=None), lacks="prices", outcomes={UNIFIED: LESS}
    ),
    "no purchases": Row(
        log=lambda log: where(log, "purchase", keep=False), lacks="purchases", outcomes={RANKER: LESS, REPORT: LESS}
    ),
    "unknown products": Row(log=some_unknown, lacks="products of the log", outcomes=dict.fromkeys(STAGES, LESS)),
}


@pytest.fixture(scope="module")
def events(plant: Callable[..., Planted]) -> pa.Table:
    """Of the planted shop, whose eight queries each get five spellings: a classifier needs more than eight."""
    return spelt(plant(150, 16).events)


@pytest.fixture
def make_shop(planted: Planted, tmp_path: Path) -> Callable[..., Shop]:
    """A shop of the planted products and of any logs."""

    def make(*logs: pa.Table, product: Callable[[Product], Product] = lambda product: product) -> Shop:
        paths = []
        for at, log in enumerate(logs):
            paths.append(tmp_path / f"log{at}.parquet")
            pq.write_table(log, paths[-1])
        products = [product(one) for one in planted.table.products()]
        source = Source(
            name="planted",
            fingerprint="1",
            products=lambda: iter(products),
            report=dict,
            attributes=(),
            text_attributes=(),
        )
        return Shop(source, tuple(paths), Recipe(name="shop", index=IndexTarget(latency_ms=100)))

    return make


def outcomes_of(looked: Look) -> dict[str, str]:
    return {one.stage: str(one.outcome) for one in looked.plan.stages}


@pytest.mark.parametrize("name", ROWS)
def test_what_a_shop_lacks_is_said_and_the_rest_is_trained(
    name: str,
    events: pa.Table,
    make_shop: Callable[..., Shop],
    tiny_loop: LoopRecipe,
    tmp_path: Path,
    silent: Callable[[str, int, int | None], None],
) -> None:
    row = ROWS[name]
    shop = make_shop(row.log(events), product=row.product)
    looked = look(shop, tiny_loop, silent)
    found = outcomes_of(looked)
    assert row.outcomes.items() <= found.items()
    assert row.lacks in {lack.need.name for lack in looked.plan.lacks}
    trained = train_all(shop, tiny_loop, tmp_path / "out", silent, looked=looked)
    check_bundle(trained, found)


def check_bundle(trained: TrainedAll, outcomes: dict[str, str]) -> None:
    """The bundle has the parts of the stages that were trained, says so, and can be served."""
    bundle = Bundle(trained.bundle)
    verify_bundle(bundle)
    parts = {UNIFIED: UNIFIED_PART, TYPES: TYPES_PART, TEACHER: TEACHER_PART, RANKER: RANKER_PART}
    for stage, part in parts.items():
        assert part.is_in(bundle) == (outcomes[stage] != LEFT_OUT), stage
    told = {one["stage"]: one["outcome"] for one in bundle.manifest.catalogue["training"]}
    assert told == outcomes
    assert set(trained.seconds) == {stage for stage, outcome in outcomes.items() if outcome != LEFT_OUT}
    assert trained.report is not None
    report = json.loads(trained.report.with_suffix(".json").read_text())
    rows = next(section for section in report["sections"] if section["title"] == "What was trained")["tables"][0][
        "rows"
    ]
    assert {stage: cells[0] for stage, cells in rows} == outcomes
    recall = report["sections"][0]["tables"][0]["rows"][0][1][0]["value"]
    assert 0 <= recall <= 1


def test_a_whole_shop_lacks_nothing_but_size(
    events: pa.Table,
    make_shop: Callable[..., Shop],
    tiny_loop: LoopRecipe,
    silent: Callable[[str, int, int | None], None],
) -> None:
    looked = look(make_shop(events), tiny_loop, silent)
    assert LEFT_OUT not in outcomes_of(looked).values()
    assert [lack.need.name for lack in looked.plan.lacks] == ["many clicks", "text", "carts"]


def test_several_logs_and_locales_are_trained_together(
    events: pa.Table,
    plant: Callable[..., Planted],
    make_shop: Callable[..., Shop],
    tiny_loop: LoopRecipe,
    tmp_path: Path,
    silent: Callable[[str, int, int | None], None],
) -> None:
    others = clicks_alone(plant(30, 10, seed=1).events)
    others = put(
        put(others, "locale", ["de-DE"] * len(others)), "id", [f"de-{name}" for name in others["id"].to_pylist()]
    )
    shop = make_shop(several_locales(events), others)
    looked = look(shop, tiny_loop, silent)
    assert set(looked.seen.facts.locales) == {"en-US", "en-GB", "de-DE"}
    trained = train_all(shop, tiny_loop, tmp_path / "out", silent, looked=looked)
    check_bundle(trained, outcomes_of(looked))
    assert set(Bundle(trained.bundle).manifest.locales) == {"en-US", "en-GB", "de-DE"}


def test_a_locale_that_the_log_lacks_is_the_first_that_is_served(
    events: pa.Table, make_shop: Callable[..., Shop], tiny_loop: LoopRecipe, tmp_path: Path, silent: Callable[..., None]
) -> None:
    shop = make_shop(emptied(events, "locale"))
    shop = replace(shop, bundle=replace(shop.bundle, locales=("sv-SE",)))
    bundle = Bundle(train_all(shop, tiny_loop, tmp_path / "out", silent).bundle)
    assert read_spec(UNIFIED_PART.open(bundle))["locales"] == ["sv-SE"]
    assert bundle.manifest.query_types["locales"] == ["sv-SE"]


def test_too_few_clicks_are_refused_before_anything_is_written(
    events: pa.Table, make_shop: Callable[..., Shop], tiny_loop: LoopRecipe, tmp_path: Path, silent: Callable[..., None]
) -> None:
    with pytest.raises(LogError, match=r"unified cannot be trained: .*: 34 pairs .*, 100 are needed"):
        train_all(make_shop(events.slice(0, 150)), tiny_loop, tmp_path / "out", silent)
    unknown = put(events, "product_id", [f"OTHER-{name}" for name in events["product_id"].to_pylist()])
    with pytest.raises(LogError, match=r"0 pairs .* ids that are those of the catalogue"):
        train_all(make_shop(unknown), tiny_loop, tmp_path / "out", silent)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_table_and_stops(
    events: pa.Table, make_shop: Callable[..., Shop], planted: Planted, tmp_path: Path
) -> None:
    (log,) = make_shop(clicks_alone(events)).logs
    catalogue = tmp_path / "products.jsonl"
    catalogue.write_text(
        "\n".join(
            json.dumps({"id": one.id, "title": one.title, "brand": one.brand}) for one in planted.table.products()
        )
    )
    stated = ("--catalogue", catalogue, "--events", log, "--out", tmp_path / "out", "--check")
    told = CliRunner().invoke(app, ["train", "all", *map(str, stated)], env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    lines = {line.split("│")[1].strip(): line for line in told.stdout.splitlines() if line.count("│") > 3}
    assert "left out" in lines[TEACHER]
    assert "left out" in lines[TYPES]
    assert "trained with less" in lines[RANKER]
    assert TEXT in lines
    assert "impressions: nobody knows what was shown" in told.stdout
    assert not (tmp_path / "out").exists()
