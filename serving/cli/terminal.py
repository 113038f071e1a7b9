"""What every command prints with."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from models.arrays import Progress
    from models.bundles.manifest import Manifest

out = Console()
err = Console(stderr=True)
MAX_UNREAD = 20  # columns that are named
MAX_ATTRIBUTES = 30  # whose types are printed


def fail(message: str, code: int = 1) -> NoReturn:
    """Ends the command with one line on stderr and an exit code."""
    err.print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Yields a `models.arrays.Progress` that draws one bar for each step."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    bars = Bars(*columns, console=err)
    tasks: dict[str, TaskID] = {}

    def update(what: str, done: int, total: int | None) -> None:
        if not tasks:
            bars.start()  # not before: a command that is refused prints its error alone
        if what not in tasks:
            for task in tasks.values():  # earlier steps are done
                whole = bars.tasks[task].total or 1
                bars.update(task, total=whole, completed=whole)
                bars.stop_task(task)
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done, total=total)

    try:
        yield update
    finally:
        if tasks:
            bars.stop()


def command_line() -> str:
    """Returns the command as it was given, for a report."""
    return shlex.join(["aisle", *sys.argv[1:]])


def print_built(manifest: Manifest, out_folder: Path, started: float) -> None:
    print_report(manifest.catalogue["report"])
    if unread := manifest.catalogue["report"].get("unread"):
        named = ", ".join(unread[:MAX_UNREAD]) + (
            f" and {len(unread) - MAX_UNREAD} more" if len(unread) > MAX_UNREAD else ""
        )
        out.print(
            f"[yellow]not read[/yellow]: {escape(named)}. --text adds a column that describes products in words, --attribute one to filter "
            "and search by, --identifier one of codes",
            highlight=False,
        )
    seconds = time.monotonic() - started
    out.print(f"{manifest.products:,} products in {out_folder} (version {manifest.version}), {seconds:.0f} s")
    out.print(f"serve them with: aisle serve --bundle {out_folder}", highlight=False)


def print_report(report: dict[str, Any]) -> None:
    """Prints the rows of a catalogue that were skipped or repaired, by reason, with examples, and the types of its attributes."""
    for label, counts in (("skipped", report.get("skipped", {})), ("repaired", report.get("repaired", {}))):
        for reason, count in counts.items():
            out.print(f"[yellow]{label}[/yellow] {count:,} rows: {escape(reason)}", highlight=False)
    attributes = report.get("attributes", {})
    for name, facts in list(attributes.items())[:MAX_ATTRIBUTES]:
        unit = f" in {facts['unit']}" if facts["unit"] else ""
        unread = f", {facts['unread']:,} of {facts['cells']:,} cells cannot be read as such" if facts["unread"] else ""
        out.print(f"attribute {escape(name)}: {facts['type']}{escape(unit)}{unread}", highlight=False)
    if len(attributes) > MAX_ATTRIBUTES:
        out.print(f"and {len(attributes) - MAX_ATTRIBUTES:,} more attributes", highlight=False)
    for example in report.get("examples", [])[:10]:
        out.print(f"  {example}", highlight=False, markup=False)
