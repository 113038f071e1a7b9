"""The `aisle` command."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

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
app.add_typer(bundle_app, name="bundle")

out = Console()
err = Console(stderr=True)

SERVER = Annotated[str, typer.Option(help="Where the service listens, as host:port.")]


def fail(message: str) -> NoReturn:
    err.print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


@app.command()
def build(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the new bundle.")],
    catalogue: Annotated[
        Path | None,
        typer.Option(help="Products as .csv, .jsonl (both also .gz), .parquet or a folder of .parquet files."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1000, max=10_000_000, help="Generate a sample store of this size instead.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sample store.")] = 0,
    id_column: Annotated[str, typer.Option("--id", help="Column with the unique product id.")] = "id",
    title: Annotated[str, typer.Option(help="Column with the title.")] = "title",
    brand: Annotated[str | None, typer.Option(help="Column with the brand.")] = None,
    category: Annotated[str | None, typer.Option(help="Column with the category path, 'A > B > C'.")] = None,
    price: Annotated[str | None, typer.Option(help="Column with the price in the currency's main unit.")] = None,
    in_stock: Annotated[str | None, typer.Option(help="Column that says whether the product can be bought.")] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Column whose text is encoded and returned; repeat it.")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="Column that is returned but not encoded; repeat it.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the catalogue; default: the name of the bundle's folder.")] = "",
    locale: Annotated[list[str] | None, typer.Option(help="Locale served, the default first; repeat it.")] = None,
    currency: Annotated[str, typer.Option(help="ISO 4217 code of the prices.")] = "USD",
    encoder: Annotated[
        str, typer.Option(help="'minilm' (packaged), a Hugging Face model directory, or a model name.")
    ] = "minilm",
    dimensions: Annotated[
        list[int] | None, typer.Option(help="Matryoshka prefix that the encoder was trained for; repeat it.")
    ] = None,
    max_product_tokens: Annotated[int, typer.Option(min=8, help="Product text past this many tokens is cut.")] = 128,
    recall: Annotated[
        float, typer.Option(min=0.5, max=1.0, help="Least recall@100 of the index against exact search.")
    ] = 0.98,
    latency_ms: Annotated[
        float, typer.Option(min=0.05, help="Exact search is kept while one query takes no longer than this.")
    ] = 2.0,
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle if it exists.")] = False,
) -> None:
    """Builds a bundle from a catalogue or from the sample store. Interrupted, the same command goes on where it stopped.

    Rows that cannot be used are counted and reported with their line and reason.
    """
    from models.build_bundle import Recipe, build_bundle
    from models.bundle import BundleError
    from models.catalogue import CatalogueError
    from models.export_encoder import EncoderError
    from models.index_tuner import IndexTarget
    from models.sample_store import CURRENCY as SAMPLE_CURRENCY
    from models.sources import catalogue_source, sample_source

    if (catalogue is None) == (sample is None):
        fail("give either --catalogue FILE or --sample NUMBER")
    if sample is not None and currency != SAMPLE_CURRENCY:
        fail(f"the sample store's prices are in {SAMPLE_CURRENCY}, not {currency}")
    recipe = Recipe(
        name=name or out_folder.name,
        encoder=encoder,
        locales=tuple(locale or ["en-US"]),
        currency=currency,
        dimensions=tuple(dimensions or ()),
        max_product_tokens=max_product_tokens,
        index=IndexTarget(recall=recall, latency_ms=latency_ms),
    )
    try:
        if catalogue is not None:
            named = {"brand": brand, "category": category, "price": price, "in_stock": in_stock}
            columns = {"id": id_column, "title": title} | {field: column for field, column in named.items() if column}
            source = catalogue_source(catalogue, columns, tuple(text or ()), tuple(attribute or ()), currency)
        else:
            source = sample_source(sample or 0, seed)
        started = time.monotonic()
        with progress_bars() as progress:
            manifest = build_bundle(source, recipe, out_folder, progress, replace=force)
    except (BundleError, CatalogueError, EncoderError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on where it stopped")
    _print_report(manifest.catalogue["report"])
    out.print(
        f"{manifest.products:,} products in {out_folder} (version {manifest.version}), {time.monotonic() - started:.0f} s"
    )
    out.print(f"serve them with: aisle serve --bundle {out_folder}", highlight=False)


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
) -> None:
    """Serves a bundle until SIGTERM or Ctrl-C, which drain it. SIGHUP reads bundle and configuration again and rolls them out."""
    from models.bundle import BundleError
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
            target = f"{settings.server.host}:{settings.server.port}"
            search(try_query, server=target)
            out.print(
                f'\nask the next with: .venv/bin/aisle search "{try_query}" --server {target}',
                highlight=False,
                soft_wrap=True,
            )
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


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What a shopper would type.")],
    server: SERVER = "127.0.0.1:9000",
    locale: Annotated[str, typer.Option(help="BCP 47 tag.")] = "",
    shopper: Annotated[str, typer.Option(help="The shopper's id.")] = "",
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

    from aisle.v1 import product_pb2, search_pb2, search_pb2_grpc
    from serving.client import ClientTls, connect

    wanted = product_pb2.ProductFilter(
        brands=brand or (), categories=category or (), min_price_minor=min_price, max_price_minor=max_price,
        in_stock_only=in_stock,
    )  # fmt: skip
    request = search_pb2.SearchRequest(
        query=query, locale=locale, shopper_id=shopper, page_size=page_size, explain=True, verbatim=verbatim,
        filter=wanted if wanted.ByteSize() else None,
    )  # fmt: skip
    metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
    with connect(server, ClientTls(ca, cert, cert_key) if ca else None) as channel:
        started = time.perf_counter()
        try:
            answer = search_pb2_grpc.SearchServiceStub(channel).Search(request, timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            hint = f"; is there a service on {server}?" if error.code() is grpc.StatusCode.UNAVAILABLE else ""
            fail(f"{error.code().name}: {error.details()}{hint}")
        elapsed_ms = (time.perf_counter() - started) * 1000
        digits = _currency_digits(channel, metadata)
    _print_answer(query, answer, elapsed_ms, digits)


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="Whose key this is; shown in errors and logs, never the key.")],
    scope: Annotated[list[str] | None, typer.Option(help="search, embed, info, events, history or *; repeat it.")] = None,
) -> None:
    """Makes an API key, and the line for auth.keys_file that admits it. The key is shown once and stored nowhere."""
    from serving.config import ConfigError
    from serving.security import new_key

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
    quick: Annotated[
        bool, typer.Option("--quick", help="Short rounds and small sizes: shows that it runs, not what it reaches.")
    ] = False,
) -> None:
    """Measures the gateway, the search, the stages and the index as ratios against their floors, in one run."""
    from models.bundle import BundleError

    try:
        from loadtest.benchmarks.run import run_benchmarks
        from loadtest.h2load import LoadError
    except ImportError as error:
        fail(f"bench needs {error.name}: pip install 'aisle[loadtest]'")
    try:
        run_benchmarks(
            bundle, only=only or [], rounds=rounds, json_file=json_file, vectors=vectors, quick=quick, console=out
        )
    except (ValueError, BundleError, LoadError) as error:
        fail(str(error))


@bundle_app.command()
def show(bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")]) -> None:
    """What a bundle holds, what its index measured, and what was wrong with its source."""
    from models.bundle import Bundle, BundleError

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
        "locales": ", ".join(manifest.locales),
        "currency": manifest.currency,
        "size": f"{sum(record.bytes for record in manifest.files.values()) / 1e6:,.1f} MB in {len(manifest.files)} files",
    }
    for label, value in rows.items():
        table.add_row(label, escape(value))
    out.print(table)
    _print_report(manifest.catalogue["report"])


@bundle_app.command()
def verify(bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")]) -> None:
    """Reads every file and compares it with the manifest."""
    from models.bundle import Bundle, BundleError

    try:
        opened = Bundle(bundle)
        opened.verify()
    except BundleError as error:
        fail(str(error))
    out.print(f"{bundle}: {len(opened.manifest.files)} files as the manifest says (version {opened.manifest.version})")


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


def _print_report(report: dict[str, Any]) -> None:
    for label, counts in (("skipped", report.get("skipped", {})), ("repaired", report.get("repaired", {}))):
        for reason, count in counts.items():
            out.print(f"[yellow]{label}[/yellow] {count:,} rows: {escape(reason)}", highlight=False)
    for example in report.get("examples", [])[:10]:
        out.print(f"  {example}", highlight=False, markup=False)


def _currency_digits(channel: Any, metadata: tuple[tuple[str, str], ...]) -> int:
    """Minor digits of the service's prices; 2 where the key may not ask."""
    import grpc

    from aisle.v1 import info_pb2, info_pb2_grpc
    from models.catalogue import currency_digits

    try:
        told = info_pb2_grpc.InfoServiceStub(channel).GetInfo(info_pb2.GetInfoRequest(), timeout=5, metadata=metadata)
    except grpc.RpcError:
        return 2
    return currency_digits(told.catalogue.currency)


def _print_answer(query: str, answer: Any, elapsed_ms: float, digits: int) -> None:
    table = Table(title=escape(repr(query)), title_justify="left", box=None)
    for column in ("", "score", "product", "brand", "price", "why"):
        table.add_column(column, justify="right" if column in ("", "score", "price") else "left", overflow="fold")
    for hit in answer.hits:
        product, why = hit.product, hit.explanation
        price = f"{product.price_minor / 10**digits:,.{digits}f}" if product.HasField("price_minor") else ""
        reason = f"similar {why.similarity:.2f}"
        if why.matched_identifiers:
            reason = f"holds {', '.join(why.matched_identifiers)}; " + reason
        stock = "" if not product.HasField("in_stock") or product.in_stock else " (out of stock)"
        table.add_row(
            str(why.rank),
            f"{hit.score:.3f}",
            escape(product.title + stock),
            escape(product.brand),
            price,
            escape(reason),
        )
    out.print(table)
    if answer.corrected_query:
        out.print(
            f"[yellow]searched for {escape(repr(answer.corrected_query))}[/yellow] (--verbatim to search as typed)"
        )
    for warning in answer.warnings:
        out.print(f"[yellow]{escape(warning)}[/yellow]")
    phases = ", ".join(f"{p.name} {p.queue_ms + p.compute_ms:.1f}" for p in answer.timing.phases)
    out.print(
        f"{len(answer.hits)} hits in {elapsed_ms:.1f} ms (server {answer.timing.total_ms:.1f}: {phases}), "
        f"bundle {answer.bundle_version}, request {answer.request_id}",
        highlight=False,
        style="dim",
    )


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "''" if value is None else repr(value)


if __name__ == "__main__":
    sys.exit(app())
