"""The catalogue of one process while it changes: one generation, and what the log has added to it since.

The generation is an opened bundle. Everything that is parallel by row (`models.products.changes.RowParallel`) is attached here and grows in
place; nothing else knows what is old and what is new. Which row a change gets depends on the log alone, so a row means the same product in
every process that serves the generation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

import numpy as np

from models.arrays import Float16s, Floats, Ints
from models.index.product_vectors import ProductVectors
from models.product_rows import ProductRows
from models.products.attributes.columns import AttributeColumns
from models.products.attributes.parse import write_value
from models.products.attributes.spec import AttributeType
from models.products.changes import (
    AddedProducts,
    ChangedOffers,
    OfferedProduct,
    Prepares,
    RemovedProducts,
    RowParallel,
)
from models.products.product import Product
from models.products.product_table import ProductTable
from serving.catalogue.change import Change, Delete, LoggedBatch, Offer, Upsert
from serving.config import ConfigError
from serving.errors import AisleError

CHANGES_AT_ONCE = 128  # that are applied while searches wait: some milliseconds
PAUSE_S = 0.0005  # between them: a lock that is taken again at once is never another's


class OtherEncoder(ConfigError):
    """The log holds vectors that are not those of this bundle's encoder: products would be compared with what says nothing of them."""


class ChangeFailed(Exception):
    """A change cannot be applied. The structures may contradict each other: nothing may be read from them any more."""


class LiveCatalogue:
    """`sequence` is that of the last change that the generation was built with. Whoever computes over several structures holds `lock`: no
    change is applied meanwhile."""

    def __init__(
        self,
        table: ProductTable,
        vectors: ProductVectors,
        attributes: AttributeColumns,
        rows: ProductRows,
        dim: int,
        sequence: int,
        encoder: str,
    ) -> None:
        """`encoder` is the version of what made the vectors (`Manifest.encoder_version`)."""
        self.lock = threading.Lock()
        self.table, self.vectors, self.attributes = table, vectors, attributes
        self.sequence = self.base_sequence = sequence
        self.num_base_rows = len(table)
        self.num_changed_offers = 0
        self.owns: Callable[[str], bool] = lambda _: True  # says whether it takes the changes of a product
        self.holder: object = None  # what shares it with others lives as long as one of them
        self.on_demand: Callable[[int], None] | None = None  # brings it up to a sequence, if the log has it
        self._rows, self._dim, self._encoder = rows, dim, encoder
        self._parts: list[RowParallel] = []
        self._preparing: list[Prepares] = []
        self.attach(table, vectors, attributes)

    def attach(self, *parts: RowParallel) -> None:
        """Adds structures that will take every change. Raises ValueError if there were changes already."""
        if self.sequence != self.base_sequence:
            raise ValueError("the catalogue has changed: a structure of its rows comes too late")
        self._parts += parts
        self._preparing += [part for part in parts if isinstance(part, Prepares)]

    def catch_up(self, sequence: int) -> None:
        """Applies what the log holds, if `sequence` is not there yet. A log that cannot be read, or has no such change, changes nothing."""
        if self.sequence < sequence and self.on_demand:
            with contextlib.suppress(AisleError):  # the log has said so
                self.on_demand(sequence)

    def products(self, rows: Ints) -> Iterator[Product]:
        """Yields what is in these rows. The values of typed attributes are there as lists: read again, a text may mean another number
        beside other products, and the text of a list is not its items."""
        lists: list[dict[str, tuple[str, ...]]] = [{} for _ in rows]
        for name, column in self.attributes.items():
            if column.type is not AttributeType.TEXT:
                for at, number in column.values_of(rows):
                    lists[at][name] = (*lists[at].get(name, ()), write_value(column.value(number), column.type))
        for row, of_row in zip(rows.tolist(), lists, strict=True):
            yield dataclasses.replace(self.table.product(row), lists=of_row)

    def unit_vectors(self, rows: Ints) -> Float16s:
        """Returns (rows, dim)."""
        return self.vectors.columns(rows, 0, self._dim)

    def apply(self, batches: Sequence[LoggedBatch]) -> None:
        """Applies batches of the log that follow `sequence`, some changes at a time. Searches wait for what is left to do then: what can be
        computed of new products without a look at others is computed before.

        Raises ChangeFailed, and OtherEncoder if a batch has vectors of another encoder; of that batch and those after it nothing is
        applied."""
        for at, logged in enumerate(batches):
            if error := self._refusal(logged):
                self._apply(batches[:at])
                raise error
        self._apply(batches)

    def _refusal(self, logged: LoggedBatch) -> Exception | None:
        """Returns why no change of a batch can be applied."""
        vectors, encoder = logged.batch.vectors, logged.batch.encoder
        changes = f"changes {logged.first} to {logged.last}"
        if len(vectors) and encoder != self._encoder:
            return OtherEncoder(
                f"{changes} of the log have vectors of the encoder {encoder}, and the bundle's is {self._encoder}; let the bundle adopt "
                "the log with 'aisle catalogue adopt'"
            )
        if len(vectors) and vectors.shape[1] != self._dim:
            return ChangeFailed(
                f"{changes} have vectors of {vectors.shape[1]} dimensions, and the bundle's have {self._dim}"
            )
        return None

    def _apply(self, batches: Sequence[LoggedBatch]) -> None:
        changes = chain.from_iterable(logged.batch.changes for logged in batches)
        vectors = chain.from_iterable(logged.batch.vectors for logged in batches)
        is_first = True
        while part := list(islice(changes, CHANGES_AT_ONCE)):
            if not is_first:
                time.sleep(PAUSE_S)
            is_first = False
            try:
                self._apply_part(_Step(self, vectors), part)
            except Exception as error:
                first, last = self.sequence + 1, self.sequence + len(part)
                raise ChangeFailed(f"one of the changes {first} to {last} cannot be applied: {error!r}") from error

    def _apply_part(self, step: _Step, part: Sequence[Change]) -> None:
        for change in part:
            step.add(change)
        step.prepare()
        with self.lock:
            step.finish()
            self.sequence += len(part)


class _Step:
    """A few changes, brought down to rows that are appended, removed, or get a new offer."""

    def __init__(self, catalogue: LiveCatalogue, vectors: Iterator[Float16s]) -> None:
        """Takes the next of `vectors` for each product that is upserted."""
        self._catalogue, self._table = catalogue, catalogue.table
        self._start = len(self._table)
        self._upserted = vectors
        self._rows: dict[str, int | None] = {}  # of the products that changed in this step
        self._products: list[Product] = []  # appended
        self._vectors: list[Floats | Float16s] = []  # (dim,) of each
        self._removed: list[int] = []
        self._offers: dict[int, OfferedProduct] = {}  # by row
        self._former: dict[int, Product] = {}  # what was read of the table, by row
        self._added: AddedProducts | None = None
        self._changed: ChangedOffers | None = None
        self._gone: RemovedProducts | None = None

    def add(self, change: Change) -> None:
        if not self._catalogue.owns(change.product_id):
            if isinstance(change, Upsert):
                next(self._upserted)
            return
        row = (
            self._rows[change.product_id] if change.product_id in self._rows else self._table.row_of(change.product_id)
        )
        match change:
            case Upsert(product):
                vector = next(self._upserted)
                # An encoder's last bits depend on what else is in its batch: an equal product is the same one.
                if row is None or self._product(row) != product:
                    self._replace(row, product, vector)
            case Delete():
                if row is not None:
                    self._remove(row)
                    self._rows[change.product_id] = None
            case Offer():
                if row is None:
                    return
                if change.numbers:
                    old = self._product(row)
                    if change.of(old).attributes != old.attributes:
                        self._replace(row, change.of(self._with_lists(row, old)), self._vector(row))
                        return
                if row >= self._start:
                    self._products[row - self._start] = change.of(self._product(row))
                else:
                    self._offers[row] = self._offered(row, change)

    def prepare(self) -> None:
        """Computes what does not need the structures to stand still."""
        rows = self._catalogue._rows
        if self._products:
            vectors = rows.rows(self._products, np.asarray(self._vectors, np.float16))
            self._added = AddedProducts(self._start, self._products, vectors)
            for part in self._catalogue._preparing:
                part.prepare(self._added)
        if self._offers:
            products = list(self._offers.values())
            self._changed = ChangedOffers(np.array(list(self._offers)), products, rows.features(products))
        if self._removed:
            self._gone = RemovedProducts(np.array(self._removed), [self._former_product(row) for row in self._removed])

    def finish(self) -> None:
        """Applies the step to all structures."""
        catalogue = self._catalogue
        if self._added:
            for part in catalogue._parts:
                part.append(self._added)
        if self._changed:
            for part in catalogue._parts:
                part.change_offers(self._changed)
            catalogue.num_changed_offers += len(self._changed.rows)
        if self._gone:
            for part in catalogue._parts:
                part.remove(self._gone)

    def _replace(self, row: int | None, product: Product, vector: Float16s) -> None:
        if row is not None:
            self._remove(row)
        self._rows[product.id] = self._start + len(self._products)
        self._products.append(product)
        self._vectors.append(vector)

    def _remove(self, row: int) -> None:
        self._removed.append(row)
        self._offers.pop(row, None)

    def _offered(self, row: int, change: Offer) -> OfferedProduct:
        table, offered = self._table, self._offers.get(row)
        if offered is None:
            price, in_stock = table.price_minor(row), bool(table.in_stock[row])
            offered = OfferedProduct(change.product_id, table.string("category", row), price, in_stock)
        price, in_stock = change.price(offered.price_minor), change.stock(offered.in_stock)
        return OfferedProduct(offered.id, offered.category, price, in_stock)

    def _product(self, row: int) -> Product:
        product, offered = self._former_product(row), self._offers.get(row)
        if offered is None:
            return product
        return dataclasses.replace(product, price_minor=offered.price_minor, in_stock=offered.in_stock)

    def _former_product(self, row: int) -> Product:
        """Returns what is in a row before its offers of this step."""
        if row >= self._start:
            return self._products[row - self._start]
        product = self._former.get(row)
        if product is None:
            product = self._former[row] = self._table.product(row)
        return product

    def _with_lists(self, row: int, product: Product) -> Product:
        """Returns the product of a row with the lists of its attributes, which the table does not keep."""
        if row >= self._start:
            return product
        (read,) = self._catalogue.products(np.array([row]))
        return dataclasses.replace(product, lists=read.lists)

    def _vector(self, row: int) -> Float16s:
        if row >= self._start:
            return np.asarray(self._vectors[row - self._start], np.float16)
        return self._catalogue.unit_vectors(np.array([row]))[0]
