"""`aisle import`, as a user calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from models.events.event_log import open_log
from models.sample_store import write_sample_log
from serving.cli.main import app

TABLE = """when,who,what,sku,words
2025-05-01 12:00:00,ada,look,A-1001,sofa
2025-05-01 12:00:09,ada,buy,A-1001,sofa
2025-05-01 12:00:11,ada,wink,A-1001,sofa
"""
ROOT = Path(__file__).parents[3]
OPTIONS = ("--time", "when", "--shopper", "who", "--kind-column", "what", "--product", "sku", "--query", "words")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "table.csv").write_text(TABLE)
    return tmp_path / "table.csv"


def aisle(*arguments: object, exit_code: int = 0) -> str:
    told = CliRunner().invoke(app, ["import", *map(str, arguments)])
    assert told.exit_code == exit_code, told.output
    assert "Traceback" not in told.output
    return " ".join((told.stdout if exit_code == 0 else told.stderr).split())


def test_options_name_the_columns(table: Path, tmp_path: Path) -> None:
    kinds = ("--kind", "look=click", "--kind", "buy=purchase", "--kind", "wink=")
    said = aisle(table, "--out", tmp_path / "log", *OPTIONS, *kinds, "--timezone", "Europe/Berlin")
    assert "3 rows, 2 events from 2025-05-01 10:00" in said
    assert "left out 1 rows of kinds that do not count" in said
    assert "no impressions" in said
    assert len(open_log(tmp_path / "log")) == 2


def test_what_is_bad_ends_the_command_with_what_to_do(table: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "log")
    assert "no column time, kind, product_id: the columns are when, who, what" in aisle(table, *out, exit_code=1)
    said = aisle(table, *out, *OPTIONS, "--kind", "look=click", "--bad-rows", tmp_path / "bad.csv", exit_code=1)
    assert "2 of 3 rows (66.7%) are bad" in said
    assert "'buy' (1), 'wink' (1); name each with --kind NAME=KIND" in said
    assert len((tmp_path / "bad.csv").read_text().splitlines()) == 3
    assert "give one of --format, --mapping" in aisle(table, *out, *OPTIONS, "--format", "coveo", exit_code=1)
    assert "give --out with the folder" in aisle(table, exit_code=1)
    assert "name the files to import" in aisle(exit_code=1)
    assert not (tmp_path / "log").exists()


def test_a_suggestion_is_written_and_used(table: Path, tmp_path: Path) -> None:
    table.write_text(TABLE.replace("when,", "timestamp,").replace("what", "action").replace("look", "view"))
    assert "[source.kinds]" in aisle("--suggest", table)
    mapping = tmp_path / "mapping.toml"
    assert "read it, correct it" in aisle("--suggest", table, "--out", mapping)
    assert "exists; give another --out" in aisle("--suggest", table, "--out", mapping, exit_code=1)
    said = aisle(table, "--mapping", mapping, "--kind", "wink=", "--out", tmp_path / "log")
    assert "3 rows, 2 events" in said


def test_the_formats_are_listed_with_what_they_lack() -> None:
    said = aisle("--formats")
    assert "retailrocket Retailrocket: events.csv" in said
    assert "there are no queries: they come from titles" in said


def test_a_catalogue_or_a_bundle_says_which_products_there_are(table: Path, shop_bundle: Path, tmp_path: Path) -> None:
    table.write_text(TABLE + "2025-05-01 12:00:12,ada,buy,other,sofa\n")
    (tmp_path / "catalogue.csv").write_text("sku,title\nA-1001,Sofa\n")
    kinds = ("--kind", "look=click", "--kind", "buy=purchase", "--kind", "wink=")
    for given in (("--catalogue", tmp_path / "catalogue.csv", "--id", "sku"), ("--bundle", shop_bundle)):
        said = aisle(table, "--out", tmp_path / "log", "--force", *OPTIONS, *kinds, *given)
        assert "left out 1 events (33.3%) of products that the catalogue lacks, as 'other'" in said


def test_what_aisle_simulate_writes_needs_no_option(tmp_path: Path) -> None:
    write_sample_log(tmp_path, 1_000, 50, 5_000, 0, lambda *_: None)
    aisle(tmp_path / "events.parquet", "--out", tmp_path / "log", "--catalogue", tmp_path / "catalogue.parquet")
    log = open_log(tmp_path / "log")
    assert len(log) == pq.read_metadata(tmp_path / "events.parquet").num_rows
    assert np.array_equal(log.time_ms, open_log(tmp_path / "events.parquet").time_ms)


def test_the_commands_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events.csv").write_text(
        "timestamp,visitorid,event,itemid\n1433221332117,2,view,7\n1433221332118,2,addtocart,7\n"
    )
    (tmp_path / "products.csv").write_text("id,title\n7,Sofa\n")
    section = (ROOT / "docs/training.md").read_text(encoding="utf-8").partition("## Your log")[2]
    commands = [line.split()[2:] for line in section.splitlines() if line.startswith("    .venv/bin/aisle import")]
    monkeypatch.chdir(tmp_path)
    said = [aisle(*command) for command in commands]
    assert len(said) == 2
    assert "2 rows, 2 events" in said[1]
    assert len(open_log(tmp_path / "logs" / "mine")) == 2
