"""The `aisle` command."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

import serving.cli.encoders
import serving.cli.ranking
import serving.cli.ranking_evaluation
import serving.cli.types  # noqa: F401 - their commands
from serving.cli.models import build, evaluate_app, simulate, train_app
from serving.cli.rank import DiversityOption, RankOption, WeightsOption, diversity, rank, rank_model, rank_weights
from serving.cli.terminal import err, fail, out, print_report, progress_bars

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""Serves product search over gRPC.

A [bold]bundle[/bold] holds a catalogue, its vectors, the encoder and the index. First build one, then serve it, then ask it:

  aisle build --sample 20000 --out bundles/sample
  aisle serve --bundle bundles/sample
  aisle search "red velvet sofa"
""",
)
bundle_app = typer.Typer(no_args_is_help=True, help="Look into a bundle.")
app.command()(build)
app.command()(simulate)
app.command()(rank)
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(bundle_app, name="bundle")

SERVER = Annotated[str, typer.Option(help="Where the service listens, as host:port.")]


@app.command()
def serve(
    bundle: Annotated[Path, typer.Option(help="The bundle to serve.")],
    config: Annotated[Path | None, typer.Option(help="aisle.toml; see 'aisle config'.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the gRPC API; overrides the configuration.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; overrides the configuration.")] = None,
    log_format: Annotated[str | None, typer.Option(help="'text' or 'json'; overrides the configuration.")] = None,
    ray_address: Annotated[
        str, typer.Option(help="'local' starts a Ray of its own; 'auto' or host:port joins a cluster.")
    ] = "local",
    try_query: Annotated[str, typer.Option("--try", help="Ask this once it serves, and show the answer.")] = "",
    demo: Annotated[
        Path | None,
        typer.Option(
            help="A folder of 'aisle simulate': record what its shoppers did, and show what two of them get for --try."
        ),
    ] = None,
) -> None:
    """Serves a bundle until SIGTERM or Ctrl-C, which drain it. SIGHUP reads bundle and configuration again and rolls them out."""
    from models.bundles.manifest import BundleError
    from serving import app as wiring
    from serving.config import ConfigError, load_config
    from serving.logs import LineCollector, configure_logging, log

    overrides: dict[str, dict[str, Any]] = {"server": {}, "log": {}}
    overrides["server"].update({k: v for k, v in (("port", port), ("host", host)) if v is not None})
    overrides["log"].update({"format": log_format} if log_format else {})
    try:
        settings = load_config(config, overrides)
        wiring.check(bundle, settings)
    except (ConfigError, BundleError) as error:
        fail(str(error))
    wanted, reload_wanted = threading.Event(), threading.Event()
    log_folder = tempfile.TemporaryDirectory(prefix="aisle-", dir="/tmp")
    collector = LineCollector(Path(log_folder.name) / "log.sock")
    configure_logging(settings.log.format, settings.log.level)
    started = time.monotonic()
    log.info("starting", extra={"fields": {"bundle": str(bundle), "port": settings.server.port}})
    try:
        wiring.start_ray(ray_address)
        # After Ray, which sets handlers of its own.
        for number, event in ((signal.SIGTERM, wanted), (signal.SIGINT, wanted), (signal.SIGHUP, reload_wanted)):
            signal.signal(number, lambda *_, event=event: event.set())
        wiring.deploy(bundle, settings, str(collector.path))
        fields = {"address": f"{settings.server.host}:{settings.server.port}", "seconds": time.monotonic() - started}
        log.info("serving", extra={"fields": fields})
        if try_query:
            _try(try_query, f"{settings.server.host}:{settings.server.port}", demo)
        while not wanted.wait(0.2):
            if reload_wanted.is_set():
                reload_wanted.clear()
                try:
                    settings = load_config(config, overrides)
                    wiring.deploy(bundle, settings, str(collector.path))
                    log.info("rolled out", extra={"fields": {"bundle": str(bundle.resolve())}})
                except (ConfigError, BundleError, RuntimeError) as error:
                    log.error("not rolled out; serving as before", extra={"fields": {"error": str(error)}})
    except (RuntimeError, BundleError) as error:
        log.error("cannot serve", extra={"fields": {"error": str(error)}})
        raise typer.Exit(1) from None
    finally:
        log.info("stopping")
        wiring.stop()
        collector.close()
        log_folder.cleanup()


def _try(query: str, server: str, demo: Path | None) -> None:
    """One answered query, or those of two simulated shoppers, and how to ask the next."""
    from models.sample_store.write_log import EVENTS
    from serving.cli.record_log import busiest_shoppers

    shoppers = busiest_shoppers(demo / EVENTS, 2) if demo else []
    if demo:
        record(demo / EVENTS, server=server, as_of_now=True)
    for shopper in shoppers:
        search(query, server=server, shopper=shopper, compare=True, page_size=6)
    if not shoppers:
        search(query, server=server)
    who = f" --shopper {shoppers[0]} --compare" if shoppers else ""
    out.print(
        f'\nask the next with: .venv/bin/aisle search "{query}"{who} --server {server}', highlight=False, soft_wrap=True
    )


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What a shopper would type.")],
    server: SERVER = "127.0.0.1:9000",
    locale: Annotated[str, typer.Option(help="BCP 47 tag.")] = "",
    shopper: Annotated[str, typer.Option(help="The shopper's id.")] = "",
    personalisation: Annotated[float, typer.Option(help="How much the shopper's history counts, 0 to 1.")] = 1.0,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Show the plain and the shopper's result side by side, and what moved each hit."
        ),
    ] = False,
    relevant: Annotated[
        bool, typer.Option("--relevant", help="Leave out what the model takes for irrelevant.")
    ] = False,
    boost: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WEIGHT",
            help="Let a feature of the products count in the search, from -1 to 1, as popularity=0.2 or new=0.1: the weight is added "
            "to the similarity of a product that has all of it. Where hits differ by less, they change places. Repeat it; "
            "'aisle bundle show' lists the names.",
        ),
    ] = None,
    types: Annotated[
        str,
        typer.Option(
            help="What becomes of the product types that the query asks for: off, facets, boost or filter; "
            "default: what the service is configured for."
        ),
    ] = "",
    model: RankOption = "",
    rank_depth: Annotated[
        int | None, typer.Option(help="How many of the best candidates are ranked; default: as configured, 200.")
    ] = None,
    weights: WeightsOption = "",
    max_each_brand: DiversityOption = "",
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Also show the query's types and how they were told, and what moved each ranked hit."
        ),
    ] = False,
    page_size: Annotated[int, typer.Option(help="Hits to show.")] = 10,
    brand: Annotated[list[str] | None, typer.Option(help="Only this brand; repeat it.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Only below this category path; repeat it.")] = None,
    min_price: Annotated[int | None, typer.Option(help="In minor units (cents).")] = None,
    max_price: Annotated[int | None, typer.Option(help="In minor units (cents).")] = None,
    in_stock: Annotated[bool, typer.Option("--in-stock", help="Only what can be bought now.")] = False,
    verbatim: Annotated[bool, typer.Option("--verbatim", help="Do not mend typing errors.")] = False,
    api_key: Annotated[str, typer.Option(envvar="AISLE_API_KEY", help="API key, if the service wants one.")] = "",
    ca: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="CA certificate of a TLS service.")
    ] = None,
    cert: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Your certificate, where the service wants one.")
    ] = None,
    cert_key: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Its private key.")] = None,
) -> None:
    """Asks a running service and shows the hits, why they are there, and where the time went."""
    import grpc

    from aisle.client import ClientTls, connect
    from aisle.v1 import product_pb2, search_pb2, search_pb2_grpc
    from serving.cli.answers import currency_digits_of, print_answer, print_comparison

    if compare and not shopper:
        fail("--compare needs --shopper: without one both results are the same")
    wanted = product_pb2.ProductFilter(
        brands=brand or (), categories=category or (), min_price_minor=min_price, max_price_minor=max_price,
        in_stock_only=in_stock,
    )  # fmt: skip
    request = search_pb2.SearchRequest(
        query=query, locale=locale, shopper_id=shopper, page_size=page_size, explain=True, verbatim=verbatim,
        filter=wanted if wanted.ByteSize() else None, personalisation=personalisation, relevant_only=relevant,
        boosts=_weights(boost or []), product_types=_type_use(types), rank_model=rank_model(model),
        rank_depth=rank_depth, rank_weights=rank_weights(weights), diversity=diversity(max_each_brand),
    )  # fmt: skip
    metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
    with connect(server, ClientTls(ca, cert, cert_key) if ca else None) as channel:
        started = time.perf_counter()
        stub = search_pb2_grpc.SearchServiceStub(channel)
        try:
            answer = stub.Search(request, timeout=10, metadata=metadata)
            elapsed_ms = (time.perf_counter() - started) * 1000
            if compare:
                request.personalisation = 0
                plain = stub.Search(request, timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            hint = f"; is there a service on {server}?" if error.code() is grpc.StatusCode.UNAVAILABLE else ""
            fail(f"{error.code().name}: {error.details()}{hint}")
        digits = currency_digits_of(channel, metadata)
    if compare:
        print_comparison(query, shopper, plain, answer)
    else:
        print_answer(query, answer, elapsed_ms, digits, explain)


def _weights(options: list[str]) -> dict[str, float]:
    """Of NAME=WEIGHT."""
    weights = {}
    for option in options:
        name, _, weight = option.partition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            fail(f"--boost {option}: say how much, as in --boost {name or 'popularity'}=0.2")
    return weights


def _type_use(name: str) -> Any:
    from aisle.v1 import search_pb2

    if not name:
        return search_pb2.PRODUCT_TYPE_USE_UNSPECIFIED
    known = [use.rpartition("_")[2].lower() for use in search_pb2.ProductTypeUse.keys()[1:]]
    if name not in known:
        fail(f"--types {name}: it may be {', '.join(known)}")
    return search_pb2.ProductTypeUse.Value(f"PRODUCT_TYPE_USE_{name.upper()}")


@app.command()
def classify(
    queries: Annotated[list[str], typer.Argument(help="What shoppers would type.")],
    server: SERVER = "127.0.0.1:9000",
    locale: Annotated[
        list[str] | None, typer.Option(help="BCP 47 tag; repeat it to compare locales. None: read without a locale.")
    ] = None,
    max_types: Annotated[int, typer.Option(help="Types to tell of each query.")] = 3,
    api_key: Annotated[str, typer.Option(envvar="AISLE_API_KEY", help="API key, if the service wants one.")] = "",
) -> None:
    """Asks a running service which product types queries ask for, locale by locale."""
    import grpc

    from aisle.client import connect
    from aisle.v1 import query_pb2, query_pb2_grpc
    from serving.cli.answers import print_query_types

    asked = [(query, name) for query in queries for name in locale or [""]]
    request = query_pb2.ClassifyRequest(
        queries=[query_pb2.LocaleQuery(query=query, locale=name) for query, name in asked], max_types=max_types
    )
    with connect(server) as channel:
        try:
            answer = query_pb2_grpc.QueryServiceStub(channel).Classify(
                request, timeout=10, metadata=(("authorization", f"Bearer {api_key}"),) if api_key else ()
            )
        except grpc.RpcError as error:
            hint = f"; is there a service on {server}?" if error.code() is grpc.StatusCode.UNAVAILABLE else ""
            fail(f"{error.code().name}: {error.details()}{hint}")
    print_query_types(asked, answer.results)


@app.command()
def record(
    events: Annotated[
        Path, typer.Argument(help="A shopping log in Parquet; see models/events/event.py for its columns.")
    ],
    server: SERVER = "127.0.0.1:9000",
    shopper: Annotated[list[str] | None, typer.Option(help="Only this shopper's events; repeat it.")] = None,
    as_of_now: Annotated[
        bool, typer.Option("--as-of-now", help="Move all times so that the last event happened now.")
    ] = False,
    api_key: Annotated[str, typer.Option(envvar="AISLE_API_KEY", help="API key, if the service wants one.")] = "",
    ca: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="CA certificate of a TLS service.")
    ] = None,
) -> None:
    """Tells a running service what known shoppers did: the clicks, carts and purchases of a log. Sending again is harmless."""
    import grpc

    from aisle.client import ClientTls, connect
    from serving.cli.record_log import record_log

    if not events.exists():
        fail(f"there is no {events}")
    metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
    with connect(server, ClientTls(ca, None, None) if ca else None) as channel, progress_bars() as progress:
        try:
            told = record_log(channel, metadata, events, shopper or [], as_of_now, progress)
        except grpc.RpcError as error:
            fail(f"{error.code().name}: {error.details()}")
        except (OSError, ValueError) as error:
            fail(str(error))
    out.print(f"recorded {told.recorded:,} events, {told.duplicates:,} were known, {told.refused:,} refused")
    for reason in told.reasons:
        out.print(f"[yellow]refused[/yellow] {escape(reason)}", highlight=False)


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="Whose key this is; shown in errors and logs, never the key.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="search, embed, info, events, history or *; repeat it.")
    ] = None,
) -> None:
    """Makes an API key, and the line for auth.keys_file that admits it. The key is shown once and stored nowhere."""
    from serving.config import ConfigError
    from serving.gateway.security import new_key

    try:
        secret, line = new_key(name, scope or ["search"])
    except ConfigError as error:
        fail(str(error))
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


@app.command()
def bench(
    bundle: Annotated[Path, typer.Option(help="The bundle to measure with.")],
    only: Annotated[list[str] | None, typer.Option(help="One of the benchmarks, by name; repeat it.")] = None,
    rounds: Annotated[int, typer.Option(min=5, help="Interleaved rounds; the median counts.")] = 5,
    json_file: Annotated[Path, typer.Option("--json", help="Where the figures go.")] = Path("bench-results.json"),
    vectors: Annotated[
        Path | None,
        typer.Option(help="float16 .npy of real product vectors for the index benchmark; default: the bundle's."),
    ] = None,
    personal: Annotated[
        Path | None,
        typer.Option(help="Bundle of the unified model, for what personalisation costs; default: left out."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short rounds and small sizes: shows that it runs, not what it reaches.")
    ] = False,
) -> None:
    """Measures the gateway, the search, the stages and the index as ratios against their floors, in one run."""
    from models.bundles.manifest import BundleError

    try:
        from loadtest.benchmarks.run import run_benchmarks
        from loadtest.h2load import LoadError
    except ImportError as error:
        fail(f"bench needs {error.name}: pip install 'aisle[loadtest]'")
    try:
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
    except (ValueError, BundleError, LoadError) as error:
        fail(str(error))


@bundle_app.command()
def show(bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")]) -> None:
    """What a bundle holds, what its index measured, and what was wrong with its source."""
    from models.bundles.bundle import Bundle
    from models.bundles.manifest import BundleError

    try:
        manifest = Bundle(bundle).manifest
    except BundleError as error:
        fail(str(error))
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "name": manifest.name,
        "version": manifest.version,
        "created": f"{manifest.created} by aisle {manifest.aisle_version} {manifest.commit}",
        "products": f"{manifest.products:,} from {manifest.catalogue['source']}",
        "encoder": f"{manifest.encoder['model']}, {manifest.dim} dimensions",
        "index": f"{manifest.index['spec']['kind']}, recall@100 {manifest.index['recall']:.3f}, "
        f"{manifest.index['bytes_per_product']:.0f} bytes a product",
        "boosts": ", ".join(manifest.boosts) or "none",
        "query types": _of_types(manifest.query_types),
        "ranker": _of_ranker(manifest.ranker),
        "locales": ", ".join(manifest.locales),
        "currency": manifest.currency,
        "size": f"{sum(record.bytes for record in manifest.files.values()) / 1e6:,.1f} MB in {len(manifest.files)} files",
    }
    for label, value in rows.items():
        table.add_row(label, escape(value))
    out.print(table)
    print_report(manifest.catalogue["report"])


@bundle_app.command()
def verify(bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")]) -> None:
    """Reads every file and compares it with the manifest."""
    from models.bundle_parts import verify_bundle
    from models.bundles.bundle import Bundle
    from models.bundles.manifest import BundleError

    try:
        opened = Bundle(bundle)
        verify_bundle(opened)
    except BundleError as error:
        fail(str(error))
    out.print(f"{bundle}: {len(opened.manifest.files)} files as the manifest says (version {opened.manifest.version})")


def _of_types(facts: Mapping[str, Any]) -> str:
    if not facts:
        return "none"
    return (
        f"{facts['types']} types, {len(facts['locales'])} locales, abstains below a precision of {facts['precision']:g}"
    )


def _of_ranker(facts: Mapping[str, Any]) -> str:
    if not facts:
        return "none"
    errors = ", ".join(f"{task} {error:.3f}" for task, error in facts["calibration_error"].items())
    with_teacher = "with its teacher" if facts["teacher"] else "without a teacher"
    return f"{facts['recipe']}, {facts['pages']:,} pages, {with_teacher}; calibration error {errors}"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "''" if value is None else repr(value)


if __name__ == "__main__":
    sys.exit(app())
