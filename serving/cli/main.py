"""The `aisle` command: its tree, and key, purge, config and bench."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option, Typer

from serving.cli.ask import classify, rank, record, search
from serving.cli.build import build, simulate
from serving.cli.bundle import bundle_app
from serving.cli.catalogue import catalogue_app
from serving.cli.change import delete, follow, upsert
from serving.cli.evaluate import evaluate_app
from serving.cli.export_events import export_events
from serving.cli.failures import Commands, needs
from serving.cli.import_log import import_events
from serving.cli.load import load
from serving.cli.plan import plan
from serving.cli.serve import serve
from serving.cli.terminal import err, out
from serving.cli.train import train_app

app = Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""Serves product search over gRPC, and trains the models for it.

A [bold]bundle[/bold] holds a catalogue, its vectors, the models and the index. Build a bundle, serve it, and search:

  aisle build --sample 20000 --out bundles/sample
  aisle serve --bundle bundles/sample
  aisle search "grey wool rug"
""",
)
app.command()(build)
app.command()(simulate)
app.command("import")(import_events)
app.command("export-events")(export_events)
app.command()(serve)
app.command()(plan)
for client in (search, rank, classify, record, upsert, delete, follow):
    app.command()(client)


@app.command()
def key(
    name: Annotated[str, Argument(help="Name of the key, as in errors and logs.")],
    scope: Annotated[
        list[str] | None,
        Option(
            help="search, embed, info, stats, events, history, catalogue:read, catalogue:write or *. Repeatable. Default: search."
        ),
    ] = None,
) -> None:
    """Makes an API key, and the line for auth.keys_file that admits it. The key is shown once and stored nowhere."""
    from serving.edge.keys import new_key

    secret, line = new_key(name, scope or ["search"])
    err.print("key for the caller (AISLE_API_KEY):")
    print(secret)
    err.print("line for the keys file:")
    print(line)


@app.command()
def purge(
    bundle: Annotated[Path, Option(help="The bundle that is served.")],
    config: Annotated[Path | None, Option(help="Configuration that it is served with.")] = None,
) -> None:
    """Deletes expired events of shoppers now. Confirms the clock of this machine when a service says that it does not believe it."""
    from models.bundles.bundle import Bundle
    from serving.config import load_config
    from serving.shoppers.open_store import purge_shoppers

    gone = asyncio.run(purge_shoppers(load_config(config).shoppers, Bundle(bundle).manifest.name))
    out.print(f"{gone:,} events deleted")


@app.command()
def config() -> None:
    """Prints every configuration key with its default, as a file to start from."""
    from serving.config import AisleConfig

    for section, info in AisleConfig.model_fields.items():
        model: Any = info.annotation
        print(f"[{section}]  # {(model.__doc__ or '').splitlines()[0]}")
        for field_name, field in model.model_fields.items():
            note = f"  # {field.description}" if field.description else ""
            print(f"{'# ' if field.default is None else ''}{field_name} = {_toml(field.default)}{note}")
        print()


app.command()(load)
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(bundle_app, name="bundle")
app.add_typer(catalogue_app, name="catalogue")


@app.command()
def bench(
    bundle: Annotated[Path, Option(help="The bundle to measure with.")],
    only: Annotated[list[str] | None, Option(help="Only this benchmark. Repeatable. Default: all.")] = None,
    rounds: Annotated[int, Option(min=5, help="Number of interleaved rounds; the report has their median.")] = 5,
    json_file: Annotated[Path, Option("--json", help="File for the figures.")] = Path("bench-results.json"),
    vectors: Annotated[
        Path | None, Option(help="Vectors for the index benchmark, float16 .npy. Default: the bundle's.")
    ] = None,
    personal: Annotated[
        Path | None, Option(help="Bundle of 'aisle train unified', to measure personalisation.")
    ] = None,
    quick: Annotated[bool, Option("--quick", help="Short rounds and small sizes: a check, no measurement.")] = False,
) -> None:
    """Benchmarks gateway, search, stages and index in one run, each as a ratio to its lower bound."""
    with needs("loadtest"):
        from loadtest.benchmarks.run import run_benchmarks

        run_benchmarks(
            bundle,
            only=only or [],
            rounds=rounds,
            json_file=json_file,
            vectors=vectors,
            personal=personal,
            quick=quick,
            console=out,
        )


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "''" if value is None else repr(value)
