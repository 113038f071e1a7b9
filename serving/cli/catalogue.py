"""The log and the generations of a catalogue: status, compact, rollback, snapshot, restore, verify, adopt."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.table import Table
from typer import Argument, Option, Typer

from serving.cli.options import ServiceOptions, as_command
from serving.cli.terminal import fail, out, progress_bars

if TYPE_CHECKING:
    from models.bundles.manifest import Manifest
    from serving.catalogue.log import ChangeLog
    from serving.config import CatalogueConfig

catalogue_app = Typer(no_args_is_help=True, help="The log of a catalogue's changes, and its generations.")
BundleFolder = Annotated[Path, Option("--bundle", help="The bundle that is served.")]
Config = Annotated[Path | None, Option(help="Configuration that it is served with.")]
SNAPSHOT_LOG = "changes.db"
SNAPSHOT_BUNDLE = "bundle"
READ_AT_ONCE = 2_000  # changes


@catalogue_app.command()
@as_command
def status(*, service: ServiceOptions) -> None:
    """Shows how many changes came since the bundle was built, and how far each process has applied them."""
    from aisle.v1 import catalogue_pb2, catalogue_pb2_grpc
    from serving.cli.client import connected

    with connected(service) as connection:
        stub = catalogue_pb2_grpc.CatalogueServiceStub(connection.channel)
        answer = connection.call(stub.GetCatalogueStatus, catalogue_pb2.GetCatalogueStatusRequest())
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "bundle": f"{answer.bundle_version}, built with change {answer.bundle_sequence:,}",
        "log": f"ends with change {answer.logged_sequence:,}",
        "products": f"{answer.products:,}",
        "since the bundle": f"{answer.added_rows:,} rows added, {answer.removed_rows:,} removed, "
        f"{answer.changed_offers:,} offers changed",
    }
    for label, value in rows.items():
        table.add_row(label, value)
    for replica in answer.replicas:
        table.add_row(f"process {replica.name}", f"at change {replica.applied_sequence:,}, {replica.lag:,} behind")
    out.print(table)


@catalogue_app.command()
def compact(bundle: BundleFolder, config: Config = None) -> None:
    """Builds the next generation: the bundle with all changes of the log in it. 'aisle serve' does this by itself, and takes it in.

    A service that runs takes it in when it gets SIGHUP. The bundle before stays, for 'aisle catalogue rollback'. A build that fails or is
    interrupted changes nothing.
    """
    from models.bundles.bundle import Bundle
    from serving.catalogue.open_log import build_lease
    from serving.cli import generations

    folder, settings = bundle.resolve(), _settings(config)
    with generations.alone(folder):
        pass  # a swap that was killed is finished: until then nothing may be at the bundle's place
    before = Bundle(folder).manifest
    _check_there_is_a_log(settings, before)
    with (
        _opened_log(settings, before) as (log, _),
        build_lease(settings, before.name) as may_swap,
        progress_bars() as progress,
    ):
        manifest = generations.compact(folder, log, progress, may_swap)
    if manifest is None:
        out.print(f"{bundle} has all changes of the log already, up to {before.sequence:,}", highlight=False)
        return
    said = f"{manifest.products:,} products, with the changes up to {manifest.sequence:,}"
    out.print(f"{bundle} is version {manifest.version}: {said}", highlight=False)
    out.print("a running service takes it in on SIGHUP", highlight=False)


@catalogue_app.command()
def rollback(bundle: BundleFolder, config: Config = None) -> None:
    """Puts the generation before in the place of the bundle. Its changes are replayed from the log, so that none is lost."""
    from serving.cli import generations

    settings = _settings(config)

    def check(previous: Manifest) -> None:
        _check_there_is_a_log(settings, previous)
        with _opened_log(settings, previous) as (log, _):
            log.read(previous.sequence, 1)  # has what follows it

    manifest = generations.roll_back(bundle.resolve(), check)
    out.print(f"{bundle} is version {manifest.version} again, built with change {manifest.sequence:,}", highlight=False)
    out.print("a running service takes it in on SIGHUP", highlight=False)


@catalogue_app.command()
def snapshot(
    bundle: BundleFolder,
    snapshot_folder: Annotated[Path, Option("--out", help="New folder for the snapshot.")],
    config: Config = None,
) -> None:
    """Copies the bundle and the log as they are now, while they are served. Files that do not change are linked."""
    from models.bundles.bundle import Bundle
    from serving.catalogue.sqlite_log import SqliteLog

    if snapshot_folder.exists():
        fail(f"{snapshot_folder} exists; choose another --out")
    settings = _settings(config)
    _check_there_is_a_log(settings, Bundle(bundle.resolve()).manifest)
    manifest = _link(bundle.resolve(), snapshot_folder / SNAPSHOT_BUNDLE)
    with _opened_log(settings, manifest) as (log, runner):
        copy = SqliteLog(snapshot_folder / SNAPSHOT_LOG, manifest.line, "full", manifest.sequence)
        head = runner.run(_copy_changes(log, copy, manifest.sequence))
        runner.run(copy.close())
    out.print(f"{snapshot_folder} holds the catalogue up to change {head:,}", highlight=False)


@catalogue_app.command()
def restore(
    snapshot_folder: Annotated[Path, Argument(help="Folder of 'aisle catalogue snapshot'.")],
    bundle: Annotated[Path, Option("--bundle", help="Where to put the bundle. Must not exist.")],
    config: Config = None,
) -> None:
    """Puts a snapshot's bundle in place, and its changes into the configured log, which must be empty."""
    from models.bundles.bundle import Bundle
    from models.bundles.extend import link_bundle
    from serving.catalogue.sqlite_log import SqliteLog

    source, settings = Bundle(snapshot_folder / SNAPSHOT_BUNDLE), _settings(config)
    manifest = source.manifest
    if not (snapshot_folder / SNAPSHOT_LOG).is_file():
        fail(f"{snapshot_folder} holds no {SNAPSHOT_LOG}: it is no snapshot")
    if bundle.exists():
        fail(f"{bundle} exists; choose another --bundle")
    with _opened_log(settings, manifest) as (log, runner):
        if (head := log.head()) > manifest.sequence:
            fail(f"the configured log goes on to change {head:,} already; name a new one in the configuration")
        held = SqliteLog(snapshot_folder / SNAPSHOT_LOG, manifest.line, "full", manifest.sequence)
        head = runner.run(_copy_changes(held, log, manifest.sequence))
        runner.run(held.close())
    link_bundle(source, bundle)
    said = f"serve it with: aisle serve --bundle {bundle}"
    out.print(f"{bundle} is restored, up to change {head:,}; {said}", highlight=False, soft_wrap=True)


@catalogue_app.command()
def verify(bundle: BundleFolder, config: Config = None) -> None:
    """Reads every file of the bundle and every change of the log, and applies them, as a service would."""
    from models.bundle_parts import verify_bundle
    from models.bundles.bundle import Bundle
    from serving.catalogue.open_catalogue import open_catalogue

    opened = Bundle(bundle.resolve())
    manifest = opened.manifest
    _check_there_is_a_log(_settings(config), manifest)
    verify_bundle(opened)
    with _opened_log(_settings(config), manifest) as (log, _), progress_bars() as progress:
        catalogue = open_catalogue(opened)
        while batches := log.read(catalogue.sequence, READ_AT_ONCE):
            catalogue.apply(batches)
            progress("apply changes", catalogue.sequence - manifest.sequence, None)
    changes, living = catalogue.sequence - manifest.sequence, catalogue.table.num_alive
    said = f"{manifest.products:,} products and {changes:,} changes give {living:,} products"
    out.print(f"{bundle}: {said}", highlight=False)


@catalogue_app.command()
def adopt(
    bundle: BundleFolder,
    after: Annotated[
        int, Option(min=0, help="The last change of the log that the bundle has already; 0 if it has none of them.")
    ],
    config: Config = None,
) -> None:
    """Lets a bundle that was built anew from a catalogue go on with the log of the one before. The service must be stopped.

    Only you know which changes the file that it was built from had already: those after --after are encoded anew and replayed over it.
    """
    from models.bundles.bundle import Bundle
    from serving.catalogue.adopt import adopt_log
    from serving.catalogue.open_log import log_path

    opened, settings = Bundle(bundle.resolve()), _settings(config)
    if settings.log != "sqlite":
        fail("only a log in SQLite can be adopted")
    with _failures_of_log(), progress_bars() as progress:
        copied, old = adopt_log(log_path(settings, opened.manifest.name), opened, after, progress)
    said = f"{copied:,} changes come after what it was built from; the old log is {old}"
    out.print(f"{bundle} has the log now: {said}", highlight=False, soft_wrap=True)


def _settings(config: Path | None) -> CatalogueConfig:
    from serving.config import load_config

    settings = load_config(config).catalogue
    if settings.log == "off":
        fail("catalogue.log is off: the catalogue takes no changes")
    return settings


def _check_there_is_a_log(settings: CatalogueConfig, manifest: Manifest) -> None:
    """Ends the command where it would make a new log: the path is mistyped, or no service has run yet."""
    from serving.catalogue.open_log import log_path

    if settings.log == "sqlite" and not (path := log_path(settings, manifest.name)).exists():
        fail(
            f"{path} does not exist: no service of this bundle has run yet, or it runs with another catalogue.path; name its configuration "
            "with --config"
        )


@contextmanager
def _failures_of_log() -> Iterator[None]:
    """Ends the command with one line if the log fails, or has ended."""
    from serving.catalogue.log import LogEnded
    from serving.errors import AisleError

    try:
        yield
    except (LogEnded, AisleError) as error:
        fail(str(error))


@contextmanager
def _opened_log(settings: CatalogueConfig, manifest: Manifest) -> Iterator[tuple[ChangeLog, asyncio.Runner]]:
    """Opens the log of a bundle, and the loop that it is used in."""
    from serving.catalogue.open_log import open_log

    with _failures_of_log(), asyncio.Runner() as runner:
        log = open_log(settings, manifest.name, manifest.line, manifest.sequence)
        assert log is not None  # noqa: S101 - `_settings` has seen to it
        try:
            yield log, runner
        finally:
            runner.run(log.close())


async def _copy_changes(log: ChangeLog, copy: ChangeLog, after: int) -> int:
    """Appends the changes of a log after a sequence to another. Returns the last sequence."""
    while batches := log.read(after, READ_AT_ONCE):
        for logged in batches:
            after = (await copy.append(logged.batch)).last
    return after


def _link(folder: Path, copy: Path) -> Manifest:
    """Links the bundle that is served, or the next one if it takes its place meanwhile."""
    from models.bundles.bundle import Bundle
    from models.bundles.extend import link_bundle
    from models.bundles.manifest import BundleError

    while True:
        opened = Bundle(folder)
        try:
            link_bundle(opened, copy)
        except (BundleError, FileNotFoundError):
            if Bundle(folder).manifest == opened.manifest:
                raise
        else:
            return opened.manifest
