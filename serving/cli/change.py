"""The commands that change the catalogue of a running service: upsert, delete, follow."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from typer import Argument, Exit, Option

from serving.cli.options import CatalogueColumns, ServiceOptions, as_command
from serving.cli.terminal import err, fail, out, print_report, progress_bars

if TYPE_CHECKING:
    from models.bundles.source import Source
    from serving.cli.client import Connection
    from serving.cli.send_changes import ChangeSender, Sent

MAX_NAMED = 8  # attributes in one warning


@as_command
def upsert(
    *,
    catalogue: Annotated[
        Path, Argument(help="Products: .csv, .tsv, .jsonl, .json (or .gz of them), .parquet, or a folder of .parquet.")
    ],
    service: ServiceOptions,
    columns: CatalogueColumns,
) -> None:
    """Adds the products of a file to the catalogue of a running service. Those whose ids it has become what the file says of them.

    State the columns as for 'aisle build': an attribute that the file does not state is lost with the product that is replaced. Rows that
    cannot be used are counted, with the reason; with too many of them, see --max-lost, nothing is sent. When the command ends, searches
    find the products. It may be repeated. If a product was refused, the exit code is 1. An API key needs catalogue:write and info.

      aisle upsert new.csv --title name --price price --attribute colour
    """
    from serving.cli.client import connected

    source = columns.source(catalogue)
    with connected(service) as connection, progress_bars() as progress:
        sender = _sender(connection, columns.currency, source)
        for done, _ in enumerate(source.products(), 1):
            if done % 1000 == 0:
                progress("read", done, source.num_products)
        num_products = int(source.report()["products"])
        batch = []
        for done, product in enumerate(source.products(), 1):
            batch.append(product)
            if len(batch) == sender.batch or done == num_products:
                sender.upsert(batch)
                batch.clear()
                progress("send products", done, num_products)
        if batch:  # the file has become another since it was counted
            sender.upsert(batch)
    _print_report(source)
    _print_sent(sender.sent)


@as_command
def delete(
    *,
    product: Annotated[list[str], Argument(help="Ids of the products.")],
    service: ServiceOptions,
) -> None:
    """Takes products out of the catalogue of a running service: when the command ends, no answer holds them.

    An id that the catalogue does not have changes nothing. An API key needs catalogue:write and info.

      aisle delete sofa-17 sofa-18
    """
    from serving.cli.client import connected
    from serving.cli.send_changes import ChangeSender

    with connected(service) as connection:
        sender = ChangeSender(connection)
        sender.delete(list(dict.fromkeys(product)))
    _print_sent(sender.sent)


@as_command
def follow(
    *,
    catalogue: Annotated[Path, Argument(help="The feed: a file or folder as for 'aisle upsert'.")],
    service: ServiceOptions,
    columns: CatalogueColumns,
    state: Annotated[
        Path | None,
        Option(help="File that remembers what the service has of the feed. Default: the feed's name with '.followed'."),
    ] = None,
    every: Annotated[float, Option(min=0.1, help="Seconds between two looks at the feed.")] = 10.0,
    once: Annotated[bool, Option("--once", help="Look once, and end: for cron.")] = False,
) -> None:
    """Keeps a running service in step with a feed that your systems write: sends what changed, deletes what vanished.

    Each time the feed is written, new and changed products are upserted; of those whose price or stock alone changed only these are sent.
    Write the feed aside and rename it, so that it is whole at any time. A feed that lost more than the share --max-lost of its products, or
    of its rows, is more often broken than true: nothing of it is sent.

    The first time, products that the service has already as the feed states them are not sent again, and what it has beyond the feed stays.
    While the service is away the command waits for it. With --once the exit code is 1 if anything was not done. An API key needs
    catalogue:write, catalogue:read and info.

      aisle follow feed/products.parquet --attribute colour --currency EUR
    """
    import grpc

    from models.errors import InputError
    from serving.cli.client import connected
    from serving.cli.feed import Feed, locked
    from serving.cli.send_changes import AWAY

    path = catalogue.resolve()
    remembered = state or path.with_name(path.name + ".followed")
    with locked(remembered), connected(service) as connection:
        feed = Feed(path, remembered, service.server, columns.max_lost)
        done: object = None
        told = ""
        while True:
            seen, failed = None, ""
            try:
                seen = feed.settled()
                if seen != done:
                    source = columns.source(path)
                    with progress_bars() as progress:
                        sender = _sender(connection, columns.currency, source, warns=done is None)
                        counts = feed.send(source, seen, sender, progress)
                    _print_report(source)
                    out.print(str(counts), highlight=False, soft_wrap=True)
                    _print_sent(sender.sent, ends=once)
                done = seen
            except InputError as error:
                if once:
                    raise
                failed, done = str(error), seen  # the same feed would fail again
            except grpc.RpcError as error:
                if once or error.code() not in (
                    *AWAY,
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                ):  # a full log, or overload: it passes
                    raise
                failed = f"{error.code().name}: {error.details()}"
            if once:
                return
            if failed and failed != told:
                err.print(f"[yellow]not sent:[/yellow] {escape(failed)}", highlight=False, soft_wrap=True)
            told = failed
            time.sleep(every)


def _sender(connection: Connection, currency: str, source: Source, *, warns: bool = True) -> ChangeSender:
    """Returns what sends the products of a source. Ends the command if their prices are in another currency than the service's, and `warns`
    of attributes that the service or the file does not have."""
    from serving.cli.send_changes import ChangeSender

    sender = ChangeSender(connection)
    if sender.currency != currency:
        fail(f"the service's prices are in {sender.currency}, not {currency}; set --currency {sender.currency}")
    if warns and sender.attributes and not source.keeps_rare:
        stated = set(source.attributes)
        _warn("the service has no attributes", stated - set(sender.attributes), "they are returned, but filter nothing")
        _warn("the file states no attributes", set(sender.attributes) - stated, "products that it replaces lose them")
    return sender


def _warn(what: str, names: set[str], so: str) -> None:
    if names:
        more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
        said = escape(f"{what} {', '.join(sorted(names)[:MAX_NAMED])}{more}: {so}")
        err.print(f"[yellow]note:[/yellow] {said}", highlight=False, soft_wrap=True)


def _print_report(source: Source) -> None:
    """Prints which rows were skipped or repaired. The types of the attributes are the service's."""
    print_report({name: value for name, value in source.report().items() if name != "attributes"})


def _print_sent(sent: Sent, *, ends: bool = True) -> None:
    """Prints what became of the changes. Ends the command with exit code 1 if some were refused, and `ends`."""
    if sent.accepted:
        seen = "visible" if sent.is_visible else "logged, but some replica has yet to apply them"
        out.print(f"{sent.accepted:,} changes accepted, {seen}; sequence {sent.sequence}", highlight=False)
    elif not sent.refused:
        out.print("nothing to change")
    for reason in sent.reasons:
        out.print(f"[yellow]refused[/yellow] {escape(reason)}", highlight=False, soft_wrap=True)
    if sent.refused:
        out.print(f"{sent.refused:,} refused", highlight=False)
        if ends:
            raise Exit(1)
