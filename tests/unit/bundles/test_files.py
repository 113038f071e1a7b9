"""Two paths swap places in one step, or in three where the file system cannot."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from models.bundles.files import exchange


@pytest.mark.parametrize("in_one_step", [True, False])
def test_paths_are_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_one_step: bool) -> None:
    if not in_one_step:
        ctypes.set_errno(5)  # of something else
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    exchange(tmp_path / "one", tmp_path / "other")
    assert [(tmp_path / name / "file").read_text() for name in ("one", "other")] == ["other", "one"]
    assert {path.name for path in tmp_path.iterdir()} == {"one", "other"}


def test_a_missing_path_is_an_error_and_moves_nothing(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "one").is_dir()
