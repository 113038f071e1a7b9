"""What is known of a shopper when they search: the items of their history, as serving has them.

Searches, clicks and purchases are kept; carts count as clicks. Training takes the same items from columns
(`models.unified.histories`); a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from models.events.event import Event, EventKind
from models.products.product import Product
from models.unified.words import category_marks, mark, words_of

MAX_TERMS = 16
MAX_ATTRIBUTES = 8
MAX_QUERY_WORDS = 12
LONGEST_TERM_CHARS = 24  # of an attribute that is a term, as "dark green"; a description is not


class HistoryKind(StrEnum):
    SEARCH = "search"
    CLICK = "click"
    PURCHASE = "purchase"


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One thing a shopper did. A search has a query, the others what is known of the product."""

    kind: HistoryKind
    time_ms: int
    query: str = ""
    terms: str = ""  # of the product: see `product_terms`
    brand: str = ""
    category: str = ""
    price_band: int | None = None  # among its category: see `PriceBands`
    attributes: tuple[str, ...] = ()  # of the product: see `short_attributes`


def product_terms(product: Product) -> str:
    """Title, brand and short attributes: what a history remembers of a product."""
    short = (value for value in product.attributes.values() if len(value) <= LONGEST_TERM_CHARS)
    return " ".join((product.title, product.brand, *short))


def short_attributes(attributes: Mapping[str, str]) -> tuple[str, ...]:
    """The first MAX_ATTRIBUTES short attributes, each with its name, as "style=rustic": as a whole what products can share."""
    short = ((name, value.strip()) for name, value in attributes.items() if len(value) <= LONGEST_TERM_CHARS)
    return tuple([f"{name}={value.casefold()}" for name, value in short if value][:MAX_ATTRIBUTES])


def product_item(kind: HistoryKind, time_ms: int, product: Product, price_band: int | None) -> HistoryItem:
    return HistoryItem(
        kind,
        time_ms,
        terms=product_terms(product),
        brand=product.brand,
        category=product.category,
        price_band=price_band,
        attributes=short_attributes(product.attributes),
    )


def history_items(
    events: Iterable[Event], product_of: Callable[[str], Product | None], band_of: Callable[[Product], int | None]
) -> list[HistoryItem]:
    """Items of one shopper's events (in order of time): a search once, a product once a search, purchases each.

    Products that are no longer in the catalogue (`product_of` gives None) are left out.
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
    """How many tokens each block of the history has; 0 switches it off. The most recent are taken."""

    queries: int = 4
    clicks: int = 20
    brands: int = 20
    purchases: int = 12

    def __post_init__(self) -> None:
        for name, count in self.sizes().items():
            if not 0 <= count <= 64:
                raise ValueError(f"{name} must be 0 to 64 tokens, not {count}")

    def sizes(self) -> dict[str, int]:
        """Block -> tokens, in the order in which the shopper tower sees them."""
        return {"queries": self.queries, "clicks": self.clicks, "brands": self.brands, "purchases": self.purchases}

    @property
    def total(self) -> int:
        return sum(self.sizes().values())


def query_words(query: str) -> list[str]:
    return words_of(query, MAX_QUERY_WORDS)


def item_marks(item: HistoryItem) -> list[str]:
    """The brand as a whole, and where the price stands; products carry the same marks, so that tastes meet them."""
    return [mark("brand", item.brand), "" if item.price_band is None else mark("price", item.price_band)]


def click_words(item: HistoryItem) -> list[str]:
    """Terms of the product, and its marks."""
    return [*words_of(item.terms, MAX_TERMS), *item_marks(item)]


def brand_words(item: HistoryItem) -> list[str]:
    return [mark("brand", item.brand)]


def purchase_words(item: HistoryItem) -> list[str]:
    """Tags of a purchase: terms, brand, price and every step of the category."""
    return [*click_words(item), *category_marks(item.category)]


def block_items(items: Sequence[HistoryItem], blocks: HistoryBlocks) -> dict[str, list[list[str]]]:
    """Block -> words of its tokens, the most recent first. `items` in any order; an item without words is no token."""
    latest = sorted(items, key=lambda item: item.time_ms)[::-1]  # of two at the same time the later listed first
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
