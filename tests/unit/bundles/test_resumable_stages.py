"""A stage runs once, again when its inputs change, and again after it was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.arrays import Progress
from models.bundles.manifest import BundleError
from models.bundles.resumable_stages import ResumableStages, resumable_stages


class Made:
    """Stages that write one file, and the names of those that ran."""

    def __init__(self, *, fail: str = "") -> None:
        self.names: list[str] = []
        self._fail = fail

    def __call__(self, stages: ResumableStages, name: str, inputs: object) -> Path:
        def make(folder: Path, progress: Progress) -> dict[str, Any]:
            assert not folder.exists()
            self.names.append(name)
            folder.mkdir()
            (folder / "file").write_text(str(inputs))
            progress("write", 1, 1)
            if name == self._fail:
                raise KeyboardInterrupt
            return {"of": inputs}

        return stages.run(name, inputs, make)


def run(folder: Path, made: Made, first: object = 1, second: object = 1) -> list[str]:
    """Returns the output of two stages, the second of which depends on the first."""
    with resumable_stages(folder, lambda *_: None) as stages:
        paths = [made(stages, "first", first)]
        paths.append(made(stages, "second", [second, stages.key_of("first")]))
        return [(path / "file").read_text() for path in paths]


def test_what_is_finished_is_kept(tmp_path: Path) -> None:
    made = Made()
    once = run(tmp_path / "work", made)
    assert run(tmp_path / "work", made) == once
    assert made.names == ["first", "second"]


def test_another_recipe_does_again_what_it_changes(tmp_path: Path) -> None:
    run(tmp_path / "work", Made())
    made = Made()
    run(tmp_path / "work", made, second=2)
    assert made.names == ["second"]
    run(tmp_path / "work", made, first=2, second=2)
    assert made.names == ["second", "first", "second"]


def test_an_interrupted_stage_is_done_again_and_those_before_are_not(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "work", Made(fail="second"))
    made = Made()
    run(tmp_path / "work", made)
    assert made.names == ["second"]


def test_a_stage_that_was_killed_is_done_again(tmp_path: Path) -> None:
    """The folder exists and looks complete; its record says that it is not."""
    script = f"""
import os
from pathlib import Path
from models.bundles.resumable_stages import resumable_stages
def make(folder, progress):
    folder.mkdir()
    (folder / "file").write_text("half")
def die(folder, progress):
    make(folder, progress)
    os._exit(9)
with resumable_stages(Path({str(tmp_path / "work")!r}), lambda *_: None) as stages:
    stages.run("first", 1, make)
    stages.run("second", [1, stages.key_of("first")], die)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert (tmp_path / "work" / "second" / "file").exists()
    made = Made()
    assert run(tmp_path / "work", made)[0] == "half"
    assert made.names == ["second"]


def test_what_a_stage_took_and_said_is_kept(tmp_path: Path) -> None:
    run(tmp_path / "work", Made(), second=7)
    steps: list[str] = []
    with resumable_stages(tmp_path / "work", lambda what, *_: steps.append(what)) as stages:
        Made()(stages, "first", 1)
        assert stages.facts("first") == {"of": 1}
        assert stages.seconds("first") >= 0
        Made()(stages, "third", 1)
    assert steps == ["third: write"]


def test_two_at_once_are_refused_and_so_is_a_strangers_folder(tmp_path: Path) -> None:
    with (
        resumable_stages(tmp_path / "work", lambda *_: None),
        pytest.raises(BundleError, match="another build is at work"),
        resumable_stages(tmp_path / "work", lambda *_: None),
    ):
        pass
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "letter.txt").write_text("dear")
    with (
        pytest.raises(BundleError, match="is not an unfinished build"),
        resumable_stages(tmp_path / "strange", lambda *_: None),
    ):
        pass
    assert (tmp_path / "strange" / "letter.txt").exists()
