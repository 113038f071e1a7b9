"""The image: what its file names is there, pinned, and what the chart counts on. It is not built here."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from serving.cli.main import app
from serving.config import AisleConfig

ROOT = Path(__file__).resolve().parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions() -> list[tuple[str, str]]:
    """Returns the instructions of the image's file with their arguments, in order."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = [line.partition(" ") for line in lines.replace("\\\n", " ").splitlines() if line]
    return [(name, arguments.strip()) for name, _, arguments in found]


def stated(name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions() if instruction == name]


def requirements(extras: list[str]) -> set[str]:
    """Returns the names of all that these extras ask for, and the project itself."""
    optional = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(line for extra in extras for line in optional[extra])]
    return {canonicalize_name(Requirement(line).name) for line in asked}


def test_all_that_is_installed_is_pinned() -> None:
    pinned = {canonicalize_name(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().split()}
    (extras,) = [value.partition("=")[2].split(",") for value in stated("ARG") if value.startswith("EXTRAS=")]
    assert extras == ["redis", "fetch"]
    assert requirements([*extras, "gpu"]) <= pinned
    installs = [command for command in stated("RUN") if "pip install" in command]
    assert installs
    for command in installs:
        assert command.count("--constraint constraints.txt") == len(re.findall(r"pip install", command))


def test_what_is_copied_is_there_and_reaches_the_build() -> None:
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    copied = {name for line in stated("COPY") if "--from" not in line for name in line.split()[:-1]}
    packages = {path.partition("/")[0] for path in _packages()}
    assert packages <= copied == admitted
    assert all((ROOT / name).exists() for name in copied)


def _packages() -> list[str]:
    built: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    packages: list[str] = built["targets"]["wheel"]["packages"]
    return packages


def test_it_runs_what_it_says_as_a_user_without_rights(tmp_path: Path) -> None:
    (entry,), (arguments,) = stated("ENTRYPOINT"), stated("CMD")
    assert json.loads(entry) == ["aisle"]
    assert "aisle" in PROJECT["scripts"]
    assert CliRunner().invoke(app, [*json.loads(arguments), "--help"]).exit_code == 0
    (written,) = [command for command in stated("RUN") if "aisle.toml" in command]
    text = written.partition("printf '")[2].partition("'")[0].replace("\\n", "\n")
    server = AisleConfig.model_validate(tomllib.loads(text)).server
    assert stated("EXPOSE") == [str(server.port)]
    (user,) = stated("USER")
    helpers = (ROOT / "deploy" / "chart" / "templates" / "_helpers.tpl").read_text()
    pod = yaml.safe_load(helpers.partition('define "aisle.podSecurity" -}}')[2].partition("{{- end")[0])
    assert user == f"{pod['runAsUser']}:{pod['runAsGroup']}"


def test_the_last_stage_has_nothing_to_build_with() -> None:
    stages = [line.split() for line in stated("FROM")]
    parents = {words[2]: words[0] for words in stages}
    assert stages[-1][2] == "cpu"  # what is built where no target is named
    for target in ("cpu", "cuda"):
        assert parents[target] == "base"
    assert parents["base"].startswith("python:")
    assert not any(re.search(r"apt-get|gcc|build-essential", command) for command in stated("RUN"))
