"""`aisle build` and its neighbours as people call them: real processes, real kills, a really full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from models.bundle_parts import verify_bundle
from models.bundles.bundle import Bundle
from models.bundles.manifest import Manifest
from serving.cli.main import app
from serving.edge.keys import SCOPES, read_keys

SAMPLE = "3000"


@pytest.fixture
def aisle(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


Aisle = Callable[..., Result]


@pytest.fixture(scope="module")
def whole(exported_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """What the build of the sample makes when nothing happens to it."""
    out = tmp_path_factory.mktemp("whole") / "bundle"
    result = CliRunner().invoke(app, build_arguments(out, exported_encoder))
    assert result.exit_code == 0, result.output
    return Bundle(out)


def build_arguments(out: Path, encoder: Path) -> list[str]:
    return ["build", "--sample", SAMPLE, "--out", str(out), "--encoder", str(encoder), "--name", "killed"]


# `aisle`, which halts when it is about to save the progress of a second block of vectors.
HALTING = """
import json, os, signal, sys
from serving.cli.main import app

def halt(event, arguments):
    if event == "os.rename" and os.path.basename(arguments[1]) == "progress.json":
        if os.path.exists(arguments[1]) and json.load(open(arguments[1])).get("encoded"):
            os.kill(os.getpid(), signal.SIGSTOP)

sys.addaudithook(halt)
app()
"""


def stopped_while_encoding(arguments: list[str]) -> subprocess.Popen[bytes]:
    """A build process that is halted between two blocks of vectors."""
    process = subprocess.Popen([sys.executable, "-c", HALTING, *arguments], stderr=subprocess.DEVNULL)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"it was never seen encoding; it ended with {status}"
    return process


def test_a_build_killed_while_it_encodes_goes_on_to_the_same_vectors(
    aisle: Aisle, whole: Bundle, exported_encoder: Path, tmp_path: Path
) -> None:
    arguments = build_arguments(tmp_path / "shop", exported_encoder)
    process = stopped_while_encoding(arguments)
    try:
        second = aisle(*arguments)
        assert second.exit_code == 1
        assert "another build is at work" in second.output
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "shop").exists()
    assert 0 < json.loads((tmp_path / "shop.partial" / "progress.json").read_text())["encoded"] < int(SAMPLE)
    again = aisle(*arguments)
    assert again.exit_code == 0, again.output
    bundle = Bundle(tmp_path / "shop")
    verify_bundle(bundle)
    assert np.array_equal(bundle.vectors(), whole.vectors())
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path_factory.mktemp("disk")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=False, capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class TestFullDisk:
    @pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.8, 0.97], ids=lambda share: f"{share:.0%} fits")
    def test_it_is_said_and_the_same_command_ends_it_once_there_is_room(
        self, aisle: Aisle, whole: Bundle, exported_encoder: Path, small_disk: Path, share: float
    ) -> None:
        arguments = build_arguments(small_disk / f"{share}", exported_encoder)
        self.fail_and_go_on(aisle, arguments, small_disk, int(share * size_of(whole.folder)))
        bundle = Bundle(small_disk / f"{share}")
        verify_bundle(bundle)
        assert np.array_equal(bundle.vectors(), whole.vectors())

    def test_so_it_is_where_the_encoder_does_not_fit(self, aisle: Aisle, tiny_encoder: Path, small_disk: Path) -> None:
        self.fail_and_go_on(aisle, build_arguments(small_disk / "fresh", tiny_encoder), small_disk, 100_000)

    @staticmethod
    def fail_and_go_on(aisle: Aisle, arguments: list[str], disk: Path, free: int) -> None:
        filler = disk / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, os.statvfs(disk).f_bavail * 4096 - free)
        refused = aisle(*arguments)
        assert refused.exit_code == 1, refused.output
        assert "the disk is full; make room" in refused.output
        assert "resumes where it stopped" in refused.output
        filler.unlink()
        again = aisle(*arguments)
        assert again.exit_code == 0, again.output


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class TestCatalogue:
    ROWS = "sku,name,cost,maker\n1,Red sofa,9.50,Nord\n1,Again,1,Nord\n,No id,1,Nord\n2,,1,Nord\n3,Lamp,cheap,Nord\n"

    @pytest.fixture
    def csv(self, tmp_path: Path) -> Path:
        (tmp_path / "shop.csv").write_text(self.ROWS)
        return tmp_path / "shop.csv"

    def test_bad_rows_are_counted_with_their_reasons(
        self, aisle: Aisle, csv: Path, exported_encoder: Path, tmp_path: Path
    ) -> None:
        csv.write_text(
            "\n".join(f"{line},x" if at else f"{line},notes" for at, line in enumerate(self.ROWS.splitlines()))
        )
        columns = ("--id", "sku", "--title", "name", "--price", "cost", "--brand", "maker")
        command = ("build", "--catalogue", csv, "--out", tmp_path / "b", "--encoder", exported_encoder, *columns)
        refused = aisle(*command)
        assert refused.exit_code == 1
        assert "3 of 5 rows are lost, more than 20%" in refused.output
        assert not (tmp_path / "b").exists()
        result = aisle(*command, "--max-lost", "0.6", "--attribute", "maker:keyword")
        assert result.exit_code == 0, result.output
        for line in (
            "attribute maker: keyword",
            "not read: notes. --text adds",
            "skipped 1 rows: duplicate id",
            "skipped 1 rows: no id",
            "skipped 1 rows: no title",
            "repaired 1 rows: price not a number",
            "2 products in",
        ):
            assert line in result.output
        assert "shop.csv" in result.output
        shown = aisle("bundle", "show", tmp_path / "b")
        assert "skipped 1 rows: duplicate id" in shown.output
        assert "2 from shop.csv" in shown.output
        products = list(Bundle(tmp_path / "b").products().products())
        assert [(p.id, p.price_minor, p.brand) for p in products] == [("1", 950, "Nord"), ("3", None, "Nord")]

    def test_wrong_columns_are_one_error_that_lists_the_columns(self, aisle: Aisle, csv: Path, tmp_path: Path) -> None:
        result = aisle("build", "--catalogue", csv, "--out", tmp_path / "b", "--title", "nam", "--brand", "made_by")
        assert result.exit_code == 1
        assert result.output.count("error:") == 1
        assert "did you mean 'name'?" in result.output
        assert "'made_by'" in result.output
        assert "Its columns are: sku, name, cost, maker" in result.output
        assert not (tmp_path / "b.partial").exists()

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--encoder", "/no/such"), "there is no directory '/no/such'"),
            (("--currency", "euro"), "is not a currency"),
            (("--catalogue", "/no/such.csv"), "there is no such file"),
            (("--catalogue", "/dev/null"), "not a known format"),
        ],
    )
    def test_what_cannot_be_used_is_one_line(
        self, aisle: Aisle, csv: Path, tmp_path: Path, arguments: tuple[str, str], says: str
    ) -> None:
        columns = ("--id", "sku", "--title", "name")
        result = aisle("build", "--catalogue", csv, "--out", tmp_path / "b", *columns, *arguments)
        assert result.exit_code == 1
        assert says in result.output
        assert "Traceback" not in result.output

    def test_a_bundle_that_is_there_is_kept(self, aisle: Aisle, whole: Bundle, exported_encoder: Path) -> None:
        result = aisle(*build_arguments(whole.folder, exported_encoder))
        assert result.exit_code == 1
        assert "exists; choose another --out, or replace it with --force" in result.output


class TestLookingInto:
    def test_show_and_verify(self, aisle: Aisle, whole: Bundle) -> None:
        shown = aisle("bundle", "show", whole.folder)
        assert shown.exit_code == 0
        for part in (whole.manifest.version, "3,000 from sample store, simulated", "32 dimensions", "en-US", "USD"):
            assert part in shown.output
        verified = aisle("bundle", "verify", whole.folder)
        assert verified.exit_code == 0
        assert f"{len(whole.manifest.files)} files as the manifest says" in verified.output

    def test_a_spoiled_bundle_fails_the_check(
        self, aisle: Aisle, build_tiny: Callable[..., Manifest], tmp_path: Path
    ) -> None:
        build_tiny(tmp_path / "b")
        with (tmp_path / "b" / "vectors.npy").open("r+b") as file:
            file.write(b"x")
        result = aisle("bundle", "verify", tmp_path / "b")
        assert result.exit_code == 1
        assert "vectors.npy was altered" in result.output

    @pytest.mark.parametrize("command", ["show", "verify"])
    def test_what_is_no_bundle_is_one_line(self, aisle: Aisle, command: str, tmp_path: Path) -> None:
        result = aisle("bundle", command, tmp_path)
        assert result.exit_code == 1
        assert "is not a bundle" in result.output

    def test_brackets_in_a_path_are_shown(self, aisle: Aisle, tmp_path: Path) -> None:
        result = aisle("bundle", "show", tmp_path / "[/new]")
        assert "[/new] is not a bundle" in result.output


def test_a_key_is_one_line_for_the_caller_and_one_for_the_file(aisle: Aisle, tmp_path: Path) -> None:
    result = aisle("key", "shop", "--scope", "search", "--scope", "info")
    secret, line = result.stdout.splitlines()
    (tmp_path / "keys").write_text(line)
    (key,) = read_keys(tmp_path / "keys")
    assert (key.name, key.scopes) == ("shop", {"search", "info"})
    assert secret not in line
    refused = aisle("key", "shop", "--scope", "everything")
    assert refused.exit_code == 1
    assert f"known are {', '.join(SCOPES)} and *" in refused.output


@pytest.mark.parametrize(
    "command",
    [
        (),
        *((name,) for name in ("build", "serve", "search", "key", "config", "bench", "bundle")),
        ("bundle", "show"),
        ("bundle", "verify"),
    ],
    ids=" ".join,
)
def test_every_command_explains_itself(aisle: Aisle, command: tuple[str, ...]) -> None:
    result = aisle(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.output
