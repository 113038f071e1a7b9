"""The texts that sellers write for products: titles of many shapes, descriptions and attributes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from models.products.product import Product
from models.sample_store.brands import load_brands, load_series
from models.sample_store.latents import ProductLatent
from models.sample_store.product_types import Kind, load_product_types
from models.sample_store.words import Word, load_words

NUM_WORDING_WORDS = 1  # random words that the wording of a product is drawn from

_MODEL_LETTERS = "XTSVRGZKMLQDNPBC"
_SERIES_PER_BRAND = 6


@dataclass(slots=True)
class _Parts:
    """The parts of a title and a description. Each part begins with a blank, or is empty."""

    brand: str
    series: str
    model: str
    audience: str
    style: str
    material: str
    size: str
    feature: str
    noun: str
    colour: str
    finish: str  # colour and material
    use: str


def product_id(number: int) -> str:
    """Returns the id of a product by its number from 0."""
    return f"AS-{number + 1:07d}"


def model_code(latent: ProductLatent) -> str:
    """Returns the model number as "HX-4210", or "" for a type without model numbers."""
    if latent.model_number < 0:
        return ""
    letter = _MODEL_LETTERS[(latent.model_number + 5 * latent.type) % len(_MODEL_LETTERS)]
    return f"{load_brands()[latent.brand].name[0]}{letter}-{latent.model_number}"


def write_product(number: int, latent: ProductLatent, word: int) -> Product:
    """Writes the product's texts; `word` is 64 random bits that choose among wordings."""
    lexicon = _lexicon()
    kind = load_product_types()[latent.type]
    type_lexicon = lexicon.types[latent.type]
    model = model_code(latent)
    series = (11 * latent.brand + 17 * ((word >> 8) % _SERIES_PER_BRAND)) % len(lexicon.series)
    colour = lexicon.colours[latent.colour]
    material = lexicon.materials[latent.material]
    parts = _Parts(
        brand=lexicon.brands[latent.brand],
        series=lexicon.series[series],
        model=f" {model}" if model else "",
        audience=lexicon.audiences[latent.audience],
        style=lexicon.styles[latent.style],
        material=material,
        size=type_lexicon.sizes[latent.size],
        feature=type_lexicon.features[latent.feature],
        noun=type_lexicon.nouns[latent.noun],
        colour=colour,
        finish=colour + material,
        use=type_lexicon.uses[((word >> 16) & 0xFF) % len(type_lexicon.uses)],
    )
    titles = _TITLES[kind.kind]
    title = titles[(word & 0xFF) % len(titles)](parts)[1:]
    second_feature = type_lexicon.features[((word >> 24) & 0xFF) % len(kind.features)]
    attributes = {
        name: part[1:]
        for name, part in (
            ("colour", colour),
            ("material", material),
            ("style", parts.style),
            ("size", parts.size),
            ("feature", parts.feature),
            ("audience", parts.audience),
            ("model", parts.model),
            ("description", _description(parts, second_feature, word >> 32)),
        )
        if part
    }
    return Product(
        id=product_id(number),
        title=title,
        brand=parts.brand[1:],
        category=kind.category,
        price_minor=latent.price_minor,
        in_stock=latent.in_stock,
        attributes=attributes,
    )


def _after(link: str, part: str) -> str:
    return link + part if part else ""


def _in_brackets(part: str) -> str:
    return f" ({part[1:]})" if part else ""


_TITLES: dict[Kind, tuple[Callable[[_Parts], str], ...]] = {
    "home": (
        lambda p: f"{p.brand}{p.material}{p.size}{p.noun}{_after(' in', p.colour)}",
        lambda p: f"{p.brand}{p.series}{p.size}{p.noun}{_after(' in', p.finish)}",
        lambda p: f"{p.brand}{p.series}{p.style}{p.noun}{_after(',', p.feature)}{_after(',', p.colour)}",
        lambda p: f"{p.style}{p.size}{p.noun}{_after(' in', p.finish)} by{p.brand}",
        lambda p: f"{p.brand}{p.series}{p.noun}{_after(',', p.size)}{_after(',', p.finish)}",
        lambda p: f"{p.brand}{p.style}{p.material}{p.noun}{_after(' -', p.size)}{_in_brackets(p.colour)}",
    ),
    "device": (
        lambda p: f"{p.brand}{p.model}{p.size}{p.audience}{p.noun}{_after(',', p.feature)}{_after(',', p.colour)}",
        lambda p: f"{p.brand}{p.series}{p.size}{p.noun}{_after(' -', p.feature)}{_in_brackets(p.colour)}",
        lambda p: f"{p.brand}{p.style}{p.noun}{p.model}{_after(',', p.size)}{_after(',', p.colour)}",
        lambda p: f"{p.brand}{p.series}{p.model}{p.material}{p.noun}{_after(' -', p.colour)}",
        lambda p: f"{p.size}{p.audience}{p.noun} by{p.brand}{_after(',', p.feature)}{_after(' -', p.model)}",
        lambda p: f"{p.brand}{p.noun}{_after(',', p.size)}{_after(',', p.feature)}{_after(',', p.finish)}{p.model}",
    ),
    "wear": (
        lambda p: f"{p.brand}{p.audience}{p.style}{p.material}{p.noun}{_after(' -', p.colour)}",
        lambda p: f"{p.brand}{p.series}{p.audience}{p.noun}{_after(' in', p.finish)}",
        lambda p: f"{p.brand}{p.audience}{p.feature}{p.noun}{_after(',', p.colour)}{_after(',', p.size)}",
        lambda p: f"{p.audience}{p.style}{p.noun}{_after(' in', p.finish)} by{p.brand}",
        lambda p: f"{p.brand}{p.series}{p.noun}{_after(',', p.feature)}{_after(',', p.colour)}{_in_brackets(p.size)}",
    ),
    "goods": (
        lambda p: f"{p.brand}{p.series}{p.audience}{p.noun}{_after(',', p.size)}{_after(',', p.colour)}",
        lambda p: f"{p.brand}{p.material}{p.noun}{_after(' -', p.feature)}{_after(' -', p.size)}",
        lambda p: f"{p.brand}{p.feature}{p.noun}{_after(',', p.size)}{_in_brackets(p.colour)}",
        lambda p: f"{p.brand}{p.style}{p.material}{p.noun}{_after(' in', p.colour)}{_after(',', p.size)}",
        lambda p: (
            f"{p.audience}{p.noun} by{p.brand}{_after(',', p.feature)}{_after(',', p.finish)}{_after(',', p.size)}"
        ),
    ),
}


_CAPITALS = re.compile("[A-Z]{2}")


@cache
def _low(part: str) -> str:
    """Returns lower case, except for words like USB or LED."""
    return " ".join(word if _CAPITALS.search(word) else word.lower() for word in part.split(" "))


_OPENINGS: tuple[Callable[[_Parts], str], ...] = (
    lambda p: f"{p.style}{_low(p.noun)}, made for{p.use}.",
    lambda p: f" Designed for{p.use}, in{_low(p.finish) or ' one classic finish'}.",
    lambda p: f" Part of the{p.series} range by{p.brand}, for{p.use}.",
    lambda p: f" From{p.brand}, in our{_low(p.style)} range:{_low(p.noun)} for{p.use}.",
    lambda p: f" With{p.use} in mind: our{_low(p.material)}{_low(p.noun)}.",
)

_CLOSINGS: tuple[Callable[[_Parts, str], str], ...] = (
    lambda p, more: f" Features:{p.feature}{_after(';', more)}.",
    lambda p, more: f" Also:{_low(more or p.feature)}.",
    lambda p, _: f" Shown here in{_low(p.colour) or ' its standard finish'}{_after(',', p.size)}.",
    lambda p, more: f" You will like the details:{_low(p.feature)}{_after(' and', _low(more))}.",
    lambda *_: " Checked by hand before it ships.",
    lambda *_: "",
)


def _description(parts: _Parts, second_feature: str, draw: int) -> str:
    # Features with the same last word exclude each other: "Slim Fit" and "Relaxed Fit", "Lamb Recipe" and "Salmon Recipe".
    more = "" if _last_word(second_feature) == _last_word(parts.feature) else second_feature
    opening = _OPENINGS[(draw & 0xFF) % len(_OPENINGS)](parts)
    return opening + _CLOSINGS[((draw >> 8) & 0xFF) % len(_CLOSINGS)](parts, more)


def _last_word(part: str) -> str:
    return part.rpartition(" ")[2]


@dataclass(frozen=True, slots=True)
class _TypeLexicon:
    nouns: list[str]
    sizes: list[str]
    features: list[str]
    uses: list[str]


@dataclass(frozen=True, slots=True)
class _Lexicon:
    """The sellers' words by index, as parts. The last of each list is empty, and ABSENT (-1) indexes it."""

    brands: list[str]
    colours: list[str]
    materials: list[str]
    styles: list[str]
    audiences: list[str]
    series: list[str]
    types: list[_TypeLexicon]


@cache
def _lexicon() -> _Lexicon:
    words = load_words()
    return _Lexicon(
        brands=[f" {brand.name}" for brand in load_brands()],
        colours=_parts(words.colours),
        materials=_parts(words.materials),
        styles=_parts(words.styles),
        audiences=_parts(words.audiences),
        series=[f" {name}" for name in load_series()],
        types=[
            _TypeLexicon(
                nouns=[f" {noun}" for noun in kind.nouns],
                sizes=_parts(kind.sizes),
                features=_parts(kind.features),
                uses=[f" {use}" for use in kind.uses],
            )
            for kind in load_product_types()
        ],
    )


def _parts(words: Iterable[Word]) -> list[str]:
    return [*(f" {word.seller}" for word in words), ""]
