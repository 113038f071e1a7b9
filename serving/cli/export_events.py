"""aisle export-events: what a service showed and what shoppers did there becomes a log to train on."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from rich.markup import escape
from typer import Option

from serving.cli.options import as_command
from serving.cli.terminal import fail, out, progress_bars


@as_command
def export_events(
    *,
    bundle: Annotated[Path, Option(help="The bundle that is served.")],
    config: Annotated[Path | None, Option(help="Configuration that it is served with.")] = None,
    out_file: Annotated[Path, Option("--out", help="Parquet file of the new log.")],
    since: Annotated[
        str,
        Option(
            metavar="TIME", help="Only pages and events from this time on, as 2026-11-01 or 2026-11-01T18:00, in UTC."
        ),
    ] = "",
    until: Annotated[str, Option(metavar="TIME", help="Only those before this time.")] = "",
    shopper_ids: Annotated[
        bool, Option("--shopper-ids", help="Name shoppers by their ids instead of pseudonyms. Redis only.")
    ] = False,
    force: Annotated[bool, Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Exports what a service showed and what shoppers did as a log, for --events of the training commands and for 'aisle import'.

    Reads the shopper store and the request log while services go on using both, and changes neither. Shown products become impressions
    with their places; clicks, carts and purchases belong to the page whose request_id they name. Shoppers are pseudonyms.

      aisle export-events --bundle bundles/mine --config aisle.toml --out logs/week.parquet --since 2026-11-01

      aisle train all --catalogue products.parquet --events logs/week.parquet --out shops/mine
    """
    from models.bundles.bundle import Bundle
    from models.events.exporting.page_log import read_pages
    from models.events.exporting.served_log import ServedLog
    from models.events.write_events import write_events
    from serving.config import load_config
    from serving.request_log.page_files import pages_folder
    from serving.shoppers.stored_events import stored_events

    if out_file.is_dir():
        fail(f"{out_file} is a folder; --out is a file")
    if out_file.exists() and not force:
        fail(f"{out_file} exists; give --force to replace it, or another --out")
    since_ms, until_ms = _time_ms("--since", since), _time_ms("--until", until)
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        fail(f"--since {since} must be before --until {until}")
    started, settings, name = time.monotonic(), load_config(config), Bundle(bundle).manifest.name
    folder = pages_folder(settings.request_log, name)
    with progress_bars() as progress:
        pages = read_pages(folder, since_ms, until_ms, progress)
        served = ServedLog(pages, since_ms, until_ms)
        served.join(stored_events(settings.shoppers, name, with_ids=shopper_ids), progress)
        if not served.rows.num_impressions and not served.counts.events:
            fail(f"there is nothing to export: no page in {folder}, and no event in the shopper store in that time")
        out_file.parent.mkdir(parents=True, exist_ok=True)
        num_rows = write_events(out_file, served.rows.batches(progress))
    for line in served.counts.lines():
        _say(line)
    if pages.unread_files:
        named = ", ".join(pages.unread_files[:5])
        _say(f"{len(pages.unread_files):,} files of the request log cannot be read and were left out: {named}")
    if not served.rows.num_impressions:
        _say(f"no impressions: {folder} has no pages of that time; set share in [request_log] to log them")
    if served.counts.by_request and not served.counts.tagged:
        _say(
            "no page has a pseudonym: pages with an event have a shopper and the others none, so that a ranker may take a history for a "
            "sign of clicks; set shoppers = 'pseudonym' in [request_log] before it learns from such a log"
        )
    seconds = time.monotonic() - started
    _say(f"{num_rows:,} events, {served.rows.num_impressions:,} of them impressions, in {out_file}, {seconds:.0f} s")
    _say(f"train with: aisle train all --catalogue ... --events {out_file} --out SHOP")


def _say(line: str) -> None:
    out.print(escape(line), highlight=False, soft_wrap=True)


def _time_ms(option: str, text: str) -> int | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option} is a date or time as 2026-11-01 or 2026-11-01T18:00, not {text!r}")
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
