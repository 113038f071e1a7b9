"""The fields of a product that the teacher reads, each behind a marker token of its own and with a maximum length."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import InputError
from models.products.attributes.informative import longest_prose, shared_information
from models.products.product_table import ATTRIBUTE, ProductList, ProductTable
from models.unified.price_bands import PriceBands

PRICE_WORDS = ("cheap", "affordable", "average", "premium", "luxury")  # by band, from the cheapest fifth of a category
UNKNOWN_LOCALE = "[LOCALE]"
_MAX_LOCALES = 1_000
_NAMES = {"category": "type", "price_minor": "price"}
_READ = ("title", "brand", "category", "price_minor")
_MOST_READ = 100_000  # products, whose attributes are counted
_CHARS_PER_TOKEN = 12  # a longer field is cut before it is tokenised


@dataclass(frozen=True, slots=True)
class Field:
    """A field: "title", "brand", "category" (its last step), "price_minor" (as a word for its band), or "attributes.NAME"."""

    name: str
    max_tokens: int

    def __post_init__(self) -> None:
        if self.name not in _READ and not self.name.startswith(ATTRIBUTE):
            raise ValueError(f"field {self.name!r} cannot be read; it may be {', '.join(_READ)} or {ATTRIBUTE}NAME")
        if not 1 <= self.max_tokens <= 256:
            raise ValueError(f"field {self.name}: max_tokens must be 1 to 256, not {self.max_tokens}")

    @property
    def word(self) -> str:
        """The marker's meaning as a plain word: "colour" of "attributes.colour"."""
        return _NAMES.get(self.name, self.name.removeprefix(ATTRIBUTE)).replace("_", " ").casefold()

    @property
    def marker(self) -> str:
        return f"[{re.sub(r'[^A-Z0-9]+', '_', self.word.upper()).strip('_')}]"


def locale_marker(locale: str) -> str:
    return f"[{locale.upper()}]"


@dataclass(frozen=True, slots=True)
class Marker:
    """A token that the base lacks, and the words whose embedding it starts from."""

    token: str
    meaning: str


def markers(fields: Sequence[Field], locales: Sequence[str]) -> tuple[Marker, ...]:
    """Returns the markers of all fields, of unknown locales, and of the known ones. Raises ValueError if two would be the same."""
    if len(locales) > _MAX_LOCALES:
        raise InputError(f"{len(locales)} locales; a teacher has at most {_MAX_LOCALES}")
    made = [Marker(field.marker, field.word) for field in fields]
    made.append(Marker(UNKNOWN_LOCALE, "language"))
    made += [Marker(locale_marker(locale), locale.replace("-", " ")) for locale in locales]
    tokens = [marker.token for marker in made]
    twice = [token for token in tokens if tokens.count(token) > 1]
    if twice:
        raise InputError(f"the marker {twice[0]} would stand for two things; rename a field or a locale")
    return tuple(made)


def available_fields(fields: Sequence[Field], table: ProductTable) -> tuple[Field, ...]:
    """Returns the fields that the catalogue has."""
    return tuple(field for field in fields if field.name in table.fields)


def attribute_fields(
    table: ProductTable, count: int, max_tokens: int, prose_tokens: int, beside: Sequence[Field]
) -> tuple[Field, ...]:
    """Returns fields of the catalogue's own attributes, at most `count` by `shared_information`, and its longest prose if `prose_tokens`
    is above 0.

    Attributes are left out that are in `beside` or whose marker would be that of another field, as "type", the word for a category.
    """
    taken = {field.marker for field in beside}
    chosen: list[Field] = []
    bits = shared_information(_attributes(table)) if count else {}
    prose = longest_prose(_attributes(table)) if prose_tokens else None
    short = [Field(ATTRIBUTE + name, max_tokens) for name in bits if bits[name] > 0 and name != prose]
    long = [] if prose is None else [Field(ATTRIBUTE + prose, prose_tokens)]
    for fields, most in ((short, count), (long, 1)):
        free = {field.marker: field for field in reversed(fields) if field.marker not in (*taken, "[]")}
        chosen += [field for field in fields if free.get(field.marker) is field][:most]
        taken |= {field.marker for field in chosen}
    return tuple(chosen)


def _attributes(table: ProductTable) -> Iterator[dict[str, str]]:
    """Yields the attributes of at most _MOST_READ products, from the whole catalogue in steps."""
    step = -(-len(table) // _MOST_READ)
    if step <= 1:
        yield from table.attributes_between(0, len(table))
    else:
        yield from (table.attributes_of(row) for row in range(0, len(table), step))


def field_texts(
    field: Field, table: ProductTable | ProductList, bands: PriceBands, rows: npt.NDArray[np.integer]
) -> list[str]:
    """Returns (rows,) the texts of a field; "" if it is empty."""
    return [text[: _CHARS_PER_TOKEN * field.max_tokens] for text in _field_texts(field, table, bands, rows.tolist())]


def _field_texts(
    field: Field, table: ProductTable | ProductList, bands: PriceBands, rows: Iterable[int]
) -> Iterable[str]:
    if field.name == "price_minor":
        numbers = (bands.band(table.product(row)) for row in rows)
        return ("" if band is None else PRICE_WORDS[band] for band in numbers)
    if field.name == "category":
        return (table.string("category", row).rsplit(">", 1)[-1].strip() for row in rows)
    return (table.string(field.name, row) for row in rows)
