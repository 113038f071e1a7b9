"""What is searched for a query: its words without typing errors, and what it says of the price and of what is not wanted.

A price and a negation filter the hits. Where they would leave nothing, the search goes on without them, and the answer says so.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import islice

import numpy as np

from models.lexical.lexical_index import LexicalIndex
from models.products.identifiers import IdentifierIndex
from models.products.language_words import language_of
from models.products.product_table import ProductTable
from models.products.scripts import KnownScripts
from models.products.spelling import Mending, Speller
from models.query_words.parts import QueryParts
from models.query_words.read_query import read_query
from serving.compute.filter_masks import ProductFilter
from serving.search.request import AS_RETRIEVED, Search, TypeUse

MAX_OTHERS = 2  # readings of a query that are searched besides it
SAMPLE = 100  # products whose texts show what a negation means
FEATURE_SHARE = 0.2
NOTHING_LEFT = "no product with a word of the query fulfils it"
STATED = "the request filters by price itself"
CONTRADICTION = "the conditions contradict each other"


class PartKind(StrEnum):
    CORRECTION = "correction"
    PRICE = "price"
    NEGATION = "negation"
    UNKNOWN = "unknown"  # letters that mean nothing to the bundle's encoder


CONDITIONS = (PartKind.PRICE, PartKind.NEGATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderstoodPart:
    """A piece of the query, `query[start:end]`, and what it was taken for. `reason` says why it was not applied."""

    kind: PartKind
    text: str
    start: int
    end: int
    words: tuple[str, ...] = ()  # what a word was read as, or what is not wanted
    min_price_minor: int | None = None
    max_price_minor: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a query may mean."""

    query: str
    text: str  # the same without its conditions, which is searched


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryText:
    """`text` is searched, within `filter`; the text is empty if the query has conditions only. `alternatives` are other queries that may be
    meant. `readings` are the query and the likeliest of these, where several are searched."""

    text: str
    filter: ProductFilter
    parts: tuple[UnderstoodPart, ...] = ()
    alternatives: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()

    @property
    def corrected(self) -> str:
        """Returns what is searched if typing errors were corrected, else an empty text."""
        is_corrected = any(part.kind is PartKind.CORRECTION and not part.reason for part in self.parts)
        return self.text if is_corrected else ""

    @property
    def is_conditional(self) -> bool:
        """Says whether the query itself filters the hits."""
        return any(part.kind in CONDITIONS and not part.reason for part in self.parts)

    @property
    def is_unknown(self) -> bool:
        """Says whether the query is nothing but words to be found as they are."""
        return any(part.kind is PartKind.UNKNOWN for part in self.parts)

    def unconditional(self, product_filter: ProductFilter) -> QueryText:
        """Returns the same without conditions, which left nothing."""
        parts = tuple(
            dataclasses.replace(part, reason=NOTHING_LEFT) if part.kind in CONDITIONS and not part.reason else part
            for part in self.parts
        )
        return dataclasses.replace(self, filter=product_filter, parts=parts)


class QueryTexts:
    """Reads the queries of one catalogue. `locale` is its first: typing errors are corrected with the words of its products, so only in its
    language. `currency` is that of its prices. Without `negations`, which know the products, no negation is read; without `scripts` every
    letter counts as known."""

    def __init__(
        self,
        speller: Speller,
        identifiers: IdentifierIndex,
        locale: str,
        currency: str,
        negations: Negations | None = None,
        scripts: KnownScripts | None = None,
    ) -> None:
        self._speller = speller
        self._scripts = scripts
        self._negations = negations
        self._identifiers = identifiers
        self._locale, self._language = locale, language_of(locale)
        self._currency = currency.upper()
        # Queries recur, and 50 us or more are spared. What is read depends on nothing but the arguments: those that know the products have
        # their own caches, which follow the changes of products.
        self._read = lru_cache(maxsize=4_096)(read_query)

    def may_take_long(self, query: str, locale: str) -> bool:
        """Says whether `read` may take milliseconds: it does for words that are to be mended or left out."""
        return self._may_need_mending(query, locale) or any(
            negation.is_certain for negation in self._parts(query, locale, self._spared(query)).negations
        )

    def _may_need_mending(self, query: str, locale: str) -> bool:
        return language_of(locale) in ("", self._language) and self._speller.may_need_mending(query, self._language)

    def _spared(self, query: str) -> tuple[tuple[int, int], ...]:
        return tuple((match.start, match.end) for match in self._identifiers.find(query))

    def _parts(self, query: str, locale: str, spared: tuple[tuple[int, int], ...]) -> QueryParts:
        return self._read(query, locale or self._locale, self._currency, spared)

    def read(self, query: str, locale: str, product_filter: ProductFilter) -> QueryText:
        """Returns the query without the typing errors that can mean but one word, within its conditions. What an identifier holds is
        neither an error nor a condition."""
        if self._scripts and not self._scripts.knows(query):
            unknown = UnderstoodPart(kind=PartKind.UNKNOWN, text=query, start=0, end=len(query))
            return QueryText(text=query, filter=product_filter, parts=(unknown,))
        spared = self._spared(query)
        parts = self._without_features(self._parts(query, locale, spared), locale, spared)
        narrowed, conditions = conditions_of(parts, product_filter, self._currency)
        mending = Mending(query)
        if self._may_need_mending(query, locale):
            conditional = [(part.start, part.end) for part in parts.conditions]
            mending = self._speller.mend(query, self._language, (*spared, *conditional))
        text = _mended(parts.rest, mending, [c.into[0] if c.certain else c.word for c in mending.corrections])
        others = tuple(
            Reading(query, _mended(parts.rest, mending, words))
            for query, words in islice(zip(mending.alternatives, mending.readings, strict=True), MAX_OTHERS)
        )
        return QueryText(
            text=text,
            filter=narrowed,
            parts=(*corrections_of(mending), *conditions),
            alternatives=mending.alternatives,
            readings=(Reading(mending.query, text), *others) if others else (),
        )

    def _without_features(self, parts: QueryParts, locale: str, spared: tuple[tuple[int, int], ...]) -> QueryParts:
        """Returns the parts without negations that say what products are ("sans fil")."""
        features = tuple(
            (negation.start, negation.end)
            for negation in parts.negations
            if negation.is_certain
            and (self._negations is None or self._negations.is_feature(negation.text, negation.words))
        )
        return self._parts(parts.query, locale, (*spared, *features)) if features else parts


class Negations:
    """Tells what is not wanted ("without velvet") from what a product is said to be ("sans fil", wireless), by the products' own texts."""

    def __init__(self, products: ProductTable, lexical: LexicalIndex) -> None:
        self._products = products
        self._lexical = lexical
        # What was read before the products changed leaves the cache as what is used least.
        self._known = lru_cache(maxsize=4_096)(lambda text, words, _version: self._is_feature(text, words))

    def is_feature(self, text: str, words: str) -> bool:
        """Says whether products that hold the words often hold the whole negation."""
        return self._known(text, words, self._lexical.version)

    def _is_feature(self, text: str, words: str) -> bool:
        rows = self._lexical.holding(words)
        rows = rows[
            : np.searchsorted(rows, len(self._products))
        ]  # words of a product may be there before it can be read
        sample = rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE].tolist()
        phrase = text.casefold()
        holders = sum(phrase in self._text(row) for row in sample)
        return holders > FEATURE_SHARE * len(sample)

    def _text(self, row: int) -> str:
        product = self._products.product(row)
        return " ".join((product.title, product.brand, product.category, *product.attributes.values())).casefold()


def reworded(search: Search, read: QueryText) -> Search:
    """Returns the search for the text of its query, within its conditions. Where nothing but conditions is left, all products that fulfil
    them are asked for, unless the search needs words to compare with."""
    if read.is_unknown:
        return dataclasses.replace(search, words_only=True, type_use=TypeUse.OFF, type_boost=0.0)
    if read.text or search.min_similarity > -math.inf or search.boosts:
        return dataclasses.replace(search, query=read.text or search.query, filter=read.filter)
    return dataclasses.replace(
        search, query="", filter=read.filter, ranking=AS_RETRIEVED, type_use=TypeUse.OFF, type_boost=0.0
    )


def _mended(text: str, mending: Mending, words: Sequence[str]) -> str:
    """Returns the text with the word of each correction read as the one of `words`."""
    for correction, word in zip(mending.corrections, words, strict=True):
        if word != correction.word:
            text = _replaced(text, correction.word, word)
    return text


def _replaced(text: str, word: str, by: str) -> str:
    """Returns the text with the first occurrence of a whole word replaced."""
    return re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", lambda _: by, text, count=1)


def corrections_of(mending: Mending) -> tuple[UnderstoodPart, ...]:
    return tuple(
        UnderstoodPart(
            kind=PartKind.CORRECTION,
            text=correction.word,
            start=correction.start,
            end=correction.end,
            words=correction.into,
            reason="" if correction.certain else "it may mean several words",
        )
        for correction in mending.corrections
    )


def conditions_of(
    parts: QueryParts, product_filter: ProductFilter, currency: str
) -> tuple[ProductFilter, tuple[UnderstoodPart, ...]]:
    """Returns the filter with the conditions of a query, and what each condition was taken for."""
    filters_price = product_filter.min_price_minor is not None or product_filter.max_price_minor is not None
    why_no_price = STATED if filters_price else CONTRADICTION if parts.contradicts_itself(currency) else ""
    understood = [
        UnderstoodPart(
            kind=PartKind.PRICE,
            text=price.text,
            start=price.start,
            end=price.end,
            min_price_minor=price.min_minor,
            max_price_minor=price.max_minor,
            reason=why_no_price
            or ("" if price.currency == currency else f"prices are in {currency}, not {price.currency}"),
        )
        for price in parts.prices
        if price.is_stated
    ]
    negations = [negation for negation in parts.negations if negation.is_certain]
    understood += [
        UnderstoodPart(
            kind=PartKind.NEGATION,
            text=negation.text,
            start=negation.start,
            end=negation.end,
            words=(negation.words,),
        )
        for negation in negations
    ]
    low, high = (None, None) if why_no_price else parts.price_bounds(currency)
    narrowed = product_filter
    if low is not None or high is not None:
        narrowed = dataclasses.replace(narrowed, min_price_minor=low, max_price_minor=high)
    if negations:
        narrowed = dataclasses.replace(narrowed, excluded_words=tuple(negation.words for negation in negations))
    return narrowed, tuple(sorted(understood, key=lambda part: part.start))
