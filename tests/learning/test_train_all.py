"""The whole loop at toy size: from a simulated store to a bundle and its report, also when it is interrupted."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
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
from models.events.event_log import open_log
from models.index.tuner import IndexTarget
from models.needs.matrix import REFIT, STAGES
from models.query_types.bundle_part import TYPES_PART
from models.ranking.bundle_part import RANKER_PART
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.sample_store import CATALOGUE, CURRENCY, EVENTS, SAMPLE_COLUMNS, STOREFRONTS, write_sample_log
from models.train_all import (
    LoopRecipe,
    Shop,
    TrainedAll,
    check_before,
    look,
    look_at_update,
    train_all,
    trained_half_life,
    update_all,
)
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import read_spec
from serving.cli.main import app
from serving.cli.served_search import ServedSearch

SIMPLE_ROWS = [POPULAR, CLICKED, WORDS]

OLD_PRODUCTS, OLD_EVENTS = 0.98, 0.9  # of the grown shop's


def shop_of(store: Path) -> Shop:
    source = catalogue_source(
        store / CATALOGUE, {}, tuple(SAMPLE_COLUMNS.text), tuple(SAMPLE_COLUMNS.attributes), CURRENCY
    )
    bundle = Recipe(name="shop", currency=CURRENCY, index=IndexTarget(latency_ms=100))
    return Shop(source, (store / EVENTS, store / STOREFRONTS), bundle, simulated=True)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop some days later, with new products."""
    store = tmp_path_factory.mktemp("grown")
    write_sample_log(store, 1000, 200, 40_000, 0, lambda *_: None)
    return shop_of(store)


@pytest.fixture(scope="module")
def shop(grown: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    later, store = grown.logs[0].parent, tmp_path_factory.mktemp("store")
    products = pq.read_table(later / CATALOGUE)
    pq.write_table(products.slice(0, int(OLD_PRODUCTS * len(products))), store / CATALOGUE)
    events = pq.read_table(later / EVENTS)
    until = events["time"][int(OLD_EVENTS * len(events))]
    for name in (EVENTS, STOREFRONTS):
        log = pq.read_table(later / name)
        pq.write_table(log.filter(pc.less(log["time"], until)), store / name)
    return shop_of(store)


class Stages:
    """Which stages were at work, in their order; the first word of a stage's progress is its name."""

    def __init__(self, *, die_at: str = "") -> None:
        self.names: list[str] = []
        self._die_at = die_at

    def __call__(self, what: str, *_: int | None) -> None:
        stage = what.partition(":")[0]
        stage = REFIT if stage.startswith(f"{REFIT}-") else stage  # it has several steps
        if stage in STAGES and stage not in self.names:
            self.names.append(stage)
        if self._die_at and what.startswith(self._die_at):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loop") / "out"


@pytest.fixture(scope="module")
def trained(shop: Shop, tiny_loop: LoopRecipe, out: Path) -> TrainedAll:
    """Interrupted in the teacher's training, before the report and in the refit, and given again."""
    for die_at, worked in (
        ("teacher: calibrate", ["text-encoder", "unified", "types", "teacher"]),
        ("report", ["teacher", "ranker", "report"]),
        ("refit-types", ["report", "refit"]),
    ):
        dying = Stages(die_at=die_at)
        with pytest.raises(KeyboardInterrupt):
            train_all(shop, tiny_loop, out, dying, served=ServedSearch)
        assert dying.names == worked
        assert not (out / "bundle").exists()
    last = Stages()
    found = train_all(shop, tiny_loop, out, last, command="aisle train all", served=ServedSearch)
    assert last.names == ["refit"]
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


def test_the_shipped_bundle_knows_the_whole_log_and_the_measured_one_does_not(trained: TrainedAll, shop: Shop) -> None:
    shipped, measured = Bundle(trained.bundle), Bundle(trained.measured)
    log = open_log(shop.logs)
    end_ms, report_ms = int(log.time_ms[-1]) + 1, first_of_report(shop)
    assert known_until(shipped) == {"retrieval": end_ms, "clicks": end_ms}
    assert known_until(measured)["retrieval"] < known_until(measured)["clicks"] == report_ms
    assert shipped.manifest.ranker["last_page_ms"] == measured.manifest.ranker["last_page_ms"] < report_ms
    assert shipped.manifest.catalogue["measured"] == measured.manifest.version
    told = {one["stage"]: one["outcome"] for one in shipped.manifest.catalogue["training"]}
    assert told[REFIT] != "left out"
    assert REFIT not in {one["stage"] for one in measured.manifest.catalogue["training"]}
    (report_note, *_) = json.loads(trained.report.with_suffix(".json").read_text())["facts"]["notes"]
    assert "figures of the bundle in 'measured'" in report_note


def first_of_report(shop: Shop) -> int:
    log = open_log(shop.logs)
    return int(log.time_ms[int(0.95 * len(log))])


def known_until(bundle: Bundle) -> dict[str, int]:
    """The times from which on a bundle's retrieval, and its click memory, know nothing."""
    spec = read_spec(UNIFIED_PART.open(bundle))
    return {"retrieval": spec["until_ms"], "clicks": bundle.manifest.ranker["clicks_until_ms"]}


def test_without_a_refit_the_measured_bundle_is_shipped(
    trained: TrainedAll, shop: Shop, tiny_loop: LoopRecipe, out: Path, tmp_path: Path
) -> None:
    kept = Path(shutil.copytree(out, tmp_path / "out"))
    stages = Stages()
    looked = look(shop, tiny_loop, stages, refit=False)
    found = train_all(shop, tiny_loop, kept, stages, looked=looked)
    assert stages.names == ["report"]  # it says no more that another bundle is shipped
    assert Bundle(kept / "bundle").manifest.version == Bundle(kept / "measured").manifest.version == found.version
    assert found.version == Bundle(trained.measured).manifest.version
    assert REFIT not in found.seconds


def test_a_refitted_bundle_is_compared_by_the_measured_one_next_to_it(trained: TrainedAll, tmp_path: Path) -> None:
    named = check_before(trained.bundle, tmp_path / "other")
    assert named is not None
    assert named.manifest.version == Bundle(trained.measured).manifest.version
    alone = Path(shutil.copytree(trained.bundle, tmp_path / "alone"))
    kept = check_before(alone, tmp_path / "other")
    assert kept is not None
    assert kept.manifest.version == trained.version


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
    # Parts that are too small for a mean are named: searches of other locales, of which no page is logged, are measured.
    assert {"en-US"} < set(re.findall(r"locale ([a-z]{2}-[A-Z]{2}) \(\d+\)", page))
    assert page.count("<svg") == 2


def test_an_update_learns_new_events_and_products_and_keeps_what_is_the_same(
    trained: TrainedAll, grown: Shop, tiny_loop: LoopRecipe, out: Path, tmp_path: Path
) -> None:
    kept = Path(shutil.copytree(out, tmp_path / "out"))
    before, stages = Bundle(kept / "bundle"), Stages()
    inodes = {name: (kept / "bundle" / name).stat().st_ino for name in before.manifest.files}
    looked = look_at_update(grown, tiny_loop, kept, stages)
    assert looked.events > 4_000
    assert not looked.same_catalogue
    assert [outcome for _, outcome, _ in looked.rows()] == [
        "updated",
        "trained again",
        "kept",
        "kept",
        "of the bundle before",
    ]
    dying = Stages(die_at="update-types")
    with pytest.raises(KeyboardInterrupt):
        update_all(grown, tiny_loop, kept, dying, looked)
    assert Bundle(kept / "bundle").manifest.version == before.manifest.version
    found = update_all(grown, tiny_loop, kept, stages, looked)
    after = Bundle(found.bundle)
    verify_bundle(after)
    assert after.manifest.products == 1000 > before.manifest.products
    end_ms = int(open_log(grown.logs).time_ms[-1]) + 1
    assert known_until(after) == {"retrieval": end_ms, "clicks": end_ms}
    same = {name for name, file in after.manifest.files.items() if before.manifest.files.get(name) == file}
    assert "unified/vocabulary.json" in same
    assert {name for name in before.manifest.files if name.startswith("teacher/")} <= same
    assert all((kept / "bundle" / name).stat().st_ino == inodes[name] for name in same)
    report = json.loads((kept / "report.json").read_text())
    assert "bundle before the update" in report["facts"]["notes"][0]
    assert before.manifest.version in report["facts"]["data"]["bundle"]
    assert Bundle(trained.measured).manifest.version in report["facts"]["data"]["before"]
    assert not [note for note in report["facts"]["notes"] if "too high" in note]
    again = look_at_update(grown, tiny_loop, kept, stages)
    assert again.nothing


def test_what_cannot_be_updated_is_refused_with_what_differs(
    trained: TrainedAll, shop: Shop, grown: Shop, tiny_loop: LoopRecipe, out: Path, tmp_path: Path
) -> None:
    def look_at(shop: Shop, recipe: LoopRecipe = tiny_loop, out: Path = out) -> object:
        return look_at_update(shop, recipe, out, Stages())

    with pytest.raises(BundleError, match=r"nothing to update; train in full: the same command without --update"):
        look_at(grown, out=tmp_path)
    other = replace(tiny_loop, unified=replace(tiny_loop.unified, epochs=3))
    with pytest.raises(BundleError, match=r"recipe tiny has changed since its training: epochs was 0\.5 and is 3"):
        look_at(grown, other)
    other = replace(tiny_loop, unified=replace(tiny_loop.unified, half_life_days=10))
    with pytest.raises(BundleError, match=r"half_life_days was 0\.0 and is 10; give the options of its training"):
        look_at(grown, other)
    assert trained_half_life(out, None) == 0.0
    other = replace(tiny_loop, unified=replace(tiny_loop.unified, name="small"))
    with pytest.raises(BundleError, match=r"trained by recipe tiny, not small; name its recipe with --recipe"):
        look_at(grown, other)
    with pytest.raises(BundleError, match=r"its currency are USD, and now EUR; give the options of its training"):
        look_at(replace(grown, bundle=replace(grown.bundle, currency="EUR")))
    log = pq.read_table(grown.logs[0])
    pq.write_table(log.slice(int(OLD_EVENTS * len(log))), tmp_path / "day.parquet")
    with pytest.raises(LogError, match=r"the log has 0 events from before .*; give the log with what came before"):
        look_at(replace(grown, logs=(tmp_path / "day.parquet",)))
    new = pq.read_table(grown.logs[1])
    locale = new.schema.get_field_index("locale")
    new = new.set_column(locale, new.schema.field(locale), pa.array(["is-IS"] * len(new)))
    pq.write_table(new, tmp_path / "iceland.parquet")
    with pytest.raises(LogError, match=r"events in is-IS, which the bundle's retrieval has not learned; train in full"):
        look_at(replace(grown, logs=(grown.logs[0], tmp_path / "iceland.parquet")))
    assert look_at(shop).nothing  # type: ignore[attr-defined]


def test_nothing_is_done_twice(trained: TrainedAll, shop: Shop, tiny_loop: LoopRecipe, out: Path) -> None:
    before = (out / "report.json").read_text()
    stages = Stages()
    again = train_all(shop, tiny_loop, out, stages, served=ServedSearch)
    assert stages.names == []
    assert again.version == trained.version
    assert (out / "report.json").read_text() == before


def test_another_ranker_is_compared_with_the_one_before(
    trained: TrainedAll, shop: Shop, tiny_loop: LoopRecipe, out: Path
) -> None:
    stages, measured = Stages(), Bundle(trained.measured).manifest.version
    new = train_all(shop, replace(tiny_loop, ranker=replace(tiny_loop.ranker, epochs=3)), out, stages)
    assert stages.names == ["ranker", "report", "refit"]
    assert new.version != trained.version
    report = json.loads((out / "report.json").read_text())
    assert measured in report["facts"]["data"]["before"]
    assert not [note for note in report["facts"]["notes"] if "too high" in note]
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
    standing = [Bundle(out / name).manifest.version for name in ("bundle", "measured")]
    other = replace(tiny_loop, ranker=replace(tiny_loop.ranker, epochs=4))
    held = train_all(shop, other, out, silent, gate=Gate.parse(["search.recall@10=1"]))
    assert len(held.missed) == 1
    assert [Bundle(out / name).manifest.version for name in ("bundle", "measured")] == standing
    assert held.version not in standing
    assert Bundle(held.bundle).manifest.version == held.version
    assert held.bundle.is_relative_to(out / "work")
    assert not train_all(shop, other, out, silent, gate=Gate.parse(["search.recall@10=0"])).missed
    assert Bundle(out / "measured").manifest.version == held.version
    assert Bundle(out / "bundle").manifest.version not in standing


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
