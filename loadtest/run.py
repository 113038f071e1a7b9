"""One command for the load test: serves a bundle, lets Locust's users search it, prints the percentiles.

python -m loadtest.run --bundle bundles/sample --users 32 --seconds 30
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadtest.benchmarks.service import bundle_queries, served
from loadtest.errors import LoadError
from loadtest.report import LoadReport
from loadtest.traffic import write_queries
from serving.cli.failures import failures

LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def run_locust(server: str, queries: Path, users: int, seconds: int) -> LoadReport:
    """Headless Locust in a process of its own, since gevent patches all of it. Raises LoadError when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--headless", "--host", server),
                *("--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds}s"),
                *("--only-summary", "--exit-code-on-error", "0", "--loglevel", "ERROR"),
            ],
            env={**os.environ, "AISLE_QUERIES": str(queries), "AISLE_REPORT": str(report)},
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + 240,
        )
        if done.returncode or not report.exists():
            raise LoadError(f"locust failed: {done.stderr[-2000:]}")
        took, latencies, codes = report.read_text(encoding="utf-8").splitlines()
    return LoadReport(float(took), [float(ms) for ms in latencies.split(",") if ms], Counter(ast.literal_eval(codes)))


def main(
    bundle: Annotated[Path | None, typer.Option(help="Serve this bundle for the test.")] = None,
    server: Annotated[str, typer.Option(help="Test this running service instead; needs --queries.")] = "",
    queries: Annotated[Path | None, typer.Option(help="One query a line, the most popular first.")] = None,
    users: Annotated[int, typer.Option(min=1, max=512)] = 32,
    seconds: Annotated[int, typer.Option(min=1, max=600)] = 30,
) -> None:
    """Searches as fast as the users get answers (a closed loop) and prints percentiles and codes."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        if queries is None:
            if bundle is None:
                raise typer.BadParameter("give --bundle, or --server with --queries")
            queries = Path(folder) / "queries.txt"
            write_queries(queries, bundle_queries(bundle, 10_000))
        title = f"Locust, {users} users for {seconds} s"
        if server:
            run_locust(server, queries, users, seconds).print(console, f"{title} against {server}")
        elif bundle is not None:
            with served(bundle) as service:
                run_locust(service.address, queries, users, seconds).print(console, f"{title}, {bundle}")


if __name__ == "__main__":
    with failures():
        typer.run(main)
