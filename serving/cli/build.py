"""Bundles without training, and simulated stores: build, simulate."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from serving.cli.failures import needs, resumable
from serving.cli.options import ENCODER_NAME, BundleOptions, Catalogue, CatalogueColumns, Force, Out, as_command
from serving.cli.terminal import fail, out, print_built, progress_bars

if TYPE_CHECKING:
    from models.text_encoder.embed_products import EncodeBlocks


@as_command
def build(
    *,
    out_folder: Out,
    catalogue: Catalogue = None,
    sample: Annotated[
        int | None, Option(min=1000, max=10_000_000, help="Generate a sample store of so many products.")
    ] = None,
    seed: Annotated[int, Option(help="Seed of the sample store.")] = 0,
    columns: CatalogueColumns,
    encoder: Annotated[str, Option(help=ENCODER_NAME)] = "minilm",
    dimensions: Annotated[list[int] | None, Option(help="Matryoshka prefix of the encoder. Repeatable.")] = None,
    max_product_tokens: Annotated[int, Option(min=8, help="Product texts are truncated to this many tokens.")] = 128,
    eight_bit: Annotated[
        bool,
        Option(help="Hold the encoder in 8 bits too: processors with VNNI and without AMX are about twice as fast so."),
    ] = True,
    ray_address: Annotated[
        str | None,
        Option(
            help="Encode on the machines of this Ray cluster, as HOST:6379 or auto, by one worker a GPU, or a machine without one. "
            "Each needs the same version of aisle."
        ),
    ] = None,
    ray_workers: Annotated[int | None, Option(min=1, help="So many workers instead.")] = None,
    bundle: BundleOptions,
    force: Force = False,
) -> None:
    """Builds a bundle from a catalogue or from a generated sample store. If interrupted, the same command resumes.

    Rows that cannot be used are counted and reported with their line and the reason.
    """
    from models.bundles.build import build_bundle
    from models.bundles.sources import sample_source
    from models.sample_store import CURRENCY as SAMPLE_CURRENCY
    from models.text_encoder.embed_products import TextEmbedding

    if (catalogue is None) == (sample is None):
        fail("give either --catalogue FILE or --sample NUMBER")
    if sample is not None and columns.currency != SAMPLE_CURRENCY:
        fail(f"the prices of the sample store are in {SAMPLE_CURRENCY}, not {columns.currency}")
    recipe = bundle.recipe(
        out_folder,
        columns.currency,
        encoder=encoder,
        dimensions=tuple(dimensions or ()),
        max_product_tokens=max_product_tokens,
        eight_bit=eight_bit,
    )
    source = sample_source(sample or 0, seed) if catalogue is None else columns.source(catalogue)
    started = time.monotonic()
    with needs("train"), resumable(), _encoding(ray_address, ray_workers) as encode, progress_bars() as progress:
        embedding = TextEmbedding.for_recipe(recipe, source.text_attributes, encode)
        manifest = build_bundle(source, recipe, out_folder, progress, embedding=embedding, replace=force)
    print_built(manifest, out_folder, started)


@contextmanager
def _encoding(ray_address: str | None, ray_workers: int | None) -> Iterator[EncodeBlocks]:
    """Yields what encodes the products: this machine, or a Ray cluster."""
    if ray_address is None:
        from models.text_encoder.embed_products import encode_here

        if ray_workers is not None:
            fail("--ray-workers needs --ray-address")
        yield encode_here
        return
    from serving.ray_encoding import encoding_on_ray

    with encoding_on_ray(ray_address, ray_workers) as encode:
        yield encode


def simulate(
    out_folder: Annotated[
        Path | None,
        Option("--out", help="Folder for catalogue.parquet, events.parquet, storefronts.parquet and truth.json."),
    ] = None,
    products: Annotated[int, Option(min=1000, max=10_000_000, help="Number of products.")] = 20_000,
    shoppers: Annotated[int, Option(min=10, max=10_000_000, help="Number of shoppers.")] = 4_000,
    events: Annotated[int, Option(min=10_000, max=100_000_000, help="Number of events in the main locale.")] = 500_000,
    seed: Annotated[int, Option(help="The same seed gives the same files.")] = 0,
    family: Annotated[
        str,
        Option(
            help="additive: what fits adds up, results are examined one by one. cascade: what fits multiplies, results are read from the "
            "top down, pages follow earlier clicks, stock runs out, and purchases are repeated and completed."
        ),
    ] = "additive",
    parameters: Annotated[
        Path | None,
        Option(
            exists=True, dir_okay=False, help="TOML file with parameters of the family; others keep their defaults."
        ),
    ] = None,
    print_parameters: Annotated[
        bool, Option("--print-parameters", help="Only print the family's parameters, as a file to start from.")
    ] = False,
) -> None:
    """Simulates a store: a catalogue, and 60 days of shoppers with their own tastes who search, click and buy.

    Measurements on it show how well a model learns the simulation, not how well it serves real shoppers. A model that is good in one family
    of simulations may only mirror it; see how it does in the other:

      aisle simulate --family cascade --print-parameters > cascade.toml

      aisle simulate --family cascade --parameters cascade.toml --out stores/cascade
    """
    from models.sample_store import parameters_file, read_parameters, write_sample_log

    stated = read_parameters(family, parameters)
    if print_parameters:
        print(parameters_file(stated), end="")
        return
    if out_folder is None:
        fail("give --out with the folder of the store, or --print-parameters")
    with progress_bars() as progress:
        write_sample_log(out_folder, products, shoppers, events, seed, progress, parameters=stated)
    out.print(f"simulated: {products:,} products, {shoppers:,} shoppers, {events:,} events in {out_folder}")
    out.print(f"train on them with: aisle train unified --store {out_folder} --out BUNDLE", highlight=False)
