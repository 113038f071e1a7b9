"""Imports tables of user behaviour as a log for training: import."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from typer import Argument, Option

from serving.cli.failures import needs
from serving.cli.options import as_command
from serving.cli.terminal import fail, out, progress_bars

if TYPE_CHECKING:
    import pyarrow as pa

    from models.events.importing.mapping import LogMapping
    from models.events.importing.suggest_mapping import SuggestedMapping


@dataclass(frozen=True, kw_only=True, slots=True)
class EventColumns:
    """Which column holds what. A path into nested values has dots, as item.id; =click is a constant."""

    time: Annotated[
        str | None, Option(metavar="COLUMN", help="When it happened: a number since 1970, or ISO 8601.")
    ] = None
    product: Annotated[str | None, Option(metavar="COLUMN", help="The product's id, as in the catalogue.")] = None
    kind_column: Annotated[
        str | None,
        Option(
            metavar="COLUMN",
            help="What the shopper did; see --kind. '=purchase': every row is an order line; '=click': a click or a view.",
        ),
    ] = None
    kind: Annotated[
        list[str] | None,
        Option(
            "--kind",
            metavar="NAME=KIND",
            help="A name in that column is an impression, click, cart or purchase; NAME= leaves it out. Repeatable.",
        ),
    ] = None
    clicked: Annotated[
        str | None,
        Option(metavar="COLUMN", help="A row is an impression, with a flag (with --shown: a list) of clicks."),
    ] = None
    carted: Annotated[str | None, Option(metavar="COLUMN", help="The same for carts.")] = None
    purchased: Annotated[str | None, Option(metavar="COLUMN", help="The same for purchases.")] = None
    shown: Annotated[str | None, Option(metavar="COLUMN", help="A row is a result page: its list of products.")] = None
    shopper: Annotated[str | None, Option(metavar="COLUMN", help="Who it was.")] = None
    session: Annotated[
        str | None, Option(metavar="COLUMN", help="The visit. Default: pauses of --session-gap divide them.")
    ] = None
    query: Annotated[str | None, Option(metavar="COLUMN", help="What was searched, if a search led to it.")] = None
    position: Annotated[str | None, Option(metavar="COLUMN", help="Place on the result page.")] = None
    price: Annotated[str | None, Option(metavar="COLUMN", help="Price of one item then.")] = None
    currency_column: Annotated[str | None, Option(metavar="COLUMN", help="Currency of the price.")] = None
    locale_column: Annotated[str | None, Option(metavar="COLUMN", help="Language and region.")] = None
    quantity: Annotated[
        str | None, Option(metavar="COLUMN", help="Of what was bought: purchases of 0 or less, returns, are left out.")
    ] = None
    event_id: Annotated[
        str | None, Option(metavar="COLUMN", help="An id of the event, by which duplicates are known.")
    ] = None

    def chosen(self) -> dict[str, str]:
        """Returns field -> column."""
        renamed = {"kind": "kind_column", "currency": "currency_column", "locale": "locale_column", "id": "event_id"}
        same = (
            "time",
            "product",
            "clicked",
            "carted",
            "purchased",
            "shown",
            "shopper",
            "session",
            "query",
            "position",
            "price",
            "quantity",
        )
        columns = {name: getattr(self, renamed.get(name, name)) for name in (*same, *renamed)}
        return {name: column for name, column in columns.items() if column is not None}

    def kinds(self) -> dict[str, str]:
        """Returns name -> kind."""
        kinds = {}
        for stated in self.kind or []:
            name, mark, kind = stated.rpartition("=")
            if not mark:
                fail(f"--kind is NAME=KIND, as view=click, not {stated!r}")
            kinds[name] = kind
        return kinds


@dataclass(frozen=True, kw_only=True, slots=True)
class EventSettings:
    """How cells are read. None: as the mapping says, else the default that the help names."""

    time_unit: Annotated[
        str | None, Option(help="Of times that are numbers: s, ms, us, ns, or auto (default): by their size.")
    ] = None
    time_format: Annotated[
        str | None,
        Option(help="Of times that are text: '%m/%d/%Y %H:%M', '%d.%m.%Y' ... Default: ISO 8601, or numbers."),
    ] = None
    timezone: Annotated[str | None, Option(help="Of times without a zone, as Europe/Berlin. Default: UTC.")] = None
    price_unit: Annotated[str | None, Option(help="main (default): 9.50, or minor: 950.")] = None
    decimal: Annotated[str | None, Option(help="point (default): 1,299.00, or comma: 1.299,00.")] = None
    currency: Annotated[
        str | None, Option(help="ISO 4217 code; an event with another currency keeps no price. Default: USD.")
    ] = None
    locale: Annotated[str | None, Option(help="Of events without one. Default: en-US.")] = None
    first_position: Annotated[int | None, Option(help="The first place on a page: 1 (default) or 0.")] = None
    encoding: Annotated[str | None, Option(help="Of text files: utf-8 (default) or latin-1.")] = None
    session_gap: Annotated[
        float | None,
        Option(help="Minutes without an event that end a session, where there is no --session. Default: 30."),
    ] = None

    def chosen(self) -> dict[str, str | int | float | None]:
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        settings["session_gap_minutes"] = settings.pop("session_gap")
        del settings["encoding"]  # of the sources
        return settings


@as_command
def import_events(
    *,
    files: Annotated[
        list[Path] | None,
        Argument(help="CSV, TSV, JSON lines (all also .gz) or Parquet; files, or folders of them.", show_default=False),
    ] = None,
    out_folder: Annotated[
        Path | None, Option("--out", help="Folder of the new log; with --suggest, the file for the mapping.")
    ] = None,
    format_name: Annotated[str | None, Option("--format", help="A ready mapping; --formats lists them.")] = None,
    mapping: Annotated[Path | None, Option(help="A TOML file that says what the columns hold.")] = None,
    suggest: Annotated[
        bool, Option("--suggest", help="Look at the files, and write such a TOML file to read and correct.")
    ] = False,
    formats: Annotated[
        bool, Option("--formats", help="List the ready mappings, and what each lacks for training.")
    ] = False,
    columns: EventColumns,
    settings: EventSettings,
    catalogue: Annotated[
        Path | None, Option(help="The catalogue: events of other products are counted and left out.")
    ] = None,
    id_column: Annotated[str, Option("--id", help="Column of --catalogue with the product id.")] = "id",
    bundle: Annotated[Path | None, Option(help="A bundle, instead of --catalogue.")] = None,
    bad_rows: Annotated[
        Path | None, Option(help="CSV file for the rows that cannot be used, each with its reason.")
    ] = None,
    max_bad: Annotated[
        float, Option(min=0.0, max=1.0, help="Largest share of bad rows; with more the command fails.")
    ] = 0.01,
    max_shopper_events: Annotated[
        int | None,
        Option(
            min=1,
            help="Events kept of one shopper, the first ones. Default: 1,000 of a robot, which has over 5 % of all events; all of others.",
        ),
    ] = None,
    memory: Annotated[
        float, Option(min=0.25, help="GiB of memory; what needs more goes to the disk, next to --out.")
    ] = 2.0,
    force: Annotated[bool, Option("--force", help="Replace the log if it exists.")] = False,
) -> None:
    """Imports a table of what shoppers did as a log, for --events of the training commands.

    A row is an event, an impression with flags, or a result page with lists. Without options the columns are named as in
    models/events/event.py. Every row that cannot be used is counted by reason. The log appears when it is whole: an interrupted import is
    simply repeated.
    """
    with needs("train"):
        from models.events.importing.import_log import ImportLimits, import_log
        from models.events.importing.suggest_mapping import suggest_mapping
    if formats:
        _list_formats()
        return
    if not files:
        fail("name the files to import, or --formats")
    if suggest:
        _suggest(suggest_mapping(files, _product_ids(catalogue, id_column, bundle)), out_folder)
        return
    if out_folder is None:
        fail("give --out with the folder of the new log")
    started = time.monotonic()
    chosen = _mapping(files, format_name, mapping, columns, settings)
    with progress_bars() as progress:
        report = import_log(
            files,
            out_folder,
            chosen,
            ImportLimits(memory_gib=memory, max_bad=max_bad, max_shopper_events=max_shopper_events),
            catalogue=_product_ids(catalogue, id_column, bundle),
            bad_rows_file=bad_rows,
            replace=force,
            progress=progress,
        )
    for line in report.lines():
        out.print(escape(line), highlight=False, soft_wrap=True)
    seconds = time.monotonic() - started
    out.print(
        f"{out_folder}, {seconds:.0f} s ({report.rows / max(seconds, 1e-9):,.0f} rows/s)",
        highlight=False,
        soft_wrap=True,
    )
    out.print(
        f"train with: aisle train all --catalogue ... --events {out_folder} --out SHOP", highlight=False, soft_wrap=True
    )


def _mapping(
    files: list[Path], format_name: str | None, file: Path | None, columns: EventColumns, settings: EventSettings
) -> LogMapping:
    from models.events.importing.mapping import FLAGS, LogMapping, SourceMapping, by_name, ready_format

    stated, kinds = columns.chosen(), columns.kinds()
    if (format_name is not None) + (file is not None) + bool(stated) > 1:
        fail("give one of --format, --mapping, and options of columns")
    if stated:
        flags = any(name in stated for name in FLAGS)
        shape = "pages" if "shown" in stated else "impressions" if flags and "kind" not in stated else "events"
        source = SourceMapping(shape=shape, columns=stated, kinds=kinds, encoding=settings.encoding or "utf-8")
        return LogMapping(sources=(source,)).with_settings(**settings.chosen())
    if format_name is not None:
        found = ready_format(format_name)
    elif file is not None:
        found = LogMapping.load(file)
    else:
        found = by_name(_columns_of(files))
    if kinds or settings.encoding:
        sources = (
            dataclasses.replace(source, kinds={**source.kinds, **kinds}, encoding=settings.encoding or source.encoding)
            for source in found.sources
        )
        found = dataclasses.replace(found, sources=tuple(sources))
    return found.with_settings(**settings.chosen())


def _columns_of(files: list[Path]) -> list[str]:
    import duckdb

    from models.events.importing.source_files import find_files, open_file

    with duckdb.connect() as connection:
        return list(open_file(connection, find_files(files)[0]).columns)


def _product_ids(catalogue: Path | None, id_column: str, bundle: Path | None) -> pa.Array | None:
    import pyarrow as pa

    if catalogue is not None and bundle is not None:
        fail("give either --catalogue or --bundle")
    if bundle is not None:
        from models.bundles.bundle import Bundle

        return pa.array(Bundle(bundle).products().strings("id"), pa.large_string())
    if catalogue is not None:
        from models.events.importing.source_files import distinct_ids

        return distinct_ids(catalogue, id_column)
    return None


def _suggest(mapping: SuggestedMapping, file: Path | None) -> None:
    if file is None:
        print(mapping.toml, end="")
        return
    if file.exists():
        fail(f"{file} exists; give another --out")
    file.write_text(mapping.toml, encoding="utf-8")
    for assumed in mapping.assumed:
        out.print(escape(assumed), highlight=False, soft_wrap=True)
    out.print(f"{file}: read it, correct it, then import with --mapping {file}", highlight=False, soft_wrap=True)


def _list_formats() -> None:
    from models.events.importing.mapping import format_names, ready_format

    for name in format_names():
        ready = ready_format(name)
        out.print(f"[bold]{name}[/bold]  {escape(ready.description)}", highlight=False, soft_wrap=True)
        for lack in ready.lacks:
            out.print(f"    {escape(lack)}", highlight=False, soft_wrap=True)
