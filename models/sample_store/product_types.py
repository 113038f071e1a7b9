"""The product types: what products of each can be like, and what sellers and shoppers call them; `data/product_types/` holds them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, cast, get_args

from models.sample_store.data_file import DataTable, read_data_file
from models.sample_store.words import PRICE_STEPS, Word, load_words, read_words, sellers

Kind = Literal["home", "device", "wear", "goods"]  # how titles of the type are built, see `wording`

# The order of the files, and of the types in them, numbers the types: another order makes another store.
DEPARTMENT_FILES = (
    "furniture",
    "kitchen",
    "electronics",
    "clothing",
    "shoes",
    "sports_outdoors",
    "toys_games",
    "garden",
    "beauty",
    "pet_supplies",
    "tools",
    "food_snacks",
)

_MAX_DOLLARS = 100_000
_MAX_SHARE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductType:
    """A type of product, its possible attributes, and its names."""

    name: str
    category: str  # path, its first step the department
    kind: Kind
    min_price_minor: int
    max_price_minor: int
    nouns: tuple[str, ...]  # sellers' words, the first the most common
    shopper_nouns: tuple[str, ...]  # shoppers' words, none of them a seller's
    palette: str  # of Words.palettes, or ""
    materials: tuple[str, ...]
    style_family: str  # of Words.style_families
    sizes: tuple[Word, ...]  # from the smallest to the largest
    size_step: int  # what one step in size adds to the price, in PRICE_STEPS
    features: tuple[Word, ...]
    uses: tuple[str, ...]  # what follows "for" in a description
    audiences: tuple[str, ...]
    accessory_of: str  # name of the type that this is an accessory of, or ""
    share: int  # relative number of products

    @property
    def department(self) -> str:
        return self.category.split(" > ", 1)[0]


@cache
def load_product_types() -> tuple[ProductType, ...]:
    """Reads the product types, once in a process. Raises DataFileError if a file is wrong."""
    files = [read_data_file(f"product_types/{name}.toml") for name in DEPARTMENT_FILES]
    names = [name for file in files for name in file]
    return tuple(read_product_type(file, name, names) for file in files for name in file)


@cache
def departments() -> tuple[str, ...]:
    """Returns the departments in the order of their product types."""
    return tuple(dict.fromkeys(kind.department for kind in load_product_types()))


def read_product_type(file: DataTable, name: str, names: list[str]) -> ProductType:
    """Reads a type of a department's file; `names` are those of all types."""
    words, table = load_words(), file.table(name)
    if names.count(name) > 1:
        file.fail(name, "is defined in another file as well")
    low, high = table.integer_range("price_dollars", 1, _MAX_DOLLARS)
    nouns, shopper_nouns = table.texts("nouns"), table.texts("shopper_nouns")
    for noun in nouns:
        if noun.lower() in shopper_nouns:
            table.fail("shopper_nouns", f"has {noun.lower()!r}, which sellers use")
    kind = ProductType(
        name=name,
        category=table.text("category"),
        kind=cast(Kind, table.text("kind", allowed=get_args(Kind))),
        min_price_minor=low * 100,
        max_price_minor=high * 100,
        nouns=nouns,
        shopper_nouns=shopper_nouns,
        palette=table.text("palette", allowed=words.palettes, default=""),
        materials=table.texts("materials", allowed=sellers(words.materials), is_optional=True),
        style_family=table.text("style_family", allowed=words.style_families),
        sizes=read_words(table.table("sizes", is_optional=True)),
        size_step=table.integer("size_step", 0, PRICE_STEPS, default=0),
        features=read_words(table.table("features")),
        uses=table.texts("uses"),
        audiences=table.texts("audiences", allowed=sellers(words.audiences), is_optional=True),
        accessory_of=table.text("accessory_of", allowed=names, default=""),
        share=table.integer("share", 1, _MAX_SHARE),
    )
    table.end()
    return kind
