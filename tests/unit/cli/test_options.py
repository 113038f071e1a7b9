"""Groups of options expand into the options of a command, and arrive as groups."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from serving.cli.options import CatalogueColumns, TextColumns, as_command


@dataclass(frozen=True, kw_only=True)
class Size:
    width: Annotated[int, typer.Option(help="Columns.")] = 80
    name: Annotated[list[str] | None, typer.Option("--title")] = None


def test_a_group_arrives_with_defaults_and_given_values() -> None:
    seen: list[tuple[str, Size, bool]] = []

    @as_command
    def command(*, path: Annotated[str, typer.Argument()], size: Size, wide: bool = False) -> None:
        seen.append((path, size, wide))

    single = typer.Typer()
    single.command()(command)
    for arguments in (["a"], ["a", "--width", "9", "--title", "x", "--title", "y", "--wide"]):
        result = CliRunner().invoke(single, arguments)
        assert result.exit_code == 0, result.output
    assert seen == [("a", Size(), False), ("a", Size(width=9, name=["x", "y"]), True)]
    assert "Columns." in CliRunner().invoke(single, ["--help"]).output


def test_columns_map_what_is_named_and_leave_the_rest_to_the_reader(tmp_path: Path) -> None:
    shop = tmp_path / "shop.csv"
    shop.write_text("sku,title,cost,maker,brand,note\n1,Lamp,9.50,Nord,Own,warm\n")
    columns = CatalogueColumns(id_column="sku", price="cost", text=["note"])
    (product,) = columns.source(shop).products()
    assert (product.id, product.price_minor, product.brand) == ("1", 950, "Own")
    assert dict(product.attributes) == {"note": "warm"}
    (product,) = TextColumns(id_column="sku", brand="maker").source(shop).products()
    assert (product.brand, product.price_minor) == ("Nord", None)


@pytest.mark.parametrize("command", [(), ("search",), ("train", "all"), ("evaluate", "ranking")], ids=" ".join)
def test_help_imports_no_heavy_package(command: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from serving.cli.main import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print(sorted({'faiss', 'grpc', 'numpy', 'openvino', 'pyarrow', 'ray', 'torch'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True, check=True, timeout=240
    )
    assert done.stdout.splitlines()[-1] == "[]"
