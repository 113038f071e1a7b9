"""How a bundle's model encodes products: `TextProducts` for text encoders, `TowerProducts` for the unified model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from models.arrays import Floats
from models.products.product import Product, product_text
from models.text_encoder.spec import Text
from serving.search.readers import ORDINARY_TOKENS, TextStage, embed_together
from serving.stages.stage import Stage

PRODUCT_COST = 4  # a product's text has about so many times the tokens of a query


class ProductVectors(Protocol):
    """Gives products the vectors that a build would give them."""

    cost: int  # of one product in the stage, about

    @property
    def stage(self) -> Stage[Any, Any]: ...

    async def embed(self, products: Sequence[Product], deadline: float) -> Floats:
        """Returns unit vectors (products, dim)."""


class TextProducts:
    """Encodes the texts of products by the stage that encodes queries."""

    cost = PRODUCT_COST * ORDINARY_TOKENS

    def __init__(self, texts: TextStage, text_attributes: Sequence[str]) -> None:
        self._texts = texts
        self._text_attributes = text_attributes

    @property
    def stage(self) -> Stage[Any, Any]:
        return self._texts.stage

    async def embed(self, products: Sequence[Product], deadline: float) -> Floats:
        texts = [Text(product_text(product, self._text_attributes), "product") for product in products]
        return await self._texts.embed(texts, deadline)


class TowerProducts:
    """Encodes products by a stage of their own. `cost` is that of one product in it."""

    def __init__(self, stage: Stage[Product, Floats], cost: int) -> None:
        self.stage: Stage[Any, Any] = stage
        self.cost = cost

    async def embed(self, products: Sequence[Product], deadline: float) -> Floats:
        return await embed_together(self.stage, [(product, self.cost) for product in products], deadline)
