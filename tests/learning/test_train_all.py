"""The whole loop at toy size: from a simulated store to a bundle and its report, also when it is interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.bundle_parts import verify_bundle
from models.bundles.build import Recipe
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.bundles.sources import catalogue_source
from models.evaluation.gate import METRICS, Gate
from models.evaluation.simple_searches import CLICKED, POPULAR, WORDS
from models.events.errors import LogError
from models.index.tuner import IndexTarget
from models.needs.matrix import STAGES
from models.query_types.bundle_part import TYPES_PART
from models.ranking.bundle_part import RANKER_PART
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.sample_store import CATALOGUE, CURRENCY, EVENTS, SAMPLE_COLUMNS, STOREFRONTS, write_sample_log
from models.train_all import LoopRecipe, Shop, TrainedAll, train_all
from models.unified.bundle_part import UNIFIED_PART
from serving.cli.main import app
from serving.cli.served_search import ServedSearch

SIMPLE_ROWS = [POPULAR, CLICKED, WORDS]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    store = tmp_path_factory.mktemp("store")
    write_sample_log(store, 1000, 200, 40_000, 0, lambda *_: None)
    source = catalogue_source(
        store / CATALOGUE, {}, tuple(SAMPLE_COLUMNS.text), tuple(SAMPLE_COLUMNS.attributes), CURRENCY
    )
    bundle = Recipe(name="shop", currency=CURRENCY, index=IndexTarget(latency_ms=100))
    return Shop(source, (store / EVENTS, store / STOREFRONTS), bundle, simulated=True)


class Stages:
    """Which stages were at work, in their order; the first word of a stage's progress is its name."""

    def __init__(self, *, die_at: str = "") -> None:
        self.names: list[str] = []
        self._die_at = die_at

    def __call__(self, what: str, *_: int | None) -> None:
        stage = what.partition(":")[0]
        if stage in STAGES and stage not in self.names:
            self.names.append(stage)
        if self._die_at and what.startswith(self._die_at):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loop") / "out"


@pytest.fixture(scope="module")
def trained(shop: Shop, tiny_loop: LoopRecipe, out: Path) -> TrainedAll:
    """Interrupted in the teacher's training and then before the report, and given again."""
    for die_at, worked in (
        ("teacher: calibrate", ["text-encoder", "unified", "types", "teacher"]),
        ("report", ["teacher", "ranker", "report"]),
    ):
        dying = Stages(die_at=die_at)
        with pytest.raises(KeyboardInterrupt):
            train_all(shop, tiny_loop, out, dying)
        assert dying.names == worked
        assert not (out / "bundle").exists()
    last = Stages()
    found = train_all(shop, tiny_loop, out, last, command="aisle train all", served=ServedSearch)
    assert last.names == ["report"]
    return found


def test_a_log_becomes_a_bundle_with_all_parts(trained: TrainedAll, out: Path) -> None:
    bundle = Bundle(out / "bundle")
    verify_bundle(bundle)
    assert UNIFIED_PART.is_in(bundle)
    assert TYPES_PART.is_in(bundle)
    assert RANKER_PART.is_in(bundle)
    assert TEACHER_PART.is_in(bundle)
    assert bundle.manifest.version == trained.version
    assert bundle.manifest.ranker["teacher"]["base"] == "text-encoder"
    assert set(trained.seconds) == set(STAGES)
    assert (out / "work" / "text-encoder" / "model.safetensors").exists()


def test_the_report_compares_and_calls_it_simulated(trained: TrainedAll, out: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    assert report["facts"]["data"]["before"] == "none"
    titles = [section["title"] for section in report["sections"]]
    searched = [name for name, _ in report["sections"][0]["tables"][0]["rows"]]
    assert searched == ["new: vectors alone", "new: vectors, ranked", *SIMPLE_ROWS, "new: as served"]
    figures = report["figures"]
    assert set(figures) == set(METRICS)
    assert figures["search.recall@10"]["value"] == report["sections"][0]["tables"][0]["rows"][-1][1][0]["value"]
    assert titles == [
        "Search",
        "Reranking of logged pages",
        "By kind of search",
        "Product types of queries",
        "Size and training time",
        "What was trained",
    ]
    rows = dict(report["sections"][1]["tables"][0]["rows"])
    assert {"new: as shown", "new: retrieval", "new: ranker, blend", "new: teacher, blend"} <= set(rows)
    assert all(0 < cell["value"] < 1 for cells in rows.values() for cell in cells)
    (gain,) = report["sections"][1]["tables"][1]["rows"]
    teacher, ranker = rows["new: teacher, blend"][2], rows["new: ranker, blend"][2]
    assert gain[0] == "new: teacher minus ranker, blend"
    assert gain[1][2]["value"] == pytest.approx(teacher["value"] - ranker["value"])
    page = trained.report.read_text()
    assert "(simulated)" in page
    assert page.count("<svg") == 2


def test_nothing_is_done_twice(trained: TrainedAll, shop: Shop, tiny_loop: LoopRecipe, out: Path) -> None:
    before = (out / "report.json").read_text()
    stages = Stages()
    again = train_all(shop, tiny_loop, out, stages)
    assert stages.names == []
    assert again.version == trained.version
    assert (out / "report.json").read_text() == before


def test_another_ranker_is_compared_with_the_one_before(
    trained: TrainedAll, shop: Shop, tiny_loop: LoopRecipe, out: Path
) -> None:
    stages = Stages()
    new = train_all(shop, replace(tiny_loop, ranker=replace(tiny_loop.ranker, epochs=3)), out, stages)
    assert stages.names == ["ranker", "report"]
    assert new.version != trained.version
    report = json.loads((out / "report.json").read_text())
    assert trained.version in report["facts"]["data"]["before"]
    assert report["facts"]["notes"] == []
    differences = report["sections"][1]["tables"][1]["rows"]
    assert [name for name, _ in differences] == [
        "retrieval: new minus before",
        "ranker, its task: new minus before",
        "ranker, blend: new minus before",
        "new: teacher minus ranker, blend",
    ]
    assert differences[0][1][0]["value"] == 0


def test_a_bundle_that_misses_a_condition_replaces_none(
    trained: TrainedAll, shop: Shop, tiny_loop: LoopRecipe, out: Path, silent: Callable[[str, int, int | None], None]
) -> None:
    standing = Bundle(out / "bundle").manifest.version
    other = replace(tiny_loop, ranker=replace(tiny_loop.ranker, epochs=4))
    held = train_all(shop, other, out, silent, gate=Gate.parse(["search.recall@10=1"]))
    assert len(held.missed) == 1
    assert Bundle(out / "bundle").manifest.version == standing != held.version
    assert Bundle(held.bundle).manifest.version == held.version
    assert held.bundle.is_relative_to(out / "work")
    assert not train_all(shop, other, out, silent, gate=Gate.parse(["search.recall@10=0"])).missed
    assert Bundle(out / "bundle").manifest.version == held.version


def test_a_command_trains_the_ranker_of_a_bundle(
    trained: TrainedAll, shop: Shop, tiny_base: Path, out: Path, tmp_path: Path
) -> None:
    def command(*options: object) -> str:
        stated = ("--bundle", out / "work" / "types", "--store", shop.logs[0].parent, "--out", tmp_path / "ranked")
        told = CliRunner().invoke(app, ["train", "ranker", *map(str, (*stated, *options))], env={"COLUMNS": "300"})
        assert told.exit_code == 0, told.output
        return " ".join(told.stdout.split())

    told = command("--teacher", "--teacher-base", tiny_base)
    assert "soft labels of a teacher" in told
    assert "pages of clicks without impressions" in told
    assert "calibration error on held-out pages: click 0." in told
    assert f"serve it with: aisle serve --bundle {tmp_path / 'ranked'}" in told
    bundle = Bundle(tmp_path / "ranked")
    verify_bundle(bundle)
    assert TEACHER_PART.is_in(bundle)
    assert bundle.manifest.ranker["teacher"]["recipe"] == "starter"
    told = command("--bundle", tmp_path / "ranked", "--force")
    assert "the teacher of the bundle is left out" in told
    assert not TEACHER_PART.is_in(Bundle(tmp_path / "ranked"))
    assert [path.name for path in tmp_path.iterdir()] == ["ranked"]


def test_what_cannot_be_compared_or_learned_from_is_said(
    shop: Shop, tiny_loop: LoopRecipe, tmp_path: Path, silent: Callable[[str, int, int | None], None]
) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        train_all(shop, tiny_loop, tmp_path / "out", silent, before=tmp_path)
    (tmp_path / "log.parquet").write_bytes(b"no log")
    with pytest.raises(LogError, match=r"log\.parquet is not a log in Parquet"):
        train_all(replace(shop, logs=(tmp_path / "log.parquet",)), tiny_loop, tmp_path / "out", silent)
    with pytest.raises(ValueError, match=r"train_share 0\.96 leaves no events for the ranker"):
        replace(tiny_loop, unified=replace(tiny_loop.unified, train_share=0.96))
