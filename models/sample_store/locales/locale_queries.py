"""How shoppers of a locale ask for a product: its noun there, at times with a colour, material, size, audience, price, brand.

The words stand in the order of the language, adjectives agree with the noun where the language has that, and queries are in
lower case but for a few. Some shoppers leave out accents ("canape"), and some misspell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from models.draws import Draws
from models.sample_store.latents import ProductLatent
from models.sample_store.locales.language import Language, Noun
from models.sample_store.locales.spoken import Locale
from models.sample_store.product_types import PRODUCT_TYPES, ProductType
from models.sample_store.vocabulary import AUDIENCES, BRANDS, COLOURS, MATERIALS, Word
from models.typing_errors import misspell

TYPO_RATE = 0.05
PLAIN_LETTERS_RATE = 0.2  # of queries in languages that have accents
CAPITAL_RATE = 0.08  # of queries begin with a capital letter
OTHER_PLACE_RATE = 0.15  # of words stand on the other side of the noun than is usual

# Of 100 queries, those that ask for the type and ...
_NOTHING_MORE = 42
_ONE_ATTRIBUTE = 32
_TWO_ATTRIBUTES = 10
_A_PRICE = 7
# ... and the rest for the brand.

# Where other things are measured in centimetres, screens and wheels are still measured in inches.
_INCHES = re.compile(r"(\d+(?:\.\d+)?)-Inch")
# Sizes that are written alike everywhere: "XL", "W32", "128 GB", "1.7 L".
_SAME_EVERYWHERE = re.compile(r"X*[SL]|M|W\d\d|\d+(\.\d+)? (GB|W|V|L|ml|mm|lm)")


@dataclass(frozen=True, slots=True)
class LocaleQuery:
    """A query of a locale and what its shopper wants."""

    text: str
    locale: str
    type: int  # index of the wanted PRODUCT_TYPES
    field: str = (
        ""  # "colour", "material" or "brand": one more thing that is asked for, of those that results are found by
    )


def write_locale_query(locale: Locale, latent: ProductLatent, draws: Draws) -> LocaleQuery:
    """A query of the locale for products like the one that `latent` describes."""
    query = _Query(locale.language, _falling(locale.nouns[latent.type], draws), draws)
    attributes = _attributes(locale.language, latent)
    form = draws.below(100) - _NOTHING_MORE
    asked: list[str] = []
    if 0 <= form < _ONE_ATTRIBUTE + _TWO_ATTRIBUTES:
        for _ in range(min(len(attributes), 1 if form < _ONE_ATTRIBUTE else 2)):
            asked.append(draws.pick(tuple(attributes)))
            query.add(asked[-1], draws.pick(attributes.pop(asked[-1])))
    elif 0 <= (form := form - _ONE_ATTRIBUTE - _TWO_ATTRIBUTES) < _A_PRICE:
        if said := locale.language.prices[latent.price_band]:
            query.add("price", draws.pick(said))
    elif form >= _A_PRICE:
        asked.append("brand")
        query.add("brand", BRANDS[latent.brand].name.lower())
    found_by = [name for name in asked if name in ("colour", "material", "brand")]
    text = _typed(" ".join(query.words), locale.language, draws)
    return LocaleQuery(text, locale.name, latent.type, found_by[0] if found_by else "")


class _Query:
    """A query in the making."""

    def __init__(self, language: Language, noun: Noun, draws: Draws) -> None:
        self._language, self._draws = language, draws
        self._form = noun.form or language.ending(noun.text.split(" ")[0])
        self.words = [noun.text]

    def add(self, name: str, said: str) -> None:
        if name in ("colour", "price", "audience"):
            said = self._language.agree(said, self._form)
        is_before = (name in self._language.before) != self._draws.chance(OTHER_PLACE_RATE)
        # "en cuir" begins with a preposition, and nobody asks for an "xl hoodie": these follow.
        follows = (name == "material" and " " in said) or (name == "size" and not said[0].isdigit())
        if is_before and not follows:
            self.words.insert(0, said)
        else:
            self.words.append(said)


def _falling(nouns: tuple[Noun, ...], draws: Draws) -> Noun:
    """One of the nouns, the second half as likely as the first, the third a third as likely."""
    shares = [60 // (rank + 1) for rank in range(len(nouns))]
    left = draws.below(sum(shares))
    for noun, share in zip(nouns, shares, strict=True):
        left -= share
        if left < 0:
            return noun
    raise AssertionError("the shares are those that were summed")


def _attributes(language: Language, latent: ProductLatent) -> dict[str, tuple[str, ...]]:
    """What the language can say of the product."""
    said = {
        "colour": _words(language.colours, COLOURS, latent.colour),
        "material": _words(language.materials, MATERIALS, latent.material),
        "audience": _words(language.audiences, AUDIENCES, latent.audience),
        "size": _size(language, PRODUCT_TYPES[latent.type], latent.size),
    }
    return {name: words for name, words in said.items() if words}


def _words(said: Mapping[str, tuple[str, ...]], listed: tuple[Word, ...], at: int) -> tuple[str, ...]:
    return said.get(listed[at].seller, ()) if at >= 0 else ()


def _size(language: Language, kind: ProductType, at: int) -> tuple[str, ...]:
    if at < 0:
        return ()
    size = kind.sizes[at].seller
    if inches := _INCHES.fullmatch(size):
        said = language.code == "en" or kind.department == "Electronics" or kind.name == "bicycle"
        return (f"{inches[1]} {language.inch}",) if said else ()
    return (size.lower(),) if _SAME_EVERYWHERE.fullmatch(size) else ()


def _typed(text: str, language: Language, draws: Draws) -> str:
    """The text as it comes from a keyboard."""
    if language.plain and draws.chance(PLAIN_LETTERS_RATE):
        text = text.translate(language.plain)
    if draws.chance(TYPO_RATE):
        text = misspell(text, draws)
    if draws.chance(CAPITAL_RATE):
        text = ("İ" if language.code == "tr" and text[0] == "i" else text[0].upper()) + text[1:]
    return text
