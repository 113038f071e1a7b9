"""The examples of README and docs run against a real service. `tests/unit/test_docs.py` checks what needs none."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from loadtest.benchmarks.service import Service, served
from serving.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "protos/README.md", *sorted((ROOT / "docs").glob("*.md"))]


def python_examples(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def search_commands() -> list[str]:
    """Of the default service: those that name a --server are of the tutorial's own one."""
    lines = (
        line.strip()
        for page in PAGES
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("    ")
    )
    return [
        line for line in dict.fromkeys(lines) if line.startswith(".venv/bin/aisle search") and "--server" not in line
    ]


def run(code: str, service: Service) -> list[str]:
    code = (
        code.replace("127.0.0.1:9000", service.address)
        .replace("timeout_s=1.0", "timeout_s=60")
        .replace("timeout=1)", "timeout=60)")
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "protos/README.md", ROOT / "docs/contract.md"], ids=lambda page: page.name
)
def test_the_python_examples_find_products(service: Service, page: Path) -> None:
    examples = [code for code in python_examples(page) if "SearchRequest" in code and "RecordEventsRequest" not in code]
    assert examples
    for code in examples:
        assert len(run(code, service)) == 10


def test_the_example_of_the_contract_changes_the_catalogue(service: Service) -> None:
    (code,) = (code for code in python_examples(ROOT / "docs/contract.md") if "catalogue_pb2" in code)
    assert run(code.replace("timeout=5)", "timeout=60)"), service) == ["1 accepted, visible: True"]


def test_the_tutorial_records_an_event_that_personalises_the_next_search(personal_folder: Path) -> None:
    (code,) = python_examples(ROOT / "docs/tutorial.md")
    (click,) = (code for code in python_examples(ROOT / "docs/contract.md") if "RecordEventsRequest" in code)
    with served(personal_folder, "[shoppers]\nmax_wait_ms = 10000\n[catalogue]\nmax_wait_ms = 10000\n") as running:
        reason, *lines = run(code, running)
        assert run(click, running) == []
    assert reason
    assert lines == ["1 recorded", "1 in the history", "1 used by the next search"]


def test_the_search_commands_find_products(service: Service) -> None:
    commands = search_commands()
    assert len(commands) >= 8
    for command in commands:
        result = CliRunner().invoke(app, [*shlex.split(command)[1:], "--server", service.address])
        if "--boost" in command:  # for a bundle of the unified model: test_personalisation.py runs it
            assert "the served bundle has no boosts" in result.output
            continue
        assert result.exit_code == 0, (command, result.output)
        assert ("everybody" if "--compare" in command else "hits in") in result.output


def write_shop(folder: Path) -> None:
    """A catalogue and a table of behaviour as a shop might have them: columns of its own, Unix times, no impressions and no sessions."""
    random = Random(0)
    kinds, brands, colours = (
        ("sofa", "rug", "lamp"),
        ("Halden", "Nord", "Glanz", "Orro"),
        ("red", "grey", "green", "blue"),
    )
    products = [(kind, brand, colour) for kind in kinds for brand in brands for colour in colours]
    with (folder / "products.csv").open("w") as catalogue:
        catalogue.write("sku,name,maker,path,cost\n")
        for number, (kind, brand, colour) in enumerate(products):
            catalogue.write(f"S-{number},{brand} {kind} in {colour},{brand},Home > {kind}s,{number + 10}.50\n")
    time_s = 1_735_689_600
    with (folder / "behaviour.tsv").open("w") as behaviour:
        behaviour.write("visitor\twhen\twhat\tterm\titem\n")
        for _ in range(1200):
            shopper, kind, colour = random.randrange(60), random.choice(kinds), random.choice(colours)
            term, time_s = random.choice([kind, f"{colour} {kind}"]), time_s + random.randint(60, 900)
            fitting = [
                number
                for number, (of_kind, brand, of_colour) in enumerate(products)
                if of_kind == kind
                and (term == kind or of_colour == colour)
                and (random.random() < 0.2 or brand == brands[shopper % 4])
            ]
            for at, number in enumerate(fitting[:2]):
                behaviour.write(f"v{shopper}\t{time_s + 20 * at}\tview\t{term}\tS-{number}\n")
                if random.random() < 0.3:
                    behaviour.write(f"v{shopper}\t{time_s + 20 * at + 9}\torder\t{term}\tS-{number}\n")


def test_a_shop_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Your own shop\n")[1].split("\n## ")[0]
    *commands, serve = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    said = []
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.output)
        said.append(" ".join(result.output.split()))
    assert len(said) == 3
    assert "no impressions: the ranker learns from clicks" in said[1]
    assert "serve it with: aisle serve --bundle shops/mine/bundle" in said[2]
    assert "shops/mine/bundle" in serve
    assert (tmp_path / "shops/mine/report.html").stat().st_size > 10_000
    with served(tmp_path / "shops/mine/bundle") as running:
        result = CliRunner().invoke(app, ["search", "red sofa", "--page-size", "4", "--server", running.address])
    assert result.exit_code == 0, result.output
    assert result.output.count("sofa in red") == 4


def test_the_living_catalogue_of_the_readme(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## The living catalogue")[2].partition("\n## ")[0]
    shell, *commands = (line.strip() for line in section.splitlines() if line.startswith("    "))
    monkeypatch.chdir(tmp_path)
    subprocess.run(["bash", "-c", shell], check=True)
    said = []
    for command in commands:
        result = CliRunner().invoke(app, [*shlex.split(command)[1:], "--server", service.address])
        assert result.exit_code == 0, (command, result.output)
        said.append(result.output)
    upserted, found, deleted, gone, status = said
    assert "1 changes accepted, visible" in upserted
    assert "Quokka hammock" in found
    assert "129.00" in found
    assert "1 changes accepted, visible" in deleted
    assert "Quokka hammock" not in gone
    assert "0 behind" in status
