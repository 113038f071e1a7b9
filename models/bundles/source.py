"""The products that a bundle is built from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from models.products.product import Product


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A stream of products. `fingerprint` changes with the products; `report` counts them, and is complete after they were read."""

    name: str
    fingerprint: str
    products: Callable[[], Iterator[Product]]
    report: Callable[[], dict[str, Any]]
    attributes: tuple[str, ...]
    text_attributes: tuple[str, ...]
    num_products: int | None = None
