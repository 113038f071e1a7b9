"""The products that a bundle is built from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from models.products.attributes.spec import AttributeSpec
from models.products.product import Product


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A stream of products. `fingerprint` changes with the products; `report` counts them, and is complete after they were read."""

    name: str
    fingerprint: str
    products: Callable[[], Iterator[Product]]
    report: Callable[[], dict[str, Any]]
    attributes: tuple[str, ...]  # those that have a column of their own
    text_attributes: tuple[str, ...]
    identifiers: tuple[str, ...] = ()  # attributes that hold model numbers, GTINs and other codes
    keeps_rare: bool = False  # products may have other attributes, of which many are rare
    types: tuple[AttributeSpec, ...] = ()  # attributes of a stated type
    keeps_types: bool = (
        False  # a later generation: its attributes have the types of the one before, whatever its products have
    )
    num_products: int | None = None
