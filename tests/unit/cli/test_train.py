"""What cannot be trained ends the command at once, with one line that says what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from models.bundles.bundle import Bundle
from models.evaluation.gate import METRICS
from models.events.event import EVENT_SCHEMA
from models.needs.season import Season
from models.query_types.add_to_bundle import add_types
from models.query_types.bundle_part import TYPES_PART
from models.query_types.type_model import TypeModel
from models.sample_store import write_sample_log
from serving.cli.main import app
from serving.cli.needs_table import told_half_life


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write_sample_log(folder, 1000, 20, 10_000, 0, lambda *_: None)
    return folder


def refused(*arguments: object) -> str:
    """The one line that a failed command says."""
    told = CliRunner().invoke(app, ["train", *map(str, arguments)])
    assert told.exit_code == 1, told.output
    assert "Traceback" not in told.output
    return " ".join(told.stderr.split())


def test_a_ranker_needs_a_log_and_a_recipe(shop_bundle: Path, store: Path, tmp_path: Path) -> None:
    both = ("ranker", "--bundle", shop_bundle, "--out", tmp_path / "out")
    assert "give either --store" in refused(*both)
    assert "give either --store" in refused(*both, "--store", store, "--events", store / "events.parquet")
    assert "there is no recipe 'huge'; there are starter, small, full" in refused(
        *both, "--store", store, "--recipe", "huge"
    )
    assert "there is no recipe 'huge'; there are starter, small, full" in refused(
        *both, "--store", store, "--teacher", "--teacher-recipe", "huge"
    )
    assert "there is no" in refused(*both, "--events", tmp_path / "nowhere.parquet")


def test_a_device_that_nothing_would_use_or_that_there_is_not_is_refused_before_the_log_is_read(
    shop_bundle: Path, store: Path, tmp_path: Path
) -> None:
    out = ("--store", store, "--out", tmp_path / "out")
    ranker = ("ranker", "--bundle", shop_bundle, *out)
    assert "--device cuda needs --teacher" in refused(*ranker, "--device", "cuda")
    assert "device must be cpu or cuda, not 'tpu'" in refused(*ranker, "--teacher", "--device", "tpu")
    assert "device must be cpu or cuda, not 'tpu'" in refused("all", *out, "--device", "tpu")
    assert not list(tmp_path.iterdir())


def test_a_ranker_needs_the_unified_model(shop_bundle: Path, store: Path, tmp_path: Path) -> None:
    told = refused("ranker", "--bundle", shop_bundle, "--store", store, "--out", tmp_path / "out")
    assert "a ranker needs the unified model, and the bundle has none" in told
    assert "is not a bundle" in refused("ranker", "--bundle", tmp_path, "--store", store, "--out", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_all_needs_a_shop(store: Path, tmp_path: Path) -> None:
    out = ("all", "--out", tmp_path / "out")
    assert "give --catalogue and --events, or --store" in refused(*out)
    assert "there is no recipe 'huge'; there are starter, small, full" in refused(
        *out, "--store", store, "--recipe", "huge"
    )
    assert "holds no catalogue.parquet" in refused(*out, "--store", tmp_path)
    assert "is not a bundle" in refused(*out, "--store", store, "--before", tmp_path)
    (tmp_path / "out" / "bundle").mkdir(parents=True)
    (tmp_path / "out" / "bundle" / "mine.txt").write_text("mine")
    assert "is not a bundle, so --force does not replace it" in refused(*out, "--store", store)


def test_an_update_needs_a_bundle_that_can_learn(shop_bundle: Path, store: Path, tmp_path: Path) -> None:
    out = ("all", "--out", tmp_path / "out", "--store", store, "--update")
    assert "so there is nothing to update; train in full: the same command without --update" in refused(*out)
    assert "has no unified model, which is what learns" in refused(*out, "--before", shop_bundle)
    assert "--no-refit has no meaning with --update" in refused(*out, "--no-refit")
    assert "--fail-below has no meaning with --update" in refused(*out, "--fail-below", "before")
    assert not (tmp_path / "out").exists()


def test_what_is_no_log_or_teaches_nothing_is_refused_before_anything_is_trained(store: Path, tmp_path: Path) -> None:
    lone = Path(shutil.copytree(store, tmp_path / "lone"))
    out = ("all", "--out", tmp_path / "out", "--store", lone)
    log = pq.read_table(store / "events.parquet")
    pq.write_table(log.filter(pc.equal(log["kind"].cast("string"), "impression")), lone / "events.parquet")
    pq.write_table(pq.read_table(store / "storefronts.parquet").slice(0, 1), lone / "storefronts.parquet")
    assert "unified cannot be trained: clicks after a search: 1 pairs" in refused(*out)
    (lone / "events.parquet").write_bytes(b"")
    assert "events.parquet is not a log in Parquet" in refused(*out)
    assert not (tmp_path / "out" / "work" / "text-encoder").exists()


def test_a_locale_is_added_to_the_classifier_that_a_bundle_has(
    shop_bundle: Path, shop_types: TypeModel, tmp_path: Path
) -> None:
    log = tmp_path / "log.parquet"
    searches = [
        (f"{word} {noun}", product)
        for word in ("red", "old", "new", "big", "low", "oak", "dark", "warm", "soft", "plain")
        for noun, product in (("settee", "A-1001"), ("board", "A-1004"))
    ] * 6
    rows = [
        {"id": str(at), "time": at, "shopper_id": "a", "session_id": str(at), "locale": "en-IE", "kind": "click"}
        | {"product_id": product, "query": query}
        for at, (query, product) in enumerate(searches)
    ]
    pq.write_table(pa.Table.from_pylist(rows, EVENT_SCHEMA), log)
    bundle, grown = tmp_path / "typed", tmp_path / "grown"
    add_types(Bundle(shop_bundle), shop_types, bundle)
    asked = ("--events", log, "--out", grown, "--add-locale", "en-IE")
    assert "has no classifier that could learn en-IE" in refused("types", "--bundle", shop_bundle, *asked)
    assert "so that --encoder has no use" in refused("types", "--bundle", bundle, *asked, "--encoder", "minilm")
    told = CliRunner().invoke(app, ["train", "types", "--bundle", str(bundle), *map(str, asked)])
    assert told.exit_code == 0, told.output
    assert "classifies queries of en-IE too" in told.output
    before, after = (TYPES_PART.open(Bundle(folder)) for folder in (bundle, grown))
    assert after.locales == (*before.locales, "en-IE")
    queries, locales = ["table", "table", "sofa"], ["en-GB", "de-DE", "en-US"]
    assert (after.probabilities(queries, locales) == before.probabilities(queries, locales)).all()
    assert "knows the locale 'en-IE' already" in refused(
        "types", "--bundle", grown, *asked[:2], "--out", tmp_path / "x", *asked[4:]
    )


def test_the_help_names_every_figure_that_can_be_required() -> None:
    told = CliRunner().invoke(app, ["train", "all", "--help"], env={"COLUMNS": "400"}).output
    assert [name for name in METRICS if name not in told] == []


def test_a_season_is_told_and_a_stated_half_life_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    season = Season(half_life_days=10, gain=0.18)
    assert told_half_life(0, season) == 0
    assert told_half_life(30, None) == 30
    assert told_half_life(None, None) == 0
    assert capsys.readouterr().out == ""
    assert told_half_life(None, season) == 10
    assert "counts half after 10 days" in " ".join(capsys.readouterr().out.split())
