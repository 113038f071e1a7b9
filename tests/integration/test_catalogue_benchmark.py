"""The benchmark of the living catalogue, run for seconds: a file of its own, since it takes as long as many others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.bundles.bundle import Bundle
from serving.cli.main import app


@pytest.mark.skipif(not shutil.which("h2load"), reason="h2load is not installed (Debian: nghttp2-client)")
def test_the_catalogue_benchmark_changes_searches_and_replays(
    bundle_folder: Path, ranked_folder: Path, tmp_path: Path
) -> None:
    bench = ["bench", "--bundle", str(bundle_folder), "--personal", str(ranked_folder), "--only", "catalogue"]
    result = CliRunner().invoke(app, [*bench, "--quick", "--json", str(tmp_path / "figures.json")])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    medians = {figure["name"]: figure["median"] for figure in figures}
    assert len(medians) == 25
    assert medians["searches that failed during a build and swap"] == 0
    assert Bundle(ranked_folder).manifest.sequence == 0  # what is measured stays as it is
    for name in ("text: upserts", "personal: upserts", "personal: offers", "upserts beside searches"):
        assert medians[name] > 0, name
