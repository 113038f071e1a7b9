"""README and docs keep what they say: paths, links, commands, targets, terms and the contract's tables are those of the tree."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from google.protobuf.descriptor import FileDescriptor
from prometheus_client import ProcessCollector
from typer.testing import CliRunner

from aisle.v1 import catalogue_pb2, embedding_pb2, info_pb2, query_pb2, ranking_pb2, search_pb2, shopper_pb2
from serving.cli.main import app
from serving.edge.keys import SCOPES
from serving.metrics import table as _table  # noqa: F401 - declares the metrics
from serving.metrics.gpus import Gpus
from serving.metrics.metric import METRICS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "protos/README.md")),
    *sorted(DOCS.glob("*.md")),
]
ROOMS = ("serving", "models", "protos", "loadtest", "tests", "deploy", "docs", ".ci")
FILES: tuple[FileDescriptor, ...] = tuple(
    module.DESCRIPTOR
    for module in (catalogue_pb2, embedding_pb2, info_pb2, query_pb2, ranking_pb2, search_pb2, shopper_pb2)
)


def text_of(page: Path) -> str:
    """The page with the files that it includes."""
    text = page.read_text(encoding="utf-8")
    return re.sub(
        r'^--8<-- "(.*)"$', lambda found: (ROOT / found[1]).read_text(encoding="utf-8"), text, flags=re.MULTILINE
    )


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def shown_commands(name: str) -> list[str]:
    """Lines of indented blocks that begin with the command, continuation lines joined."""
    texts = (without_blocks(text_of(page)).replace("\\\n", " ") for page in PAGES)
    lines = (line.strip() for text in texts for line in text.splitlines() if line.startswith("    "))
    return list(dict.fromkeys(line for line in lines if line.startswith(f"{name} ")))


def inline_commands() -> list[str]:
    texts = (without_blocks(text_of(page)) for page in PAGES)
    return sorted({found for text in texts for found in re.findall(r"`(aisle [a-z][^`]*)`", text)})


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that leading words name, and the words after them."""
    command: click.Command = typer.main.get_command(app)
    while words and not words[0].startswith("-") and (commands := getattr(command, "commands", None)):
        assert words[0] in commands, words
        command, words = commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_exists(page: Path) -> None:
    named = re.findall(r"`([\w.*-]+(?:/[\w.*-]*)+)`", without_blocks(text_of(page)))
    paths = [path for path in named if path.split("/")[0] in ROOMS]
    missing = [path for path in paths if not any(ROOT.glob(path.rstrip("/")))]
    assert missing == []


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text(encoding="utf-8"))):
            if not target.startswith(("http://", "https://")):
                yield page, target


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", without_blocks(text_of(page)), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


@pytest.mark.parametrize(
    ("page", "target"), list(links()), ids=lambda value: value.name if isinstance(value, Path) else value
)
def test_every_relative_link_resolves(page: Path, target: str) -> None:
    file, _, anchor = target.partition("#")
    linked = (page.parent / file).resolve() if file else page
    assert linked.exists(), target
    assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("command", shown_commands(".venv/bin/aisle"))
def test_every_shown_command_parses(command: str) -> None:
    named, words = command_of(shlex.split(command, comments=True)[1:])
    words = words[: words.index(">")] if ">" in words else words
    context = named.context_class(named)
    given, rest, _ = named.make_parser(context).parse_args(
        list(words)
    )  # no callbacks: they look for the files that are named
    assert rest == []
    assert [parameter.name for parameter in named.params if parameter.required and not given.get(parameter.name)] == []


@pytest.mark.parametrize("command", inline_commands())
def test_every_command_named_in_a_sentence_has_its_options(command: str) -> None:
    named, words = command_of(command.replace("COMMAND ", "").split()[1:])
    options = {option for parameter in named.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help"
    }
    assert {word for word in words if word.startswith("--")} <= options


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    texts = [without_blocks(text_of(page)) for page in PAGES]
    targets = {target for text in texts for target in re.findall(r"(?:^    |`)make ([\w-]+)", text, re.MULTILINE)}
    assert len(targets) > 10
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_compiles(page: Path) -> None:
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        compile(code, str(page), "exec")


def test_the_configuration_reference_is_what_the_command_prints() -> None:
    shown = (DOCS / "aisle.toml").read_text(encoding="utf-8")
    assert shown.strip() == CliRunner().invoke(app, ["config"]).output.strip(), "run 'make docs-config' and commit"
    assert '--8<-- "docs/aisle.toml"' in (DOCS / "configuration.md").read_text(encoding="utf-8")


def test_the_contract_page_has_every_call_and_no_other() -> None:
    page = (DOCS / "contract.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:`(\w*)`)? *\| `(\w+)` \|.*\| `([\w:]+)` \| yes", page, re.MULTILINE)
    stated, service = set(), ""
    for named, call, scope in rows:
        service = named or service
        stated.add((service, call))
        assert scope in SCOPES
    services = [service for file in FILES for service in file.services_by_name.values()]
    assert stated == {(service.name, method.name) for service in services for method in service.methods}


def test_the_contract_page_has_every_reason_of_an_error() -> None:
    page = (DOCS / "contract.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "serving").rglob("*.py")]
    reasons = {reason for source in sources for reason in re.findall(r'reason ?= ?"([A-Z][A-Z_]+)"', source)}
    assert len(reasons) > 8
    assert {reason for reason in reasons - {"STALE_VERSION"} if f"`{reason}`" not in page} == set()


def test_the_contract_page_has_every_limit() -> None:
    limits = info_pb2.Limits.DESCRIPTOR.fields_by_name
    page = (DOCS / "contract.md").read_text(encoding="utf-8")
    table = page[page.index("## Limits") : page.index("## Deadlines")]
    assert len(re.findall(r"^\| (?!limit|---)", table, re.MULTILINE)) >= len(limits)


def test_the_page_of_operations_has_every_metric_and_no_other() -> None:
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((?:aisle|rpc|process)_\w+)` \| (\w+) \| (.*?) \| .+ \|$", page, re.MULTILINE)
    stated = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    families = [*Gpus().collect(), *ProcessCollector(registry=None).collect()]
    declared = {name: (str(metric.kind), metric.label_names) for name, metric in METRICS.items()}
    assert {name: row for name, row in stated.items() if name in declared} == declared
    by_itself = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert set(stated) - set(declared) <= by_itself | {"aisle_processes"}
    assert {family.name for family in Gpus().collect()} <= set(stated)


def words() -> list[tuple[str, str, str]]:
    page = (DOCS / "words.md").read_text(encoding="utf-8")
    return re.findall(r"^\| \*\*(.+?)\*\* \| .+ \| `(\w+)` in `([\w/.]+)` \|$", page, re.MULTILINE)


def test_the_page_of_words_is_in_order_and_complete() -> None:
    page = (DOCS / "words.md").read_text(encoding="utf-8")
    terms = [term for term, _, _ in words()]
    assert len(terms) == page.count("\n| **") >= 25
    assert terms == sorted(terms)


@pytest.mark.parametrize(("term", "name", "file"), words())
def test_every_word_has_its_class_in_its_file(term: str, name: str, file: str) -> None:
    assert re.search(rf"^class {name}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), term


def test_every_method_is_in_the_file_named_with_it() -> None:
    named = [
        found
        for page in PAGES
        for found in re.findall(r"`([A-Z]\w+)\.(\w+)`[^`|]{1,40}`([\w/]+\.py)`", " ".join(text_of(page).split()))
    ]
    assert len(named) >= 3
    for name, method, file in named:
        source = (ROOT / file).read_text(encoding="utf-8")
        body = re.split(rf"^class {name}\b", source, maxsplit=1, flags=re.MULTILINE)[1]
        assert re.search(rf"^    (async )?def {method}\b", body.partition("\nclass ")[0], re.MULTILINE), (
            f"{name}.{method}"
        )


def test_the_readme_fits_a_screen_and_names_the_tests() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150
    assert "make test" in readme
    assert "service_config.json" in readme
    assert "simulated" in readme


def test_the_readme_links_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    # The map of the site, and pages that only include a file of another folder.
    included = {"index.md", "contributing.md", "changelog.md", "index-families.md"}
    assert [
        page.name for page in DOCS.glob("*.md") if page.name not in included and f"](docs/{page.name})" not in readme
    ] == []


@pytest.mark.skipif(not importlib.util.find_spec("material"), reason="mkdocs-material is not installed")
def test_the_site_builds_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)],
        check=False, cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="?(https?:|//)', page.read_text(encoding="utf-8"))
        assert loaded == [], page.name
        assert 'class="mermaid"' not in page.read_text(encoding="utf-8"), "Material loads mermaid from another host"
