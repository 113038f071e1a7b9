"""The client's own wheel searches a running service in an environment that has none of the server's packages."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from loadtest.benchmarks.service import Service

ROOT = Path(__file__).parents[2]
SEARCH = """
import sys
import aisle.client
from aisle.v1.search_pb2 import SearchRequest
print(aisle.client.__file__)
with aisle.client.AisleClient(sys.argv[1], timeout_s=60) as client:
    print(len(client.search(SearchRequest(query="velvet sofa", page_size=5)).hits))
    try:
        client.search(SearchRequest(query=""))
    except aisle.client.CallError as error:
        print(error.code.name, error.reason, [violation.field for violation in error.violations])
"""
ABSENT = "import importlib.util, sys; print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    pip("wheel", str(ROOT / "protos"), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel and what its metadata requires, taken from this one's packages."""
    folder = tmp_path_factory.mktemp("frontend")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    pip("install", str(wheel), "--no-deps", "--no-index", "--target", str(site))
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        required = re.findall(r"^Requires-Dist: ([\w-]+)", archive.read(metadata).decode(), re.MULTILINE)
    linked: set[str] = set()
    while required:
        name = required.pop()
        if name in linked:
            continue
        linked.add(name)
        distribution = importlib.metadata.distribution(name)
        required += [
            re.split(r"[^\w-]", needed)[0] for needed in distribution.requires or () if "extra ==" not in needed
        ]
        for file in distribution.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                (site / file).symlink_to(file.locate())
    return folder / "bin/python"


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


def run(python: Path, *arguments: str) -> str:
    done = subprocess.run(
        [python, "-P", *arguments], check=False, cwd=python.parent, env={}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_it_searches_a_running_service(python: Path, service: Service) -> None:
    module, hits, refusal = run(python, "-c", SEARCH, service.address).splitlines()
    assert Path(module).is_relative_to(python.parents[1])
    assert hits == "5"
    assert refusal == "INVALID_ARGUMENT INVALID_REQUEST ['query']"


def test_nothing_of_the_server_is_installed(python: Path) -> None:
    heavy = ("serving", "models", "loadtest", "numpy", "ray", "faiss", "openvino", "torch", "transformers", "typer")
    assert run(python, "-c", ABSENT, *heavy).strip() == "[]"


def test_it_holds_the_contract_and_the_client_alone(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT / "protos").as_posix()
        for path in (ROOT / "protos/aisle").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.endswith(".lock")
    }
    assert names == sources
