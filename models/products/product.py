"""A product as the catalogue describes it, the text that is encoded for it, and the limits on its fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MAX_ID_CHARS = 256  # the contract's limit on a product id
MAX_TITLE_CHARS = 2_000
MAX_PRICE_MINOR = 10**15


@dataclass(frozen=True, slots=True)
class Product:
    """One product of a catalogue."""

    id: str
    title: str
    brand: str = ""
    category: str = ""  # from the broadest to the narrowest, as "Furniture > Living Room > Sofas"
    price_minor: int | None = None  # in minor units (cents) of the catalogue's currency; None is unknown
    in_stock: bool = True
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)  # other mapped columns that are not empty
    other_categories: tuple[str, ...] = ()  # further paths of a product that is in several categories
    # The items of attributes that are lists. Read from a catalogue, not kept with the product: the typed attributes have them.
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False, compare=False)


def product_text(product: Product, text_fields: Sequence[str] = ()) -> str:
    """Returns the text that is encoded for a product: "Velvet Sofa. Halden. Living Room, Sofas. Seats three"

    The parts are the title, the brand unless the title contains it, the last two steps of the category, and the attributes
    named by `text_fields`. Empty parts are left out.
    """
    brand = "" if product.brand.casefold() in product.title.casefold() else product.brand
    category = ", ".join(step.strip() for step in product.category.split(">")[-2:])
    parts = (product.title, brand, category, *(product.attributes.get(name, "") for name in text_fields))
    return ". ".join(text for part in parts if (text := part.rstrip(" .")))
