"""A small shop for the proofs of the living catalogue: random products with all kinds of attributes, and a bundle of them. Its vectors are
made of the products' texts in a microsecond; everything else of the bundle is real."""

from __future__ import annotations

import dataclasses
import functools
import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import Float16s, Progress, silent
from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import VECTORS
from models.bundles.manifest import Manifest
from models.bundles.source import Source
from models.bundles.work_folder import WorkFolder
from models.lexical.lexical_index import LexicalIndex
from models.products.attributes.spec import AttributeSpec
from models.products.product import Product, product_text
from models.products.product_table import ProductTable
from models.text_encoder.embed_products import TextEmbedding

DIM = 32
TEXT_ATTRIBUTES = ("note",)
SPECS = tuple(
    map(
        AttributeSpec.parse,
        (
            "colour:keyword",
            "tags:keywords",
            "size:number:cm",
            "weight:number",
            "released:date",
            "vegan:bool",
            "rare:keyword",
            "note:text",
        ),
    )
)
TITLE_WORDS = ("velvet", "oak", "linen", "copper", "marble", "walnut", "bamboo", "granite")
BRANDS = ("Halden", "HALDEN", "Nord", "Straße", "STRASSE", "")
PATHS = ("Home > Sofas", "home > SOFAS", "Home > Beds", "Home > Sofas > Corner", "Garden", "")
COLOURS = ("red", "Red", "blue", "dark red", "grün")
SIZES = ("1 cm", "2 cm", "1 in", "-3", "0.5 m", "unknown", "1.25")


def new_product(rng: random.Random, product_id: str) -> Product:
    tags = rng.sample(COLOURS, rng.randrange(4))
    texts = {
        "colour": rng.choice((*COLOURS, f"colour {rng.randrange(9)}")) if rng.random() < 0.8 else "",
        "tags": "|".join(tags),
        "size": rng.choice(SIZES) if rng.random() < 0.5 else str(rng.randrange(9)),
        "weight": str(rng.randrange(5) / 4) if rng.random() < 0.3 else "",
        "released": f"2024-01-0{rng.randrange(1, 10)}" if rng.random() < 0.7 else "",
        "vegan": rng.choice(("yes", "no", "")),
        "rare": rng.choice(("one", "two", f"n{rng.randrange(9)}")) if rng.random() < 0.1 else "",
        "note": rng.choice(("", "wipe clean", "hand wash only, do not tumble")),
        "mpn": f"mpn-{rng.randrange(400)}" if rng.random() < 0.3 else "",
        f"key {rng.randrange(300)}": "x" if rng.random() < 0.2 else "",
    }
    return Product(
        product_id,
        " ".join(rng.sample(TITLE_WORDS, rng.randrange(1, 4))),
        brand=rng.choice((*BRANDS, f"Brand {rng.randrange(9)}")),
        category=rng.choice((*PATHS, f"Home > {rng.randrange(9)}")),
        price_minor=rng.choice((None, *range(12))),
        in_stock=rng.random() < 0.7,
        attributes={name: text for name, text in texts.items() if text},
        other_categories=tuple(rng.sample(PATHS[:-1], rng.choice((0, 0, 0, 1, 2)))),
    )


def with_lists(product: Product) -> Product:
    """Returns the product as a catalogue file with a column of lists states it."""
    tags = product.attributes.get("tags", "").split("|")
    if len(tags) < 2:
        return product
    attributes = {**product.attributes, "tags": ", ".join(tags)}
    return dataclasses.replace(product, attributes=attributes, lists={"tags": tuple(tags)})


def vectors_of(products: Sequence[Product]) -> Float16s:
    """Returns unit vectors (products, DIM) of the texts that an encoder would read."""
    texts = [product_text(product, TEXT_ATTRIBUTES) for product in products]
    return np.array([vector_of(text) for text in texts], np.float16).reshape(len(products), DIM)


@functools.lru_cache(maxsize=50_000)
def vector_of(text: str) -> Float16s:
    """Returns a unit vector (DIM,)."""
    vector = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float16)


class FastVectors(TextEmbedding):
    """The encoder's bundle with vectors of `vectors_of`."""

    def embed(self, table: ProductTable, work: WorkFolder, progress: Progress) -> dict[str, Any]:
        stated = super().embed(table, work, progress)
        np.save(work.folder / VECTORS, vectors_of(list(table.products())))
        return stated


def build_shop(
    folder: Path, products: Sequence[Product], encoder: Path, lexical: LexicalIndex | None = None
) -> Manifest:
    """Builds a bundle of products. `encoder` is a model folder of a text encoder of DIM dimensions; `lexical` is that of `build_bundle`."""
    source = Source(
        name="small shop",
        fingerprint="small",
        products=lambda: iter(products),
        report=dict,
        attributes=("colour", "tags", "size", "note"),
        text_attributes=TEXT_ATTRIBUTES,
        identifiers=("mpn",),
        keeps_rare=True,
        types=SPECS,
    )
    recipe = Recipe(name="small", encoder=str(encoder), dimensions=(16,))
    embedding = FastVectors.for_recipe(recipe, source.text_attributes)
    return build_bundle(source, recipe, folder, silent, embedding=embedding, lexical=lexical)
