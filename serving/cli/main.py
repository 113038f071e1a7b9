"""The `aisle` command: its tree, and serve, key, config and bench."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit, Option, Typer

from serving.cli.ask import classify, rank, record, search, try_query
from serving.cli.build import build, simulate
from serving.cli.bundle import bundle_app
from serving.cli.evaluate import evaluate_app
from serving.cli.failures import Commands, needs
from serving.cli.options import ServiceOptions, simulated_store
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


@app.command()
def serve(
    bundle: Annotated[Path, Option(help="The bundle to serve.")],
    config: Annotated[Path | None, Option(help="Configuration in TOML; 'aisle config' prints one.")] = None,
    port: Annotated[int | None, Option(help="Port of the gRPC API; overrides the configuration.")] = None,
    host: Annotated[str | None, Option(help="Address to listen on; overrides the configuration.")] = None,
    log_format: Annotated[str | None, Option(help="'text' or 'json'; overrides the configuration.")] = None,
    ray_address: Annotated[str, Option(help="'local' starts Ray; 'auto' or host:port joins a cluster.")] = "local",
    query: Annotated[str, Option("--try", metavar="QUERY", help="Search for this as soon as the service is up.")] = "",
    demo: Annotated[
        Path | None,
        Option(
            callback=simulated_store,
            help="Store of 'aisle simulate': record its log, and show --try for two of its shoppers.",
        ),
    ] = None,
) -> None:
    """Serves a bundle. SIGTERM or Ctrl-C drains and stops it; SIGHUP reads bundle and configuration again and rolls them out."""
    from models.errors import InputError
    from serving import cluster
    from serving.config import load_config
    from serving.logs import LineCollector, configure_logging, log

    server = {name: value for name, value in (("port", port), ("host", host)) if value is not None}
    overrides: dict[str, dict[str, Any]] = {"server": server, "log": {"format": log_format} if log_format else {}}
    settings = load_config(config, overrides)
    cluster.check(bundle, settings)
    stop_requested, reload_requested = threading.Event(), threading.Event()
    log_folder = tempfile.TemporaryDirectory(prefix="aisle-", dir="/tmp")
    collector = LineCollector(Path(log_folder.name) / "log.sock")
    configure_logging(settings.log.format, settings.log.level)
    started = time.monotonic()
    log.info("starting", extra={"fields": {"bundle": str(bundle), "port": settings.server.port}})
    try:
        cluster.start_ray(ray_address)
        # After Ray, which sets handlers of its own.
        for number, event in (
            (signal.SIGTERM, stop_requested),
            (signal.SIGINT, stop_requested),
            (signal.SIGHUP, reload_requested),
        ):
            signal.signal(number, lambda *_, event=event: event.set())
        cluster.deploy(bundle, settings, str(collector.path))
        address = f"{settings.server.host}:{settings.server.port}"
        log.info("serving", extra={"fields": {"address": address, "seconds": time.monotonic() - started}})
        if query:
            with contextlib.suppress(Exit):  # it printed why it failed; the service goes on
                try_query(query, ServiceOptions(server=address), demo)
        while not stop_requested.wait(0.2):
            if reload_requested.is_set():
                reload_requested.clear()
                try:
                    settings = load_config(config, overrides)
                    cluster.deploy(bundle, settings, str(collector.path))
                    log.info("rolled out", extra={"fields": {"bundle": str(bundle.resolve())}})
                except (InputError, RuntimeError) as error:
                    log.error("not rolled out; serving as before", extra={"fields": {"error": str(error)}})
    except (RuntimeError, InputError) as error:
        log.error("cannot serve", extra={"fields": {"error": str(error)}})
        raise Exit(1) from None
    finally:
        log.info("stopping")
        cluster.stop()
        collector.close()
        log_folder.cleanup()


for client in (search, rank, classify, record):
    app.command()(client)


@app.command()
def key(
    name: Annotated[str, Argument(help="Name of the key, as in errors and logs.")],
    scope: Annotated[
        list[str] | None, Option(help="search, embed, info, events, history or *. Repeatable. Default: search.")
    ] = None,
) -> None:
    """Makes an API key, and the line for auth.keys_file that admits it. The key is shown once and stored nowhere."""
    from serving.gateway.security import new_key

    secret, line = new_key(name, scope or ["search"])
    err.print("key for the caller (AISLE_API_KEY):")
    print(secret)
    err.print("line for the keys file:")
    print(line)


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


app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(bundle_app, name="bundle")


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
