"""The next generation is what the catalogue is after its changes, takes its place in one step, and a kill at any step leaves a bundle."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.arrays import silent
from models.bundles import files
from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import Bundle
from models.bundles.extend import replace_parts
from models.bundles.manifest import BundleError
from models.bundles.source import Source
from models.products.attributes.spec import AttributeSpec
from models.products.product import Product
from models.query_types.bundle_part import TYPES_PART
from models.text_encoder.embed_products import TextEmbedding
from serving.catalogue.change import Delete, Upsert
from serving.catalogue.generation import next_of, previous_of
from serving.catalogue.log import LogEnded
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.sqlite_log import SqliteLog
from serving.cli import generations
from serving.cli.generations import compact, roll_back
from tests.generations import assert_holds, logged, random_changes, random_product

SPECS = (
    "colour:keyword",
    "tags:keywords",
    "size:number:cm",
    "released:date",
    "vegan:bool",
    "care:text",
    "gone:number:kg",
)
IDS = [f"p-{number}" for number in range(60)]


@pytest.fixture(scope="module")
def typed_bundle(exported_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Products with attributes of every type, lists of words, lists of numbers, and an attribute that one product has. Read only."""
    rng = random.Random(0)
    products = [random_product(rng, product_id) for product_id in IDS]
    products += [
        Product(
            "listed",
            "Listed",
            attributes={"tags": "red, blue", "width": "40, 60"},
            lists={"tags": ("red", "blue"), "width": ("40", "60.5")},
        ),
        Product("last", "Last of its kind", attributes={"gone": "3 kg"}),
    ]
    source = Source(
        name="typed",
        fingerprint="1",
        products=lambda: iter(products),
        report=dict,
        attributes=("colour", "care"),
        text_attributes=("care",),
        identifiers=("mpn",),
        keeps_rare=True,
        types=tuple(map(AttributeSpec.parse, SPECS)),
    )
    recipe = Recipe(name="typed", encoder=str(exported_encoder), dimensions=(16,))
    folder = tmp_path_factory.mktemp("typed") / "bundle"
    build_bundle(source, recipe, folder, silent, embedding=TextEmbedding.for_recipe(recipe, source.text_attributes))
    return folder


@pytest.fixture
def mine(typed_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(typed_bundle, tmp_path / "mine"))


@pytest.fixture
def log(mine: Path, tmp_path: Path) -> Iterator[SqliteLog]:
    opened = SqliteLog(tmp_path / "changes.db", Bundle(mine).manifest.line, "normal")
    yield opened
    opened._close()


def live_after(bundle: Bundle, log: SqliteLog) -> Catalogue:
    catalogue = Catalogue.open(bundle)
    catalogue.live.apply(log.read(bundle.manifest.sequence, 10_000))
    return catalogue


def delete(log: SqliteLog, folder: Path, product_id: str) -> None:
    logged(log, [Delete(product_id)], Bundle(folder))


@pytest.mark.parametrize("seed", range(3))
def test_a_generation_holds_what_the_catalogue_holds_after_changes(mine: Path, log: SqliteLog, seed: int) -> None:
    rng = random.Random(seed)
    before = Bundle(mine)
    logged(log, random_changes(rng, IDS, 80), before, seed)
    delete(log, mine, "last")
    live = live_after(before, log)
    assert compact(mine, log, silent) == Bundle(mine).manifest
    live.bundle.folder = previous_of(mine)  # where it is now
    assert_holds(mine, live)
    # And the one after it, of changes of what came with it.
    logged(log, random_changes(rng, IDS, 40), before, seed + 1)
    second = live_after(Bundle(mine), log)
    assert compact(mine, log, silent)
    second.bundle.folder = previous_of(mine)
    assert_holds(mine, second)
    assert not next_of(mine).exists()


def test_types_stay_without_products_and_new_attributes_get_one(mine: Path, log: SqliteLog) -> None:
    new = Product("heavy", "Heavy", attributes={"mass": "12 kg"})
    logged(
        log,
        [Delete("last"), Upsert(new), Upsert(Product("heavier", "Heavier", attributes={"mass": "15 kg"}))],
        Bundle(mine),
    )
    compact(mine, log, silent)
    attributes = Bundle(mine).attributes()
    assert (attributes["gone"].type, attributes["gone"].unit, attributes["gone"].num_entries) == ("number", "kg", 0)
    assert (attributes["mass"].type, attributes["mass"].unit) == ("number", "kg")
    assert sorted(attributes["width"].numbers.tolist()) == [40, 60.5]
    assert attributes["width"].num_entries == 2


def test_without_changes_nothing_is_built(mine: Path, log: SqliteLog) -> None:
    before = Bundle(mine).manifest
    assert compact(mine, log, silent) is None
    assert Bundle(mine).manifest == before
    assert not previous_of(mine).exists()


def test_a_rollback_goes_back_and_forth_and_the_next_generation_follows(mine: Path, log: SqliteLog) -> None:
    first = Bundle(mine).manifest
    with pytest.raises(BundleError, match="there is no generation before"):
        roll_back(mine, lambda _: None)
    delete(log, mine, "p-1")
    second = compact(mine, log, silent)
    assert roll_back(mine, lambda _: None) == first == Bundle(mine).manifest
    delete(log, mine, "p-2")
    third = compact(mine, log, silent)
    assert third
    assert second
    assert (third.sequence, third.products) == (2, second.products - 1)
    assert Bundle(previous_of(mine)).manifest == first

    def refuse(_: object) -> None:
        raise LogEnded("too old")

    with pytest.raises(LogEnded):
        roll_back(mine, refuse)
    assert Bundle(mine).manifest == third


def test_a_stale_builder_that_wakes_up_does_not_swap(
    mine: Path, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete(log, mine, "p-1")
    other = shutil.copytree(mine, mine.with_name("other"))

    def replaced() -> None:  # another builds while this one sleeps
        compact(other, log, silent)
        shutil.rmtree(mine)
        other.rename(mine)

    with pytest.raises(BundleError, match="was replaced while its next generation was built; nothing was swapped"):
        compact(mine, log, silent, replaced)
    assert Bundle(mine).manifest.sequence == 1
    assert not previous_of(mine).exists()


def test_only_one_builds(mine: Path, log: SqliteLog) -> None:
    delete(log, mine, "p-1")
    with generations.alone(mine), pytest.raises(BundleError, match="another process builds or swaps generations of"):
        compact(mine, log, silent)
    assert compact(mine, log, silent)


def test_a_damaged_bundle_is_refused_and_stays(mine: Path, log: SqliteLog) -> None:
    delete(log, mine, "p-1")
    before, damaged = Bundle(mine).manifest, mine / "encoder" / "tokenizer.json"
    damaged.write_bytes(damaged.read_bytes() + b" ")
    with pytest.raises(BundleError, match=r"tokenizer\.json has \d+ bytes, the manifest says"):
        compact(mine, log, silent)
    assert Bundle(mine).manifest == before
    assert not previous_of(mine).exists()


def test_a_log_that_lacks_changes_is_refused(mine: Path, log: SqliteLog) -> None:
    delete(log, mine, "p-1")
    delete(log, mine, "p-2")
    log.drop(1)
    with pytest.raises(LogEnded, match="the log begins after change 1, and this generation ends with change 0"):
        compact(mine, log, silent)
    assert Bundle(mine).manifest.sequence == 0


KILL = """
import os, signal, sys
from pathlib import Path
from models.arrays import silent
from models.bundles.bundle import Bundle
from serving.catalogue.sqlite_log import SqliteLog
from serving.cli import generations
import models.bundles.build, models.bundles.files

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

{where} = kill
folder = Path(sys.argv[1])
log = SqliteLog(Path(sys.argv[2]), Bundle(folder).manifest.line, "normal")
generations.{command}
"""


@pytest.mark.parametrize(
    ("where", "is_swapped"),
    [
        ("models.bundles.build.IdentifierIndex.build", False),
        ("generations.exchange", False),
        ("generations.shutil.rmtree", True),
        ("generations.sync_files", True),
    ],
)
def test_a_kill_at_any_step_leaves_a_bundle_and_the_next_goes_on(
    mine: Path, log: SqliteLog, where: str, *, is_swapped: bool
) -> None:
    delete(log, mine, "p-1")
    compact(mine, log, silent)  # so that there is one before
    delete(log, mine, "p-2")
    before = Bundle(mine).manifest
    code = KILL.format(where=where, command="compact(folder, log, silent)")
    if "rmtree" in where:  # of the swap, not of the build
        code = code.replace(
            "generations.shutil.rmtree = kill",
            "generations._check = lambda *_: setattr(generations.shutil, 'rmtree', kill)",
        )
    killed = subprocess.run([sys.executable, "-c", code, str(mine), str(mine.parent / "changes.db")], check=False)
    assert killed.returncode == -signal.SIGKILL
    found = Bundle(mine)
    found.verify()
    assert found.manifest.sequence == 1 + is_swapped
    if is_swapped:
        delete(log, mine, "p-3")
        before = found.manifest
    after = compact(mine, log, silent)
    assert after
    assert after.sequence == 2 + is_swapped
    assert Bundle(mine).manifest == after
    assert Bundle(previous_of(mine)).manifest == before
    assert {path.name for path in mine.parent.iterdir() if path.is_dir()} == {"mine", "mine.previous"}


def test_where_the_file_system_cannot_exchange_a_kill_in_between_is_mended(mine: Path, log: SqliteLog) -> None:
    delete(log, mine, "p-1")
    manifest = Bundle(mine).manifest
    mine.rename(files.aside(mine))
    after = compact(mine, log, silent)
    assert after == Bundle(mine).manifest
    assert Bundle(previous_of(mine)).manifest == manifest
    assert not files.aside(mine).exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_said_and_changes_nothing(typed_bundle: Path, log: SqliteLog, small_disk: Path) -> None:
    mine = Path(shutil.copytree(typed_bundle, small_disk / "mine"))
    delete(log, mine, "p-1")
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, os.statvfs(small_disk).f_bavail * 4096 - 40_000)
    before = Bundle(mine).manifest
    with pytest.raises(BundleError, match="the disk is full; make room"):
        compact(mine, log, silent)
    Bundle(mine).verify()
    assert Bundle(mine).manifest == before
    filler.unlink()
    assert compact(mine, log, silent)


def test_locales_that_a_model_learned_are_served_by_the_next_generation(typed_bundle: Path, tmp_path: Path) -> None:
    learned, mine = ("en-US", "en-GB"), tmp_path / "mine"
    replace_parts(Bundle(typed_bundle), (TYPES_PART,), lambda _: None, {"locales": learned}, mine, replace=False)
    log = SqliteLog(tmp_path / "changes.db", Bundle(mine).manifest.line, "normal")
    delete(log, mine, "last")
    compact(mine, log, silent)
    log._close()
    assert Bundle(mine).manifest.sequence == 1
    assert Bundle(mine).manifest.locales == learned
