"""`aisle bench`: measures the serving figures of `docs/benchmarks.md` in one run, as ratios of two sides that take turns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.status import Status

from loadtest.benchmarks.bench_batcher import bench_batcher
from loadtest.benchmarks.bench_catalogue import bench_catalogue
from loadtest.benchmarks.bench_echo import bench_echo
from loadtest.benchmarks.bench_encoder import bench_encoder
from loadtest.benchmarks.bench_encoder_service import bench_encoder_service
from loadtest.benchmarks.bench_gpu_index import bench_gpu_index
from loadtest.benchmarks.bench_index import bench_index
from loadtest.benchmarks.bench_metrics import bench_metrics
from loadtest.benchmarks.bench_overload import bench_overload
from loadtest.benchmarks.bench_personal import bench_personal
from loadtest.benchmarks.bench_ranking import bench_ranking
from loadtest.benchmarks.bench_rolling import bench_rolling
from loadtest.benchmarks.bench_scaling import bench_scaling
from loadtest.benchmarks.bench_search import bench_search
from loadtest.benchmarks.bench_shards import bench_shards
from loadtest.benchmarks.bench_shoppers import bench_shoppers
from loadtest.benchmarks.bench_stock import bench_stock
from loadtest.benchmarks.bench_types import bench_types
from loadtest.benchmarks.figures import Figures
from loadtest.benchmarks.setup import Setup
from models.bundle_parts import verify_bundle
from models.bundles.bundle import Bundle
from models.errors import InputError

QUICK_ROUNDS = 2
BENCHMARKS: dict[str, Callable[[Setup], None]] = {
    "echo": bench_echo,
    "search": bench_search,
    "stock": bench_stock,
    "batcher": bench_batcher,
    "encoder": bench_encoder,
    "encoder_service": bench_encoder_service,
    "overload": bench_overload,
    "index": bench_index,
    "gpu_index": bench_gpu_index,
    "personal": bench_personal,
    "types": bench_types,
    "ranking": bench_ranking,
    "shoppers": bench_shoppers,
    "rolling": bench_rolling,
    "shards": bench_shards,
    "scaling": bench_scaling,
    "catalogue": bench_catalogue,
    "metrics": bench_metrics,
}


def run_benchmarks(
    bundle: Path,
    *,
    only: Sequence[str],
    rounds: int,
    json_file: Path,
    vectors: Path | None,
    personal: Path | None,
    quick: bool,
    console: Console,
) -> None:
    """Runs the benchmarks named in `only`, or all, prints a table for each and writes all figures as JSON."""
    unknown = set(only) - set(BENCHMARKS)
    if unknown:
        raise InputError(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    verify_bundle(Bundle(bundle))
    figures = Figures()
    for name in only or BENCHMARKS:
        with console.status(name) as status:
            setup = Setup(
                bundle,
                QUICK_ROUNDS if quick else rounds,
                0.5 if quick else 4.0,
                vectors,
                personal,
                quick,
                figures,
                json_file.absolute().parent,
                functools.partial(_say, status, name),
                functools.partial(_leave_out, console, name),
            )
            BENCHMARKS[name](setup)
        figures.print(console, name)
        figures.write(json_file)
    console.print(f"figures in {json_file}")


def _say(status: Status, name: str, step: str) -> None:
    status.update(f"{name}: {step}")


def _leave_out(console: Console, name: str, reason: str) -> None:
    console.print(f"{name}: left out: {reason}", highlight=False)
