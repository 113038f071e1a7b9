"""What every command prints with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

out = Console()
err = Console(stderr=True)


def fail(message: str) -> NoReturn:
    err.print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


@contextmanager
def progress_bars() -> Iterator[Any]:
    """A callback (what, done, total) behind one bar for each thing that is going on."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err) as bars:
        tasks: dict[str, Any] = {}

        def update(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                for task in tasks.values():  # what went before is done
                    whole = bars.tasks[task].total or 1
                    bars.update(task, total=whole, completed=whole)
                    bars.stop_task(task)
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield update


def print_report(report: dict[str, Any]) -> None:
    for label, counts in (("skipped", report.get("skipped", {})), ("repaired", report.get("repaired", {}))):
        for reason, count in counts.items():
            out.print(f"[yellow]{label}[/yellow] {count:,} rows: {escape(reason)}", highlight=False)
    for example in report.get("examples", [])[:10]:
        out.print(f"  {example}", highlight=False, markup=False)
