"""The sample store: any number of products, the same for the same seed, and its catalogue file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.arrays import UInt64s
from models.draws import Draws, draw_words
from models.products.mapping import ColumnMapping
from models.products.product import Product
from models.sample_store.latents import NUM_LATENT_WORDS, LatentColumns, ProductLatent, latent_columns
from models.sample_store.queries import SampleQuery, write_query
from models.sample_store.wording import NUM_WORDING_WORDS, write_product

MAX_PRODUCTS = 10_000_000
CURRENCY = "USD"
SAMPLE_COLUMNS = ColumnMapping(
    brand="brand",
    category="category",
    price="price",
    in_stock="in_stock",
    text=("description",),
    attributes=("colour", "material", "style", "size", "feature", "audience", "model"),
)

_BLOCK = 4_096  # products drawn at once
_ROW_GROUP = 65_536


class SampleStore:
    """`num_products` products, numbered from 0. A smaller store of the same seed is the beginning of a larger one."""

    def __init__(self, num_products: int, seed: int = 0) -> None:
        if not 1 <= num_products <= MAX_PRODUCTS:
            raise ValueError(f"a sample store has 1 to {MAX_PRODUCTS:,} products, not {num_products:,}")
        self.num_products = num_products
        self.seed = seed

    def __len__(self) -> int:
        return self.num_products

    def product(self, number: int) -> Product:
        """Returns a product by its number. Raises IndexError outside of 0 to num_products - 1."""
        self._check_number(number)
        return next(self.products(number, number + 1))

    def products(self, start: int = 0, stop: int | None = None) -> Iterator[Product]:
        """Yields the products `start` to stop - 1, by default all."""
        stop = self._check_range(start, stop)
        for first in range(start, stop, _BLOCK):
            words = self._words(first, min(first + _BLOCK, stop))
            rows = latent_columns(words).rows()
            for number, (row, word) in enumerate(zip(rows, words[:, NUM_LATENT_WORDS].tolist(), strict=True), first):
                yield write_product(number, row, word)

    def latent(self, number: int) -> ProductLatent:
        """Returns the latent attributes of a product."""
        self._check_number(number)
        return self.latents(number, number + 1).rows()[0]

    def latents(self, start: int = 0, stop: int | None = None) -> LatentColumns:
        """Returns the latent attributes of products `start` to stop - 1 as arrays, about 115 bytes a product."""
        return latent_columns(self._words(start, self._check_range(start, stop)))

    def query(self, draws: Draws, product: int | None = None) -> SampleQuery:
        """Writes a query for a product, by default for one drawn evenly, so that queries for a type are in proportion to its products."""
        number = draws.below(self.num_products) if product is None else product
        return write_query(number, self.latent(number), draws)

    def write_parquet(
        self,
        path: Path | str,
        *,
        start: int = 0,
        stop: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Writes products `start` to stop - 1 as a catalogue that is read with SAMPLE_COLUMNS.

        The file appears under its name when it is complete. `progress` receives the number of products written so far.
        """
        path = Path(path)
        partial = path.with_name(f"{path.name}.partial")
        stop = self._check_range(start, stop)
        try:
            with pq.ParquetWriter(partial, _SCHEMA, compression="zstd") as writer:
                for first in range(start, stop, _ROW_GROUP):
                    last = min(first + _ROW_GROUP, stop)
                    writer.write_table(_table(list(self.products(first, last))))
                    if progress is not None:
                        progress(last - start)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _words(self, start: int, stop: int) -> UInt64s:
        return draw_words(self.seed, start, stop, NUM_LATENT_WORDS + NUM_WORDING_WORDS)

    def _check_number(self, number: int) -> None:
        if not 0 <= number < self.num_products:
            raise IndexError(f"the store has products 0 to {self.num_products - 1:,}, not {number:,}")

    def _check_range(self, start: int, stop: int | None) -> int:
        stop = self.num_products if stop is None else stop
        if not 0 <= start <= stop <= self.num_products:
            raise IndexError(f"the store has products 0 to {self.num_products - 1:,}, not {start:,} to {stop:,}")
        return stop


_PRICE = pa.decimal128(12, 2)
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "title", "brand", "category")),
        ("price", _PRICE),
        ("in_stock", pa.bool_()),
        *((name, pa.string()) for name in SAMPLE_COLUMNS.attribute_columns()),
    ]
)


def _table(products: list[Product]) -> pa.Table:
    cents = pa.array([product.price_minor for product in products], pa.int64()).cast(pa.decimal128(19, 0))
    prices = pc.multiply(cents, pa.scalar(Decimal("0.01"), pa.decimal128(3, 2))).cast(_PRICE)
    return pa.Table.from_arrays(
        [
            pa.array([product.id for product in products]),
            pa.array([product.title for product in products]),
            pa.array([product.brand for product in products]),
            pa.array([product.category for product in products]),
            prices,
            pa.array([product.in_stock for product in products]),
            *(
                pa.array([product.attributes.get(name) for product in products], pa.string())
                for name in SAMPLE_COLUMNS.attribute_columns()
            ),
        ],
        schema=_SCHEMA,
    )
