"""Reads the words of a query, without a model and without the catalogue: its conditions, and what is left without them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from models.query_words.language_rules import rules_of
from models.query_words.negations import read_negations
from models.query_words.parts import Part, QueryParts
from models.query_words.prices import read_prices
from models.query_words.text import blanked, folded, tokens

_LOOSE_ENDS = " ,;:-\u2013\u2014"


def read_query(query: str, locale: str, currency: str, spared: Sequence[tuple[int, int]] = ()) -> QueryParts:
    """Returns the parts of a query. `locale` is a BCP 47 tag or "", read as English; `currency` is the ISO 4217 code of the catalogue.

    `spared` are places (start, end) in which no condition is read, as those of identifiers and titles that the query was found to hold:
    "Tell No Lies" is a film. Any text has parts, if only none. Raises CatalogueError for a currency that is not three letters.
    """
    text, rules = folded(query), rules_of(locale)
    names = [Part(text=query[start:end], start=start, end=end) for start, end in spared]
    text = blanked(text, names, "|")
    words = tokens(text)
    prices = read_prices(query, text, rules, currency.upper())
    stated = [price for price in prices if price.is_stated]
    negations = read_negations(query, text, words, rules, stated)
    certain = [negation for negation in negations if negation.is_certain]
    return QueryParts(
        query=query,
        rest=_without(query, [*stated, *certain]),
        prices=prices,
        negations=negations,
    )


def _without(query: str, parts: Iterable[Part]) -> str:
    """Returns the query without these parts, on one line, without the punctuation that they leave behind."""
    kept, at = [], 0
    for part in sorted(parts, key=lambda part: part.start):
        kept.append(query[at : part.start])
        at = part.end
    if not kept:
        return query.strip()
    rest = " ".join(" ".join((*kept, query[at:])).split())
    return re.sub(r"(?:\s*([,;:]))+", r"\1", rest).strip(_LOOSE_ENDS)
