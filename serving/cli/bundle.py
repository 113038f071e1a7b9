"""A bundle: show, verify, fetch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from rich.markup import escape
from rich.table import Table
from typer import Argument, Option, Typer

from serving.cli.terminal import out, print_report, progress_bars

bundle_app = Typer(no_args_is_help=True, help="Inspect a bundle, or fetch one.")
Folder = Annotated[Path, Argument(help="Folder of the bundle.")]


@bundle_app.command()
def show(bundle: Folder) -> None:
    """Shows the parts of a bundle, the measured quality of its index, and the problems of its source."""
    from models.bundles.bundle import Bundle

    manifest = Bundle(bundle).manifest
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "name": manifest.name,
        "version": manifest.version,
        "created": f"{manifest.created} by aisle {manifest.aisle_version} {manifest.commit}",
        "products": f"{manifest.products:,} from {manifest.catalogue['source']}",
        "encoder": f"{manifest.encoder['model']}, {manifest.dim} dimensions{_eight_bit(manifest.encoder)}",
        "index": f"{manifest.index['spec']['kind']}, recall@100 {manifest.index['recall']:.3f}, "
        f"{manifest.index['bytes_per_product']:.0f} bytes a product",
        "boosts": ", ".join(manifest.boosts) or "none",
        "query types": _query_types(manifest.query_types),
        "ranker": _ranker(manifest.ranker),
        "locales": ", ".join(manifest.locales),
        "currency": manifest.currency,
        "size": f"{sum(record.bytes for record in manifest.files.values()) / 1e6:,.1f} MB in {len(manifest.files)} files",
    }
    for label, value in rows.items():
        table.add_row(label, escape(value))
    out.print(table)
    print_report(manifest.catalogue["report"])


@bundle_app.command()
def verify(bundle: Folder) -> None:
    """Reads every file of a bundle and compares it with the manifest."""
    from models.bundle_parts import verify_bundle
    from models.bundles.bundle import Bundle

    opened = Bundle(bundle)
    verify_bundle(opened)
    out.print(f"{bundle}: {len(opened.manifest.files)} files as the manifest says (version {opened.manifest.version})")


@bundle_app.command()
def shard(
    bundle: Folder, shards: Annotated[int, Option(help="How many: 'retriever.shards' of the configuration.")]
) -> None:
    """Cuts a bundle into shards in its own folder. 'aisle serve' does so itself where it may write there."""
    from models.bundle_parts import verify_bundle
    from models.bundles.bundle import Bundle
    from models.shards import cut_shards, open_shard, shards_of

    opened = Bundle(bundle)
    verify_bundle(opened)
    folder = cut_shards(opened, shards)
    sizes = [open_shard(opened, one).manifest.products for one in shards_of(shards)]
    out.print(f"{folder}: {', '.join(f'{size:,}' for size in sizes)} products")


@bundle_app.command()
def fetch(
    url: Annotated[
        str, Argument(help="Its folder: file://, https://, or with the store's package s3://, gs://, abfs://.")
    ],
    bundle: Annotated[Path, Argument(help="Folder to make.")],
    version: Annotated[str, Option(help="Refuse a bundle of another version ('aisle bundle show').")] = "",
    force: Annotated[bool, Option("--force", help="Replace the bundle that is there.")] = False,
) -> None:
    """Fetches a bundle, and compares every file with the manifest. The same command goes on after an interruption."""
    from models.bundles.fetch import fetch_bundle

    with progress_bars() as report:
        manifest = fetch_bundle(url, bundle, version=version, replace=force, progress=report)
    out.print(f"{bundle}: {len(manifest.files)} files as the manifest says (version {manifest.version})")


def _eight_bit(encoder: Mapping[str, Any]) -> str:
    cosine = encoder.get("eight_bit_cosine")
    return f", also in 8 bits (cosine with floats at least {cosine:.3f})" if cosine else ""


def _query_types(facts: Mapping[str, Any]) -> str:
    if not facts:
        return "none"
    return (
        f"{facts['types']} types, {len(facts['locales'])} locales, abstains below a precision of {facts['precision']:g}"
    )


def _ranker(facts: Mapping[str, Any]) -> str:
    if not facts:
        return "none"
    errors = ", ".join(f"{task} {error:.3f}" for task, error in facts["calibration_error"].items())
    teacher = "with its teacher" if facts["teacher"] else "without a teacher"
    return f"{facts['recipe']}, {facts['pages']:,} pages, {teacher}; calibration error {errors}"
