"""Fault drills: a real service is updated or killed under load, and what was lost is counted.

python -m tests.faults updates --rate 130 --number 5
python -m tests.faults kills --number 5
python -m tests.faults neighbours --bundle bundles/personal
python -m tests.faults catalogue-model --operations 200000 --seed 1
python -m tests.faults crasher --kills 100
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadtest.benchmarks.service import Service, bundle_queries, served
from loadtest.traffic import QueryMix
from models.bundles.build import Recipe, build_bundle
from models.bundles.extend import link_folder
from models.bundles.sources import sample_source
from models.text_encoder.embed_products import TextEmbedding
from tests.faults.crasher import REMOTE_RETRIEVER, crash
from tests.faults.kills import kill_gateways
from tests.faults.neighbours import search_beside_heavy_work, two_callers
from tests.faults.updates import update_under_load

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""Drills: updates or kills the gateways of a real service under load, or sets heavy work beside light, and counts what was lost.

Every drill starts a service of its own on a free port, sends planned calls (an open loop) with the documented client, and exits with 1
if something was lost. Refusals (RESOURCE_EXHAUSTED) are shown and are no loss: the machine was asked for more than it can do.

  python -m tests.faults updates --rate 130 --number 5
  python -m tests.faults kills --number 5 --bundle bundles/personal

  python -m tests.faults neighbours --bundle bundles/personal
""",
)
console = Console()

Bundle = Annotated[Path | None, typer.Option(help="Serve this bundle. Default: a small one is built, in a minute.")]
Rate = Annotated[float, typer.Option(min=1, help="Searches a second. Choose 0.6 of what the machine can do.")]
Replicas = Annotated[int, typer.Option(min=1, help="Gateways that share the port. With one, a kill is an outage.")]
Deadline = Annotated[float, typer.Option(min=0.1, help="Deadline of a call with its retries, in seconds.")]
Config = Annotated[
    Path | None, typer.Option(help="More configuration (TOML) for the service, without [server].replicas.")
]


@app.command()
def updates(
    number: Annotated[int, typer.Option(min=1, help="Number of updates, one after the other.")] = 5,
    rate: Rate = 130,
    replicas: Replicas = 2,
    deadline_s: Deadline = 1,
    bundle: Bundle = None,
    config: Config = None,
) -> None:
    """Rolls out a changed configuration again and again: SIGHUP, as an operator does. Lost is a call that fails."""
    with _service(bundle, config, replicas) as (service, queries):
        drill = update_under_load(service, QueryMix(queries), number=number, rate=rate, deadline_s=deadline_s)
        result = asyncio.run(drill)
    result.print(console)
    raise typer.Exit(1 if result.lost else 0)


@app.command()
def kills(
    number: Annotated[int, typer.Option(min=1, help="Number of gateways that are killed, one after the other.")] = 5,
    rate: Rate = 60,
    events: Annotated[float, typer.Option(min=1, help="Recorded events a second.")] = 40,
    replicas: Replicas = 2,
    deadline_s: Deadline = 5,
    bundle: Bundle = None,
    config: Config = None,
) -> None:
    """Kills gateways (SIGKILL) while searches and events come. Lost is an acknowledged event that GetHistory does not return, or a
    call that fails."""
    with _service(bundle, config, replicas) as (service, queries):
        drill = kill_gateways(
            service, QueryMix(queries), number=number, rate=rate, events_rate=events, deadline_s=deadline_s
        )
        result = asyncio.run(drill)
    result.print(console)
    raise typer.Exit(1 if result.lost else 0)


@app.command()
def neighbours(
    rate: Rate = 20,
    seconds: Annotated[float, typer.Option(min=1, max=300, help="Time beside each kind of heavy work.")] = 15,
    bundle: Bundle = None,
    config: Config = None,
) -> None:
    """Searches with one key while another key does heavy work: Rank calls of 9,000 inline products, explained searches with 200 events.
    Lost is a search of the first key without an answer. Rank needs a bundle with a ranker."""
    with (
        two_callers() as (keys, callers),
        _service(bundle, config, 1, f'[auth]\nkeys_file = "{keys}"\n') as (service, queries),
    ):
        drill = search_beside_heavy_work(service, QueryMix(queries), callers, rate=rate, seconds=seconds)
        result = asyncio.run(drill)
    result.print(console)
    raise typer.Exit(1 if result.lost else 0)


@app.command()
def catalogue_model(
    operations: Annotated[int, typer.Option(min=1, help="Number of operations.")] = 200_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same operations.")] = 1,
    shrink_s: Annotated[float, typer.Option(min=0, help="Time for finding the smallest failing sequence.")] = 600,
) -> None:
    """Compares the living catalogue with a dictionary: random changes, searches, restarts and generations. Prints a minimal failing
    sequence. No service is started."""
    from models.text_encoder.export import export_encoder
    from tests.conftest import write_tiny_encoder
    from tests.faults.catalogue_model import ModelTest

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_encoder(str(write_tiny_encoder(folder / "tiny")), folder / "encoder")
        model = ModelTest(folder, folder / "encoder")
        started = time.monotonic()
        with console.status("") as status:
            failure = model.run_seed(seed, operations, lambda done: status.update(f"{done:,} of {operations:,}"))
        if failure:
            console.print(f"operation {len(failure.operations):,} fails: {failure.error!r}", markup=False)
            console.print(str(model.shrink(failure, shrink_s)), markup=False, soft_wrap=True)
            raise typer.Exit(1)
    console.print(
        f"{operations:,} operations in {time.monotonic() - started:.0f} s: the catalogue said what a dictionary says"
    )


@app.command()
def crasher(
    kills: Annotated[int, typer.Option(min=1, help="Number of times that processes are killed.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the changes and the times.")] = 0,
    remote: Annotated[
        bool, typer.Option(help="Has the retriever in two replicas of its own, which are killed too.")
    ] = False,
    compact_after: Annotated[
        int, typer.Option(min=0, help="Changes after which a generation is built; 0: none is.")
    ] = 3_000,
    bundle: Bundle = None,
) -> None:
    """Kills gateways and builds of generations (SIGKILL) while writers change the catalogue and searchers read it. Lost is an acknowledged
    change that is not there, a deleted product that is back, a product that is there twice, and a search that lacks what was acknowledged
    as visible."""
    with tempfile.TemporaryDirectory() as folder:
        text = f'[catalogue]\npath = "{folder}/changes.db"\ncompact_after = {compact_after}\n'
        text += REMOTE_RETRIEVER if remote else ""
        if bundle:
            link_folder(bundle, Path(folder) / "bundle")  # its generations are those of the drill
            bundle = Path(folder) / "bundle"
        with _service(bundle, None, 2, text) as (service, _):
            drill = crash(service, kills=kills, seed=seed, num_gateways=2, num_retrievers=2 if remote else 0)
            result = asyncio.run(drill)
    result.print(console)
    raise typer.Exit(1 if result.lost else 0)


@contextmanager
def _service(
    bundle: Path | None, config: Path | None, replicas: int, more: str = ""
) -> Iterator[tuple[Service, list[str]]]:
    with tempfile.TemporaryDirectory() as folder:
        if bundle is None:
            bundle = _build(Path(folder) / "bundle")
        text = config.read_text(encoding="utf-8") if config else '[log]\nrequests = "failed"\n'
        before, _, server = text.partition("[server]\n")
        with served(bundle, f"{before}[server]\nreplicas = {replicas}\n{server}\n{more}") as service:
            service.wait_for("gateway ready", replicas)
            yield service, bundle_queries(bundle, 2000)


def _build(folder: Path) -> Path:
    with console.status("builds a bundle of 1,000 products"):
        source, recipe = sample_source(1000, seed=0), Recipe(name="sample", dimensions=(128,))
        embedding = TextEmbedding.for_recipe(recipe, source.text_attributes)
        build_bundle(source, recipe, folder, lambda *_: None, embedding=embedding)
    return folder


if __name__ == "__main__":
    app()
