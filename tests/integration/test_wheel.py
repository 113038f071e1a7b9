"""The wheel serves without its checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("protos", "serving", "models", "loadtest", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "packages"
    pip("install", str(wheel), "--no-deps", "--no-index", "--target", str(folder))
    return folder


def pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    if "No module named pip" in done.stderr:
        pytest.skip("there is no pip in this environment")
    assert done.returncode == 0, done.stderr[-3000:]


def run(installed: Path, folder: Path, *arguments: str) -> str:
    """Python elsewhere, with the wheel before the checkout that an editable install puts on the path."""
    done = subprocess.run(
        [sys.executable, "-P", *arguments],
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_it_holds_what_serves_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    rooms = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert rooms == {"aisle", "serving", "models", "loadtest"}
    assert not [name for name in names if "test_" in name or "__pycache__" in name or name.endswith(".pyc")]
    for service in ("search", "embedding", "info", "product"):
        for ending in (".proto", "_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi"):
            assert f"aisle/v1/{service}{ending}" in names
    for name in ("aisle/py.typed", "serving/py.typed", "models/py.typed", "aisle/v1/service_config.json"):
        assert name in names
    sources = {
        path.relative_to(ROOT).as_posix()
        for room in ("serving", "models", "loadtest")
        for ending in ("*.py", "*.html.j2")
        for path in (ROOT / room).rglob(ending)
    }
    assert sources <= names


def test_every_module_comes_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "import aisle.v1.search_pb2, loadtest.traffic, models.bundles.bundle, aisle.client, serving.app\n"
        "for module in (aisle.v1.search_pb2, loadtest.traffic, models.bundles.bundle, serving.app): print(module.__file__)\n"
        "aisle.client.retry_policy()\n"
    )
    files = run(installed, tmp_path, "-c", code).splitlines()
    assert len(files) == 4
    assert all(Path(file).is_relative_to(installed) for file in files), files


def test_the_command_runs(installed: Path, shop_bundle: Path, tmp_path: Path) -> None:
    assert "Serves product search" in run(installed, tmp_path, "-m", "serving.cli", "--help")
    bundle = shutil.copytree(shop_bundle, tmp_path / "bundle")
    shown = run(installed, tmp_path, "-m", "serving.cli", "bundle", "show", Path(bundle).name)
    assert "6 from test shop" in shown
    assert "version" in run(installed, tmp_path, "-m", "serving.cli", "bundle", "verify", "bundle")


def test_serving_from_it_needs_neither_torch_nor_transformers(
    installed: Path, shop_bundle: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "import serving.app\n"
        "from models.text_encoder.encoder import Text\n"
        f"folder = Path({str(shop_bundle)!r})\n"
        "from serving.catalogue.stages import load_retriever; from serving.compute.text_encoder import TextStageEncoder\n"
        "TextStageEncoder(folder, 'cpu', 1, 64).compute([Text('sofa')])\n"
        "load_retriever(folder, 'cpu').warm_up()\n"
        "print(sorted({'torch', 'transformers', 'loadtest'} & set(sys.modules)))\n"
    )
    assert run(installed, tmp_path, "-c", code).strip() == "[]"
