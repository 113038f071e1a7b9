"""`aisle simulate` prints parameters, reads them back, and says in one line what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from models.sample_store import TRUTH
from serving.cli.main import app


def simulate(*arguments: object) -> tuple[int, str, str]:
    told = CliRunner().invoke(app, ["simulate", *map(str, arguments)])
    assert "Traceback" not in told.output
    return told.exit_code, told.stdout, " ".join(told.stderr.split())


def test_printed_parameters_can_be_changed_and_simulated(tmp_path: Path) -> None:
    code, printed, _ = simulate("--family", "cascade", "--print-parameters")
    assert code == 0
    path = tmp_path / "cascade.toml"
    path.write_text(printed.replace("patience = 0.93", "patience = 0.5"))
    sizes = ("--products", 1000, "--shoppers", 20, "--events", 10_000)
    assert simulate("--family", "cascade", "--parameters", path, *sizes, "--out", tmp_path / "store")[0] == 0
    truth = json.loads((tmp_path / "store" / TRUTH).read_text())
    assert (truth["family"], truth["parameters"]["patience"]) == ("cascade", 0.5)


def test_what_is_wrong_is_said_before_anything_is_simulated(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("patience = 2")
    for arguments, message in (
        (
            ("--family", "casc", "--out", tmp_path),
            "there is no family 'casc' of simulations; there are additive, cascade",
        ),
        (("--family", "cascade", "--parameters", path, "--out", tmp_path), "patience is 2"),
        (("--parameters", path, "--out", tmp_path), "the family additive has no parameter 'patience'"),
        ((), "give --out with the folder of the store, or --print-parameters"),
    ):
        code, _, error = simulate(*arguments)
        assert code == 1
        assert message in error
    assert list(tmp_path.iterdir()) == [path]
