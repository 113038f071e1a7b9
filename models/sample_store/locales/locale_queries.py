"""The queries of a locale's shoppers: a noun of the locale, at times with a colour, material, size, audience, price or brand.

Words are in the order of the language, adjectives agree with the noun in languages with agreement, and most queries are in lower case. Some
shoppers leave out accents ("canape"), and some misspell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from models.draws import Draws
from models.sample_store.brands import load_brands
from models.sample_store.latents import ProductLatent
from models.sample_store.locales.language import Language, Locale, Noun, QueryField, WordLists
from models.sample_store.product_types import ProductType, load_product_types
from models.sample_store.words import Word, load_words
from models.typing_errors import misspell

TYPO_RATE = 0.05
PLAIN_LETTERS_RATE = 0.2  # of queries in languages that have accents
CAPITAL_RATE = 0.08  # of queries begin with a capital letter
OTHER_SIDE_RATE = 0.15  # of words stand on the unusual side of the noun

# Of 100 queries, those for the type and ...
_NOTHING_MORE = 42
_ONE_ATTRIBUTE = 32
_TWO_ATTRIBUTES = 10
_A_PRICE = 7
# ... and the rest for the brand.

# Screens and wheels are measured in inches even where other products are measured in centimetres.
_INCHES = re.compile(r"(\d+(?:\.\d+)?)-Inch")
# Sizes with the same spelling everywhere: "XL", "W32", "128 GB", "1.7 L".
_SAME_EVERYWHERE = re.compile(r"X*[SL]|M|W\d\d|\d+(\.\d+)? (GB|W|V|L|ml|mm|lm)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocaleQuery:
    """A query of a locale and what its shopper is searching for."""

    text: str
    locale: str
    type: int  # index of the target in load_product_types()
    field: str = ""  # "colour", "material" or "brand": a constraint whose word retrieves products


def write_locale_query(locale: Locale, latent: ProductLatent, draws: Draws) -> LocaleQuery:
    """Writes a query of the locale for products like the one that `latent` describes."""
    query = _QueryWriter(locale.language, _pick_noun(locale.nouns[latent.type], draws), draws)
    attributes = _attribute_words(locale.language, latent)
    form = draws.below(100) - _NOTHING_MORE
    named: list[QueryField] = []
    if 0 <= form < _ONE_ATTRIBUTE + _TWO_ATTRIBUTES:
        for _ in range(min(len(attributes), 1 if form < _ONE_ATTRIBUTE else 2)):
            named.append(draws.pick(tuple(attributes)))
            query.add(named[-1], draws.pick(attributes.pop(named[-1])))
    elif 0 <= (form := form - _ONE_ATTRIBUTE - _TWO_ATTRIBUTES) < _A_PRICE:
        if price_words := locale.language.price_words[latent.price_band]:
            query.add("price", draws.pick(price_words))
    elif form >= _A_PRICE:
        named.append("brand")
        query.add("brand", load_brands()[latent.brand].name.lower())
    fields = [name for name in named if name in ("colour", "material", "brand")]
    text = _typed(" ".join(query.words), locale.language, draws)
    return LocaleQuery(text=text, locale=locale.name, type=latent.type, field=fields[0] if fields else "")


class _QueryWriter:
    """A query in the making."""

    def __init__(self, language: Language, noun: Noun, draws: Draws) -> None:
        self._language, self._draws = language, draws
        self._form = language.form_of(noun)
        self.words = [noun.text]

    def add(self, name: QueryField, text: str) -> None:
        if name in ("colour", "price", "audience"):
            text = self._language.agree(text, self._form)
        is_before = (name in self._language.before_noun) != self._draws.chance(OTHER_SIDE_RATE)
        # "en cuir" begins with a preposition, and nobody searches for an "xl hoodie": these follow.
        follows = (name == "material" and " " in text) or (name == "size" and not text[0].isdigit())
        if is_before and not follows:
            self.words.insert(0, text)
        else:
            self.words.append(text)


def _pick_noun(nouns: tuple[Noun, ...], draws: Draws) -> Noun:
    """Draws a noun; the second is half as likely as the first, the third a third as likely."""
    shares = [60 // (rank + 1) for rank in range(len(nouns))]
    left = draws.below(sum(shares))
    for noun, share in zip(nouns, shares, strict=True):
        left -= share
        if left < 0:
            return noun
    raise AssertionError("a draw below the sum of the shares falls into one of them")


def _attribute_words(language: Language, latent: ProductLatent) -> dict[QueryField, tuple[str, ...]]:
    """Returns the words of the language for the product's attributes, without attributes that it has no word for."""
    words = load_words()
    attributes: dict[QueryField, tuple[str, ...]] = {
        "colour": _translate(language.colours, words.colours, latent.colour),
        "material": _translate(language.materials, words.materials, latent.material),
        "audience": _translate(language.audiences, words.audiences, latent.audience),
        "size": _size(language, load_product_types()[latent.type], latent.size),
    }
    return {name: texts for name, texts in attributes.items() if texts}


def _translate(translations: WordLists, words: tuple[Word, ...], at: int) -> tuple[str, ...]:
    return translations.get(words[at].seller, ()) if at >= 0 else ()


def _size(language: Language, kind: ProductType, at: int) -> tuple[str, ...]:
    if at < 0:
        return ()
    size = kind.sizes[at].seller
    if inches := _INCHES.fullmatch(size):
        has_inches = language.code == "en" or kind.department == "Electronics" or kind.name == "bicycle"
        return (f"{inches[1]} {language.inch}",) if has_inches else ()
    return (size.lower(),) if _SAME_EVERYWHERE.fullmatch(size) else ()


def _typed(text: str, language: Language, draws: Draws) -> str:
    """Returns the text as typed: without accents, misspelt or with a capital letter at times."""
    if language.plain_letters and draws.chance(PLAIN_LETTERS_RATE):
        text = text.translate(language.plain_letters)
    if draws.chance(TYPO_RATE):
        text = misspell(text, draws)
    if draws.chance(CAPITAL_RATE):
        text = ("İ" if language.code == "tr" and text[0] == "i" else text[0].upper()) + text[1:]
    return text
