"""Expected errors become one line and exit code 1; defects keep their traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from models.errors import InputError
from serving.cli.failures import Commands, needs, resumable


def run(command: Callable[[], None]) -> Result:
    app = typer.Typer(cls=Commands)
    group = typer.Typer()
    group.command("one")(command)
    group.command("other")(lambda: None)
    app.add_typer(group, name="group")
    return CliRunner().invoke(app, ["group", "one"], env={"COLUMNS": "200"})


def open_nothing() -> None:
    Path("/no/such/file").read_text()


def fill_the_disk() -> None:
    raise OSError(28, "No space left on device", "/data/vectors.npy")


def refuse() -> None:
    raise InputError("vectors.npy: 3 rows, expected 4 [rows]")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (refuse, "error: vectors.npy: 3 rows, expected 4 [rows]\n"),
        (open_nothing, "error: there is no /no/such/file\n"),
        (fill_the_disk, "error: /data/vectors.npy: No space left on device\n"),
    ],
)
def test_an_expected_error_is_one_line(command: Callable[[], None], line: str) -> None:
    result = run(command)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", line)


def test_a_defect_keeps_its_traceback() -> None:
    def broken() -> None:
        raise ValueError("operands could not be broadcast together")

    assert isinstance(run(broken).exception, ValueError)


def test_a_missing_package_names_the_extra() -> None:
    def train() -> None:
        with needs("train"):
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

    assert run(train).stderr == "error: this command needs torch: pip install 'aisle[train]'\n"


def test_a_package_that_is_needed_late_is_missed_at_once() -> None:
    worked = []

    def train() -> None:
        with needs("tune", "json", "no_such_package"):
            worked.append(1)

    assert run(train).stderr == "error: this command needs no_such_package: pip install 'aisle[tune]'\n"
    assert not worked


def test_a_missing_module_of_the_project_is_a_defect() -> None:
    def train() -> None:
        with needs("train"):
            raise ModuleNotFoundError("No module named 'models.gone'", name="models.gone")

    assert isinstance(run(train).exception, ModuleNotFoundError)


def test_an_interrupted_command_says_how_to_resume() -> None:
    def train() -> None:
        with resumable():
            raise KeyboardInterrupt

    result = run(train)
    assert result.exit_code == 1
    assert "run the same command again to resume" in result.stderr
