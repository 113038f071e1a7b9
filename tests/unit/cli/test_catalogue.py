"""The commands that look after a catalogue's log and generations, over logs in a file and in Redis."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from redis import Redis
from typer.testing import CliRunner

from loadtest.benchmarks.redis_server import redis_is_installed, redis_server
from models.bundles.bundle import Bundle
from models.products.product import Product, product_text
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text
from serving.catalogue.change import Change, Delete, Offer, Upsert
from serving.catalogue.generation import previous_of
from serving.catalogue.lease import LeaseTaken
from serving.catalogue.log import ChangeLog
from serving.catalogue.open_catalogue import open_catalogue
from serving.catalogue.open_log import build_lease, open_log
from serving.catalogue.sqlite_log import SqliteLog
from serving.cli.generations import alone
from serving.cli.main import app
from serving.config import CatalogueConfig, ConfigError, load_config
from tests.conftest import BuildTiny
from tests.generations import append

NEW = Product("B-1", "Ultraviolet hammock", "Quokka", "Garden", 900, True, {"colour": "ultraviolet"})


@dataclass(frozen=True)
class Place:
    """A bundle, and a configuration that names its log."""

    bundle: Path
    config: Path

    @property
    def settings(self) -> CatalogueConfig:
        return load_config(self.config).catalogue

    def log(self) -> ChangeLog:
        manifest = Bundle(self.bundle).manifest
        opened = open_log(self.settings, manifest.name, manifest.line, manifest.sequence)
        assert opened
        return opened

    def change(self, *changes: Change) -> None:
        log = self.log()

        async def change() -> None:
            await append(log, changes, Bundle(self.bundle))
            await log.close()

        asyncio.run(change())

    def products(self) -> dict[str, Product]:
        """What a service would serve."""
        catalogue, log = open_catalogue(Bundle(self.bundle)), self.log()
        while batches := log.read(catalogue.sequence, 3):
            catalogue.apply(batches)
        asyncio.run(log.close())
        table = catalogue.table
        return {table.id(row): table.product(row) for row in np.flatnonzero(table.alive).tolist()}


def ok(*arguments: object) -> str:
    told = CliRunner().invoke(app, ["catalogue", *map(str, arguments)], env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    return " ".join(told.stdout.split())


def refused(*arguments: object) -> str:
    """The one line that a failed command says."""
    told = CliRunner().invoke(app, ["catalogue", *map(str, arguments)], env={"COLUMNS": "200"})
    assert told.exit_code == 1, told.output
    assert "Traceback" not in told.output
    return " ".join(told.stderr.split())


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    if not redis_is_installed():
        yield ""
        return
    with redis_server() as server:
        yield server.url


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, shop_bundle: Path, tmp_path: Path, redis_url: str) -> Place:
    bundle = Path(shutil.copytree(shop_bundle, tmp_path / "mine"))
    config = tmp_path / "aisle.toml"
    if request.param == "redis":
        if not redis_url:
            pytest.skip("redis-server is not installed")
        Redis.from_url(redis_url).flushall()
        config.write_text(f'[catalogue]\nlog = "redis"\nurl = "{redis_url}"\n')
    else:
        config.write_text(f'[catalogue]\npath = "{tmp_path / "changes.db"}"\n')
    return Place(bundle, config)


@pytest.fixture
def stored(shop_bundle: Path, tmp_path: Path) -> Place:
    """A place with a log in a file."""
    config = tmp_path / "aisle.toml"
    config.write_text(f'[catalogue]\npath = "{tmp_path / "changes.db"}"\n')
    return Place(Path(shutil.copytree(shop_bundle, tmp_path / "mine")), config)


def test_compact_and_rollback_lose_no_change(place: Place) -> None:
    options = ("--bundle", place.bundle, "--config", place.config)
    asyncio.run(place.log().close())  # a service has made it
    assert "mine has all changes of the log already, up to 0" in ok("compact", *options)
    assert "there is no generation before" in refused("rollback", *options)
    place.change(Upsert(NEW), Delete("A-1001"), Offer(product_id="A-1002", price_minor=7))
    expected = place.products()
    assert expected["B-1"] == NEW
    assert "6 products, with the changes up to 3" in ok("compact", *options)
    assert Bundle(place.bundle).manifest.sequence == 3
    assert place.products() == expected
    place.change(Delete("A-1004"))
    assert "built with change 0" in ok("rollback", *options)
    assert Bundle(place.bundle).manifest.sequence == 0
    assert place.products() == {key: value for key, value in expected.items() if key != "A-1004"}
    assert "6 products and 4 changes give 5 products" in ok("verify", *options)


@pytest.mark.parametrize("command", [("compact",), ("verify",), ("snapshot", "--out", "elsewhere")])
def test_a_log_that_is_not_there_is_told_and_not_made(
    command: tuple[str, ...], stored: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stored.change(Delete("A-1001"))
    mistyped = tmp_path / "mistyped.toml"
    mistyped.write_text(f'[catalogue]\npath = "{tmp_path / "chnages.db"}"\n')
    said = refused(*command, "--bundle", stored.bundle, "--config", mistyped)
    assert "chnages.db does not exist: no service of this bundle has run yet" in said
    assert not list(tmp_path.glob("chnages.db*"))
    assert not (tmp_path / "elsewhere").exists()


def test_a_rollback_whose_changes_are_gone_is_refused(place: Place) -> None:
    options = ("--bundle", place.bundle, "--config", place.config)
    place.change(Delete("A-1001"))
    ok("compact", *options)
    log = place.log()
    log.drop(1)
    asyncio.run(log.close())
    assert "the log begins after change 1, and this generation ends with change 0" in refused("rollback", *options)
    assert Bundle(place.bundle).manifest.sequence == 1


def test_a_snapshot_restores_on_another_machine_with_an_empty_log(place: Place, tmp_path: Path) -> None:
    options = ("--bundle", place.bundle, "--config", place.config)
    place.change(Delete("A-1001"))
    ok("compact", *options)
    place.change(Upsert(NEW), Offer(product_id="B-1", in_stock=False))
    expected, kept = place.products(), tmp_path / "kept"
    assert "holds the catalogue up to change 3" in ok("snapshot", *options, "--out", kept)
    assert "exists; choose another --out" in refused("snapshot", *options, "--out", kept)
    place.change(Delete("A-1002"))  # not in the snapshot
    there = Place(tmp_path / "there" / "mine", tmp_path / "there.toml")
    there.config.write_text(f'[catalogue]\npath = "{tmp_path / "there.db"}"\n')
    restore = ("restore", kept, "--bundle", there.bundle, "--config", there.config)
    assert "is restored, up to change 3" in ok(*restore)
    assert there.products() == expected
    assert "exists; choose another --bundle" in refused(*restore)
    shutil.rmtree(there.bundle)
    assert "the configured log goes on to change 3 already" in refused(*restore)
    (tmp_path / "there.db").unlink()
    ok(*restore)
    there.change(Delete("B-1"))
    log = there.log()
    assert log.head() == 4
    asyncio.run(log.close())


def test_a_snapshot_is_restored_into_an_empty_redis(place: Place, tmp_path: Path) -> None:
    place.change(Delete("A-1001"))
    ok("compact", "--bundle", place.bundle, "--config", place.config)
    place.change(Upsert(NEW))
    expected = place.products()
    ok("snapshot", "--bundle", place.bundle, "--config", place.config, "--out", tmp_path / "kept")
    if place.settings.url:
        Redis.from_url(place.settings.url.get_secret_value()).flushall()
    else:
        (tmp_path / "changes.db").unlink()
    there = Place(tmp_path / "there", place.config)
    ok("restore", tmp_path / "kept", "--bundle", there.bundle, "--config", there.config)
    assert there.products() == expected


def test_a_log_that_ends_before_the_bundle_is_refused(place: Place) -> None:
    options = ("--bundle", place.bundle, "--config", place.config)
    place.change(Delete("A-1001"))
    first = shutil.copytree(place.bundle, place.bundle.with_name("first"))
    ok("compact", *options)
    if place.settings.url:
        Redis.from_url(place.settings.url.get_secret_value()).flushall()
    else:
        place.settings.path.unlink()  # type: ignore[union-attr]
    place.change(Delete("A-1002"))
    log = place.log()
    assert (log.head(), len(log.read(1, 10))) == (2, 1)  # a new log begins after the bundle
    asyncio.run(log.close())
    assert "the log begins after change 1, and this generation ends with change 0" in refused(
        "compact", "--bundle", first, "--config", place.config
    )
    place.change(Delete("A-1003"))
    ok("compact", *options)
    newer = shutil.copytree(place.bundle, place.bundle.with_name("newer"))
    shutil.rmtree(place.bundle)
    first.rename(place.bundle)
    if place.settings.url:
        Redis.from_url(place.settings.url.get_secret_value()).flushall()
    else:
        place.settings.path.unlink()  # type: ignore[union-attr]
    place.change(Delete("A-1001"))
    told = refused("verify", "--bundle", newer, "--config", place.config)
    assert (
        "ends with change 1, and this bundle was built with change 3: it lost changes, or is not this bundle's" in told
    )


def test_one_service_of_many_machines_builds(place: Place) -> None:
    if place.settings.log != "redis":
        pytest.skip("on one machine the lock of the folder does this")
    place.change(Delete("A-1001"))
    name = Bundle(place.bundle).manifest.name
    with build_lease(place.settings, name) as check:
        check()
        assert "another service builds" in refused("compact", "--bundle", place.bundle, "--config", place.config)
        assert place.settings.url
        Redis.from_url(place.settings.url.get_secret_value()).delete(
            f"aisle:catalogue:{{{name}}}:build"
        )  # it slept too long
        with build_lease(place.settings, name), pytest.raises(LeaseTaken, match="ran out"):
            check()
    assert Bundle(place.bundle).manifest.sequence == 0
    ok("compact", "--bundle", place.bundle, "--config", place.config)


def test_no_log_and_no_bundle_are_named(stored: Place, tmp_path: Path) -> None:
    off = tmp_path / "off.toml"
    off.write_text('[catalogue]\nlog = "off"\n')
    for command in ("compact", "rollback", "verify"):
        assert "catalogue.log is off" in refused(command, "--bundle", stored.bundle, "--config", off)
    assert "is not a bundle" in refused("compact", "--bundle", tmp_path / "none", "--config", stored.config)
    assert "is not a bundle" in refused(
        "snapshot", "--bundle", tmp_path / "none", "--out", tmp_path / "kept", "--config", stored.config
    )
    assert not (tmp_path / "kept").exists()
    assert "is not a bundle" in refused(
        "restore", tmp_path / "none", "--bundle", tmp_path / "new", "--config", stored.config
    )


class TestAdopt:
    CHANGES: Sequence[Change] = (Delete("A-1001"), Upsert(NEW), Offer(product_id="A-1002", price_minor=5))

    @pytest.fixture
    def rebuilt(self, stored: Place, build_tiny: BuildTiny, tmp_path: Path, shop: list[Product]) -> Place:
        """The shop, built anew with another encoder from a feed that knows the first change."""
        for change in self.CHANGES:  # a batch each
            stored.change(change)
        there = tmp_path / "rebuilt"
        build_tiny(there, shop[1:], fingerprint="2", dimensions=(32,))
        return Place(there, stored.config)

    def test_the_log_goes_on_with_what_the_feed_lacks_in_the_new_encoders_vectors(
        self, rebuilt: Place, stored: Place
    ) -> None:
        options = ("--bundle", rebuilt.bundle, "--config", rebuilt.config)
        told = refused("verify", *options)
        assert "holds 3 changes of another catalogue than this bundle's" in told
        path = stored.settings.path
        assert path
        assert "2 changes come after what it was built from" in ok("adopt", *options, "--after", 1)
        products = rebuilt.products()
        assert products["B-1"] == NEW
        assert products["A-1002"].price_minor == 5
        catalogue, log = open_catalogue(Bundle(rebuilt.bundle)), rebuilt.log()
        catalogue.apply(log.read(0, 10))
        asyncio.run(log.close())
        row = catalogue.table.row_of("B-1")
        assert row is not None
        encoder = TextEncoder(TEXT_ENCODER_PART.open(Bundle(rebuilt.bundle)))
        vector = encoder.encode([Text(product_text(NEW, ("care",)), "product")])[0]
        assert (catalogue.unit_vectors(np.array([row]))[0] == vector.astype(np.float16)).all()
        # The old log is whole, beside.
        old = SqliteLog(path.with_name("changes.db.adopted"), Bundle(stored.bundle).manifest.line, "normal")
        assert old.head() == 3
        old._close()
        assert "is this bundle's log already" in refused("adopt", *options, "--after", 1)

    def test_a_running_service_and_missing_changes_are_refused(self, rebuilt: Place, stored: Place) -> None:
        options = ("--bundle", rebuilt.bundle, "--config", rebuilt.config)
        log = stored.log()
        log.report(3)
        assert "follows the log: stop the service first" in refused("adopt", *options, "--after", 1)
        asyncio.run(log.close())
        assert "the log ends with change 3, but 9 were applied" in refused("adopt", *options, "--after", 9)
        assert len(stored.products()) == 6

    def test_a_kill_between_the_steps_is_finished(
        self, rebuilt: Place, stored: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = ("--bundle", rebuilt.bundle, "--config", rebuilt.config, "--after", 1)

        def kill(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("serving.catalogue.adopt.exchange", kill)
            assert CliRunner().invoke(app, ["catalogue", "adopt", *map(str, options)]).exit_code
        assert len(stored.products()) == 6  # the old log is there
        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", kill)
            assert CliRunner().invoke(app, ["catalogue", "adopt", *map(str, options)]).exit_code
        assert "B-1" in rebuilt.products()
        assert "has the log now" in ok("adopt", *options)
        assert "B-1" in rebuilt.products()

    def test_vectors_of_another_encoder_are_refused(self, rebuilt: Place, stored: Place) -> None:
        manifest, path = Bundle(stored.bundle).manifest, stored.settings.path
        assert path
        log = SqliteLog(path, manifest.line, "normal")
        catalogue = open_catalogue(Bundle(rebuilt.bundle))
        batches = log.read(0, 10)
        log._close()
        with pytest.raises(ConfigError, match="changes 2 to 2 of the log have vectors of the encoder"):
            catalogue.apply(batches)
        assert catalogue.sequence == 1


def test_two_that_swap_at_once_are_refused(stored: Place) -> None:
    stored.change(Delete("A-1001"))
    with alone(stored.bundle):
        assert "another process builds or swaps" in refused(
            "compact", "--bundle", stored.bundle, "--config", stored.config
        )
    assert not previous_of(stored.bundle).exists()
