"""The history of a shopper before a search, as serving has it: searches, clicks and purchases; carts count as clicks.

Training takes the same items from columns (`models.unified.histories`); a test compares the two.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from models.events.event import Event, EventKind
from models.products.product import Product
from models.unified.words import category_tokens, field_token, words_of

MAX_TERMS = 16
MAX_ATTRIBUTES = 8
MAX_QUERY_WORDS = 12
MAX_KEPT = 20_000  # products whose words are kept: the reasons for a page read the same history again and again
LONGEST_TERM_CHARS = 24  # of an attribute that counts as a term ("dark green"); a description does not


class HistoryKind(StrEnum):
    SEARCH = "search"
    CLICK = "click"
    PURCHASE = "purchase"


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One action of a shopper. A search has a query; a click or a purchase has the facts of its product."""

    kind: HistoryKind
    time_ms: int
    query: str = ""
    terms: str = ""  # of the product, see `product_terms`
    brand: str = ""
    category: str = ""
    price_band: int | None = None  # within its category, see `PriceBands`
    attributes: tuple[str, ...] = ()  # of the product, see `short_attributes`
    product_id: str = ""


def product_terms(product: Product) -> str:
    """Returns title, brand and short attributes: the words that a history keeps of a product."""
    short = (value for value in product.attributes.values() if len(value) <= LONGEST_TERM_CHARS)
    return " ".join((product.title, product.brand, *short))


def short_attributes(attributes: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the first MAX_ATTRIBUTES short attributes as "style=rustic", which products can share as a whole.

    Of more, those without a digit come first: "width=35 mm" is a measure or a code, which few products share and nobody has a taste for.
    """
    short = [(name, value.strip()) for name, value in attributes.items() if len(value) <= LONGEST_TERM_CHARS]
    if len(short) > MAX_ATTRIBUTES:
        short.sort(key=lambda item: any(map(str.isdigit, item[1])))
    return tuple([f"{name}={value.casefold()}" for name, value in short if value][:MAX_ATTRIBUTES])


def product_item(kind: HistoryKind, time_ms: int, product: Product, price_band: int | None) -> HistoryItem:
    terms, attributes = _facts(product)
    return HistoryItem(
        kind,
        time_ms,
        terms=terms,
        brand=product.brand,
        category=product.category,
        price_band=price_band,
        attributes=attributes,
        product_id=product.id,
    )


@functools.lru_cache(MAX_KEPT)
def _facts(product: Product) -> tuple[str, tuple[str, ...]]:
    return product_terms(product), short_attributes(product.attributes)


def history_items(
    events: Iterable[Event], product_of: Callable[[str], Product | None], band_of: Callable[[Product], int | None]
) -> list[HistoryItem]:
    """Returns the items of one shopper's events, which are in order of time.

    A search counts once, a clicked product once for each search, and every purchase. Products that are no longer in the catalogue
    (`product_of` returns None) are left out.
    """
    items: list[HistoryItem] = []
    seen: set[tuple[str, ...]] = set()
    for event in events:
        search = (event.session_id, event.query)
        if event.query and search not in seen:
            seen.add(search)
            items.append(HistoryItem(HistoryKind.SEARCH, event.time_ms, query=event.query))
        if event.kind == EventKind.IMPRESSION or (product := product_of(event.product_id)) is None:
            continue
        if event.kind == EventKind.PURCHASE:
            items.append(product_item(HistoryKind.PURCHASE, event.time_ms, product, band_of(product)))
        elif (*search, event.product_id) not in seen:
            seen.add((*search, event.product_id))
            items.append(product_item(HistoryKind.CLICK, event.time_ms, product, band_of(product)))
    return items


@dataclass(frozen=True, slots=True)
class HistoryBlocks:
    """The number of tokens in each block of the history, the most recent ones; 0 switches a block off."""

    queries: int = 4
    clicks: int = 20
    brands: int = 20
    purchases: int = 12

    def __post_init__(self) -> None:
        for name, count in self.sizes().items():
            if not 0 <= count <= 64:
                raise ValueError(f"{name} must be 0 to 64 tokens, not {count}")

    def sizes(self) -> dict[str, int]:
        """Returns the number of tokens by block, in the order of the shopper tower."""
        return {"queries": self.queries, "clicks": self.clicks, "brands": self.brands, "purchases": self.purchases}

    @property
    def total(self) -> int:
        return sum(self.sizes().values())


def query_words(query: str) -> list[str]:
    return words_of(query, MAX_QUERY_WORDS)


def brand_and_price_tokens(brand: str, price_band: int | None) -> list[str]:
    """Returns the field tokens of a history's item, "" for one that is missing. Products have the same tokens, so that a shopper's taste
    matches them."""
    return [field_token("brand", brand), "" if price_band is None else field_token("price", price_band)]


def click_words(item: HistoryItem) -> list[str]:
    """Returns the words of a click: the product's terms, its brand and its price band."""
    return [*_terms(item.terms), *brand_and_price_tokens(item.brand, item.price_band)]


@functools.lru_cache(MAX_KEPT)
def _terms(terms: str) -> tuple[str, ...]:
    return tuple(words_of(terms, MAX_TERMS))


def brand_words(item: HistoryItem) -> list[str]:
    return [field_token("brand", item.brand)]


def purchase_words(item: HistoryItem) -> list[str]:
    """Returns the words of a purchase: those of a click and every step of the category."""
    return [*click_words(item), *category_tokens(item.category)]


def block_items(items: Sequence[HistoryItem], blocks: HistoryBlocks) -> dict[str, list[list[str]]]:
    """Returns, by block, the words of each token, the most recent first. `items` may be in any order."""
    latest = sorted(items, key=lambda item: item.time_ms)[
        ::-1
    ]  # of two at the same time, the one listed later comes first
    chosen: dict[str, list[list[str]]] = {}
    sources: tuple[tuple[str, HistoryKind, Callable[[HistoryItem], list[str]]], ...] = (
        ("queries", HistoryKind.SEARCH, lambda item: query_words(item.query)),
        ("clicks", HistoryKind.CLICK, click_words),
        ("brands", HistoryKind.CLICK, brand_words),
        ("purchases", HistoryKind.PURCHASE, purchase_words),
    )
    for name, kind, words in sources:
        size = blocks.sizes()[name]
        of_kind = [item for item in latest if item.kind == kind][:size]
        chosen[name] = [[word for word in words(item) if word] for item in of_kind]
    return chosen
