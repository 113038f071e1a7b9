"""The README's promises: its code runs, its commands exist, its configuration is the real one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.benchmarks.service import Service
from serving.cli.main import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def indented_lines() -> list[str]:
    joined = README.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.startswith("    ")]


def test_the_python_example_finds_products(service: Service) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = code.replace("127.0.0.1:9000", service.address)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert len(done.stdout.splitlines()) == 10


def test_the_search_commands_find_products(service: Service) -> None:
    commands = [line for line in indented_lines() if line.startswith(".venv/bin/aisle search")]
    assert len(commands) >= 2
    for command in commands:
        arguments = [part.strip('"') for part in re.findall(r'"[^"]*"|\S+', command)][1:]
        result = CliRunner().invoke(app, [*arguments, "--server", service.address])
        if "--boost" in arguments:  # for a bundle of the unified model: test_personalisation.py runs it
            assert "the served bundle has no boosts" in result.output
            continue
        assert result.exit_code == 0, result.output
        assert ("everybody" if "--compare" in arguments else "hits in") in result.output


@pytest.mark.parametrize("command", [line for line in indented_lines() if line.startswith(".venv/bin/aisle")])
def test_every_option_of_a_shown_command_exists(command: str) -> None:
    group, name, *rest = command.split()[1:]
    names = [group, name] if group in ("train", "evaluate", "bundle") else [group]
    shown = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    for option in (part for part in rest if part.startswith("--")):
        assert option in shown.output


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_configuration_reference_is_what_the_command_prints() -> None:
    (shown,) = re.findall(r"<!-- config -->\n```toml\n(.*?)```\n<!-- /config -->", README, re.DOTALL)
    assert shown.strip() == CliRunner().invoke(app, ["config"]).output.strip()


def test_the_service_config_is_the_documented_one() -> None:
    assert "service_config.json" in README
    assert (ROOT / "protos/aisle/v1/service_config.json").is_file()
