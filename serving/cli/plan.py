"""aisle plan: machines for a catalogue and a rate of searches."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from rich.table import Table
from typer import Option

from serving.cli.terminal import out

if TYPE_CHECKING:
    from serving.capacity.figure import Figure, Origin
    from serving.capacity.plan import Plan

GIB = 1024**3


def plan(
    products: Annotated[int, Option(min=1, max=1_000_000_000, help="Products of the catalogue.")],
    qps: Annotated[float, Option(min=0.1, max=1_000_000, help="Searches a second at the peak.")],
    p99: Annotated[float, Option(min=1, max=60_000, help="Milliseconds in which 99 of 100 searches end.")] = 200,
    bundle: Annotated[
        Path | None, Option(help="A bundle of such products: its bytes by structure are planned with.")
    ] = None,
    dims: Annotated[
        int | None, Option(min=8, max=4096, help="Columns of a vector. Default: the bundle's, or 384.")
    ] = None,
    measured: Annotated[
        Path | None, Option(help="report.json of 'aisle load', or the file of 'aisle bench': figures of your machines.")
    ] = None,
    gpus: Annotated[bool, Option("--gpus", help="Search and encode on GPUs.")] = False,
    gpu_memory_gib: Annotated[float, Option(min=1, max=1024, help="Memory of a GPU.")] = 80,
    machine_cores: Annotated[int, Option(min=1, max=1024, help="Cores of a machine.")] = 16,
    machine_memory_gib: Annotated[float, Option(min=1, max=24_576, help="Memory of a machine.")] = 64,
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plans machines, memory, shards and replicas. Says of each figure whether it was measured, and where, or extrapolated, and how."""
    from models.bundles.bundle import Bundle
    from serving.capacity.bundle_bytes import SAMPLE, BundleBytes
    from serving.capacity.figure import Figure, Figures
    from serving.capacity.known import KNOWN
    from serving.capacity.plan import Wish
    from serving.capacity.plan import plan as planned
    from serving.capacity.reports import read_report

    sizes = SAMPLE
    if bundle is not None:
        sizes = BundleBytes.of(Bundle(bundle).manifest, f"the files of {bundle}")
    if dims is not None and dims != sizes.columns:
        sizes = sizes.of_vectors(dims)
    wish = Wish(
        products=products,
        qps=qps,
        p99_ms=p99,
        cores=machine_cores,
        memory_bytes=machine_memory_gib * GIB,
        gpus=gpus,
        gpu_memory_bytes=gpu_memory_gib * GIB,
    )
    figures = Figures([*KNOWN, *(read_report(measured) if measured else ())])
    found = planned(wish, sizes, figures)
    origin: Origin = "measured" if products == sizes.products and dims is None else "extrapolated"
    parts = [
        Figure(f"{part}, a product", size, "bytes", origin, sizes.source) for part, size in sizes.by_product.items()
    ]
    if as_json:
        values = asdict(found) | {
            "num_machines": found.num_machines,
            "figures": [asdict(each) for each in [*parts, *found.figures]],
        }
        print(json.dumps({"wish": asdict(wish), "plan": values}, indent=1))
    else:
        _print(found, [*parts, *found.figures])


def _print(found: Plan, figures: list[Figure]) -> None:
    rows = {
        "machines": f"{found.num_machines:,}, of which one of each kind may be away",
        "index": f"{found.index}, {found.shards} shard{'s' if found.shards > 1 else ''}",
        "p99": f"{found.p99_ms:.0f} ms at {found.used:.0%} of the capacity",
        "work": f"{found.search_ms:.1f} core-ms a search, on all machines together",
        "bundle": f"{_size(found.bundle_bytes)}",
        "start": f"{_time(found.start_s)}",
        "build": f"{_time(found.build_s)} of one machine, without the lists of an index",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for label, value in rows.items():
        table.add_row(label, value)
    out.print(table, "")
    kinds = Table(box=None, pad_edge=False)
    for heading in ("kind", "machines", "cores", "processes", "GPUs", "memory", "of which"):
        kinds.add_column(heading, justify="left" if heading in ("kind", "of which") else "right")
    for each in found.machines:
        kinds.add_row(
            each.role,
            f"{each.shards} x {each.count}" if each.shards > 1 else str(each.count),
            str(each.cores),
            str(each.gateways),
            str(each.gpus),
            _size(each.bytes),
            ", ".join(f"{use} {_size(size)}" for use, size in each.memory.items()),
        )
    out.print(kinds, "")
    for warning in found.warnings:
        out.print(f"[yellow]note:[/yellow] {escape(warning)}", highlight=False)
    _print_figures(figures)


def _print_figures(figures: list[Figure]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("figure", "value", "", "origin", "where, or how"):
        table.add_column(heading, justify="right" if heading == "value" else "left", overflow="fold")
    for figure in figures:
        value = _size(figure.value) if figure.unit == "bytes" else f"{figure.value:,.3g}"
        table.add_row(
            escape(figure.name),
            value,
            "" if figure.unit == "bytes" else figure.unit,
            figure.origin,
            escape(figure.source),
        )
    out.print("", table, highlight=False)


def _size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:,.0f} {unit}" if unit in ("bytes", "KiB", "MiB") else f"{size:,.1f} {unit}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
