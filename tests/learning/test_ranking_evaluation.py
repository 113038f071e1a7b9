"""The whole command at toy size: a simulated store, a unified model of seconds, and both pages of the report."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import Bundle
from models.bundles.sources import catalogue_source
from models.events.errors import LogError
from models.ranking.recipe import RankerRecipe
from models.sample_store import EVENTS, SAMPLE_COLUMNS, STOREFRONTS, write_sample_log
from models.studies.ranking.evaluate_ranking import RankingPlan, evaluate_ranking
from models.studies.ranking.learned import MULTI_TASK
from models.studies.ranking.pages import PageSplit, read_pages
from models.studies.ranking.sections import ORACLE
from models.unified.embed_products import UnifiedEmbedding
from models.unified.recipe import UnifiedRecipe
from serving.cli.main import app

TINY = RankerRecipe("tiny", experts=2, expert_dim=8, tower_dim=4, learning_rate=5e-3, epochs=3, batch_pages=32)
PLAN = RankingPlan(TINY, teacher=None, max_test=400, max_searches=200, shares=(0.1, 1.0), draws=1, frozen_pages=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write_sample_log(folder, 1000, 150, 60_000, 0, lambda *_: None)
    return folder


@pytest.fixture(scope="module")
def bundle(store: Path, tiny_recipe: UnifiedRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    source = catalogue_source(
        store / "catalogue.parquet", {}, SAMPLE_COLUMNS.text, SAMPLE_COLUMNS.attributes, currency="USD"
    )
    embedding = UnifiedEmbedding((store / "events.parquet",), replace(tiny_recipe, max_steps=40))
    build_bundle(source, Recipe(name="toy", locales=("en-US",)), folder, lambda *_: None, embedding=embedding)
    return folder


@pytest.fixture(scope="module")
def report(bundle: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    return evaluate_ranking(Bundle(bundle), logs(store), out, lambda *_: None, truth_of=store, plan=PLAN).parent


def logs(store: Path) -> list[Path]:
    return [store / EVENTS, store / STOREFRONTS]


def tables(folder: Path) -> dict[str, dict[str, Any]]:
    """By caption."""
    values = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {table["caption"]: table for section in values["sections"] for table in section["tables"]}


def test_the_first_page_says_what_the_ranker_is_worth_in_plain_words(report: Path) -> None:
    values = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert values["finding"].startswith("Ranking the 200 candidates of a search")
    assert [section["title"] for section in values["sections"]] == [
        "Search with and without the ranker",
        "By segment",
        "Goals",
    ]
    found = tables(report)
    orders = dict(found["All searches"]["rows"])
    assert list(orders) == ["retrieval alone", "retrieval + ranking", "same candidates in the oracle's order"]
    best, alone = (orders[name][2]["value"] for name in ("same candidates in the oracle's order", "retrieval alone"))
    assert best > alone > 0
    goals = found["Goals"]["rows"]
    assert {cells[2] for _, cells in goals} <= {"yes", "no"}
    assert sum("calibration error" in name for name, _ in goals) == 6
    assert sum("10% of the purchase labels" in name for name, _ in goals) == 10
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "Simulated engagement" in page
    assert "details/report.html" in page


def test_the_details_hold_every_ranker_and_the_oracle_leads(report: Path) -> None:
    found = tables(report / "details")
    for task in ("click", "cart", "purchase"):
        rows = found[f"{task}: means over pages and rows"]["rows"]
        assert rows[0][0] == ORACLE
        names = {name for name, _ in rows}
        assert {MULTI_TASK, "retrieval order", "BM25", "popularity", "LambdaMART, graded", "shared bottom"} <= names
        told = dict(rows)
        assert told[MULTI_TASK][4]["value"] > 0  # log-loss
        assert told["BM25"][4] is None
    whole = dict(found["Whole page; gains: click 1, cart 2, purchase 3"]["rows"])
    assert whole[ORACLE][1]["value"] == pytest.approx(1)
    assert 0.5 < whole[MULTI_TASK][1]["value"] < 1
    assert set(dict(found["NDCG@10, difference from the single-task ranker"]["rows"])) == {
        MULTI_TASK,
        "MMoE, no transfer",
        "shared bottom",
        "ESMM-like",
    }
    assert [column.split()[0] for column in found["Purchase NDCG@10"]["columns"]] == ["10%", "100%"]
    assert len(found["Lift by the position in training"]["rows"]) == 3
    missing = dict(found["NDCG, share of the oracle's"]["rows"])
    assert missing["plus all three"][1]["value"] > missing["features only"][1]["value"]


def test_a_second_call_learns_nothing_anew(bundle: Path, store: Path, report: Path) -> None:
    before = {name: (report / name / "report.json").read_text(encoding="utf-8") for name in (".", "details")}
    told: set[str] = set()
    evaluate_ranking(Bundle(bundle), logs(store), report, lambda what, *_: told.add(what), truth_of=store, plan=PLAN)
    assert not {what for what in told if what.startswith(("train", "LambdaMART", "compute features", "BM25"))}
    for name, text in before.items():
        again = json.loads((report / name / "report.json").read_text(encoding="utf-8"))
        assert again["sections"] == json.loads(text)["sections"]


def test_a_log_without_the_truth_behind_it_is_measured_by_its_clicks(
    bundle: Path, store: Path, report: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    shutil.copytree(report, out)  # with what was trained
    evaluate_ranking(Bundle(bundle), logs(store), out, lambda *_: None, plan=PLAN)
    values = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert not values["facts"]["simulated"]
    assert "left out are the oracles" in values["facts"]["notes"][0]
    assert "oracle" not in values["finding"]
    found, with_truth = tables(out), tables(report)
    assert list(dict(found["All searches"]["rows"])) == ["retrieval alone", "retrieval + ranking"]
    assert found["All searches"]["columns"] == ["Recall@10", "NDCG@10"]
    ranked = dict(found["All searches"]["rows"])["retrieval + ranking"]
    assert ranked == dict(with_truth["All searches"]["rows"])["retrieval + ranking"][:2]
    assert not any("oracle" in name for name, _ in found["Goals"]["rows"])
    details = tables(out / "details")
    assert "Lift by the position in training" not in details
    assert ORACLE not in dict(details["purchase: means over pages and rows"]["rows"])
    assert "(simulated)" not in (out / "report.html").read_text(encoding="utf-8")


def test_the_command_refuses_what_there_is_not(bundle: Path, store: Path, tmp_path: Path) -> None:
    given = ["evaluate", "ranking", "--bundle", str(bundle), "--store", str(store), "--out", str(tmp_path / "report")]
    for more, said in (
        (("--recipe", "huge"), "there is no recipe 'huge'"),
        (("--teacher", "huge"), "there is no teacher 'huge'; there are toy, starter, small, full"),
    ):
        told = CliRunner().invoke(app, [*given, *more])
        assert told.exit_code == 1
        assert said in " ".join(told.stderr.split())


def test_a_log_without_purchases_is_refused(bundle: Path, store: Path, tmp_path: Path) -> None:
    events = pq.read_table(store / "events.parquet")
    kept = pc.not_equal(events["kind"].cast(pa.string()), "purchase")
    pq.write_table(events.filter(kept), tmp_path / "events.parquet")
    with pytest.raises(LogError, match="no purchase follows"):
        evaluate_ranking(Bundle(bundle), [tmp_path / "events.parquet"], tmp_path / "out", lambda *_: None, plan=PLAN)


def test_a_log_that_ends_too_early_is_refused(bundle: Path, store: Path, tmp_path: Path) -> None:
    for name in ("catalogue.parquet", "storefronts.parquet", "truth.json"):
        (tmp_path / name).write_bytes((store / name).read_bytes())
    events = pq.read_table(store / "events.parquet")
    pq.write_table(events.slice(0, int(0.8 * len(events)) + 400), tmp_path / "events.parquet")
    told = CliRunner().invoke(
        app,
        ["evaluate", "ranking", "--bundle", str(bundle), "--store", str(tmp_path), "--out", str(tmp_path / "report")],
    )
    assert told.exit_code == 1
    assert "give a longer log" in " ".join(told.stderr.split())


def test_features_are_computed_again_when_a_log_is_added(bundle: Path, store: Path, tmp_path: Path) -> None:
    split = PageSplit(max_train=60, max_test=60)
    for given in (logs(store)[:1], logs(store), logs(store)):
        read_pages(Bundle(bundle), given, split, tmp_path, lambda *_: None)
    assert len(list(tmp_path.glob("features-test-*.npy"))) == 2
