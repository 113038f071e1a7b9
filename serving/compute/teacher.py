"""The teacher as a stage: chunks of candidates of concurrent calls, read in one batch by the cross-encoder.

The cost of a chunk is the estimated number of its tokens. In a batch, pairs of similar length are padded together, whichever call they
belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.arrays import Bools, Codes, Floats, Ints
from models.bundles.bundle import Bundle
from models.products.changes import AddedProducts, ChangedOffers, Offered, RemovedProducts
from models.products.growing_rows import GrowingRows
from models.products.product import Product
from models.products.product_table import ProductList, ProductTable
from models.ranking.feature_names import FEATURES
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.ranking.teacher.pair_tokens import TextSpec
from models.ranking.teacher.teacher import Teacher
from models.unified.bundle_part import UNIFIED_PART
from models.unified.price_bands import PriceBands
from models.unified.words import Ragged
from serving.compute.catalogue_state import FIXED, CatalogueState
from serving.compute.retrieval import GivenCandidates

# Padded tokens of one batch. On a CPU one call of the network takes a whole batch; a GPU needs far more to be busy.
CPU_BATCH_TOKENS = 2_048
CUDA_BATCH_TOKENS = 65_536
CHUNK_TOKENS = 512  # a quarter of a CPU's batch, so that chunks of several calls fill it
MAX_KEPT_PRODUCTS = 100_000  # whose tokens are kept, some 250 bytes each; making them takes 80 us
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Some candidates of one call, and their features as the student read them (candidates, features)."""

    query: str
    locale: str
    candidates: GivenCandidates
    features: Floats
    min_sequence: int = 0  # of the latest change of the catalogue that its rows need


class PairCosts:
    """Estimates the tokens of a pair of query and product from the lengths of its texts. It is parallel by row."""

    def __init__(self, teacher_folder: Path, table: ProductTable) -> None:
        self._spec = TextSpec.load(teacher_folder)
        self._fields = [field for field in self._spec.fields if field.name != "price_minor"]
        texts = (_tokens(table.lengths(field.name), field.max_tokens) for field in self._fields)
        self._of_texts = GrowingRows(sum(texts, np.ones(len(table), np.int64)))
        prices = (field.max_tokens for field in self._spec.fields if field.name == "price_minor")
        self._of_price = sum(int(_tokens(np.array([_BYTES_PER_TOKEN]), most)[0]) for most in prices)
        self._has_price = GrowingRows(table.has_price.copy())

    def append(self, added: AddedProducts) -> None:
        self._of_texts.append(self._tokens_of_texts(added.products))
        self._has_price.append(_priced(added.products))

    def remove(self, removed: RemovedProducts) -> None:
        """Rows stay."""

    def change_offers(self, changed: ChangedOffers) -> None:
        self._has_price.put(changed.rows, _priced(changed.products))

    def of(self, query: str, candidates: GivenCandidates) -> Ints:
        """Returns (candidates,) the estimated tokens of each pair."""
        query_tokens = 3 + min(self._spec.max_query_tokens, 1 + len(query.encode()) // _BYTES_PER_TOKEN)
        rows, products = candidates.rows, candidates.products
        texts = np.concatenate([self._of_texts.take(rows), self._tokens_of_texts(products)])
        return query_tokens + texts + self._of_price * np.concatenate([self._has_price.take(rows), _priced(products)])

    def _tokens_of_texts(self, products: Sequence[Product]) -> Ints:
        """Returns (products,) the estimated tokens, without those of the price, of products that need not be in the table."""
        tokens, texts = np.ones(len(products), np.int64), ProductList(products)
        for field in self._fields:
            lengths = [len(texts.string(field.name, at).encode()) for at in range(len(products))]
            tokens += _tokens(np.array(lengths, np.int64), field.max_tokens)
        return tokens


def _priced(products: Sequence[Offered]) -> Bools:
    """Returns (products,) whether each has a price."""
    return np.array([product.price_minor is not None for product in products], np.bool_)


def _tokens(lengths: Ints, most: int) -> Ints:
    """Returns the estimated tokens of texts from their bytes, with the marker that precedes each text that is not empty."""
    return np.where(lengths > 0, 1 + np.minimum(most, 1 + lengths // _BYTES_PER_TOKEN), 0)


class TeacherReader:
    """The compute of the teacher stage: the cross-encoder, and the tokens of products that it has read before.

    It is parallel by row, and its table grows before it.
    """

    def __init__(
        self,
        bundle_folder: Path,
        device: str,
        threads: int,
        max_batch_tokens: int,
        table: ProductTable | None = None,
        catalogue: CatalogueState = FIXED,
    ) -> None:
        """`table` is the bundle's, if it was opened before."""
        bundle = Bundle(bundle_folder)
        self._catalogue = catalogue
        self._teacher = Teacher.load(TEACHER_PART.open(bundle), device, threads, features=FEATURES)
        self._table = bundle.products() if table is None else table
        self._bands = PriceBands.load(UNIFIED_PART.open(bundle))
        self._tokens: dict[int, Codes] = {}
        self.max_batch_cost = max_batch_tokens
        self.backend = self._teacher.network.name

    def warm_up(self) -> None:
        random = np.random.default_rng(0)
        query = " ".join(self._table.string("title", 0).split()[:3])
        for size in self._teacher.network.warm_up_pairs:
            rows = random.integers(0, len(self._table), size)
            self.compute([Chunk(query, "", GivenCandidates(rows), np.zeros((size, len(FEATURES)), np.float32))])
        self._tokens.clear()

    def append(self, added: AddedProducts) -> None:
        """Tokens are made when a product is read."""

    def remove(self, removed: RemovedProducts) -> None:
        self._forget(removed.rows)

    def change_offers(self, changed: ChangedOffers) -> None:
        """The price is among the tokens."""
        self._forget(changed.rows)

    def _forget(self, rows: Ints) -> None:
        for row in rows.tolist():
            self._tokens.pop(row, None)

    def compute(self, items: Sequence[Chunk]) -> Sequence[Floats | Exception]:
        """Returns (candidates, 3) for each chunk: the chances of click, cart and purchase."""
        counts = [len(item.candidates) for item in items]
        queries = self._teacher.texts.queries([item.query for item in items], [item.locale for item in items])
        self._catalogue.catch_up(max((item.min_sequence for item in items), default=0))
        with self._catalogue.lock:  # not for the network, which takes longer than everything else
            products = Ragged.concatenate([part for item in items for part in self._products(item.candidates)])
        chances = self._teacher.probabilities(
            queries.take(np.repeat(np.arange(len(items)), counts)),
            products,
            np.concatenate([item.features for item in items]),
        )
        return np.split(chances, np.cumsum(counts)[:-1])

    def _products(self, candidates: GivenCandidates) -> list[Ragged]:
        parts = []
        if len(candidates.rows):
            parts.append(self._catalogued(candidates.rows))
        if candidates.products:
            rows = np.arange(len(candidates.products))
            parts.append(self._teacher.texts.products(ProductList(candidates.products), self._bands, rows))
        return parts

    def _catalogued(self, rows: Ints) -> Ragged:
        """Returns the tokens of products of the catalogue, which are kept for the next call."""
        requested = rows.tolist()
        new = np.array([row for row in requested if row not in self._tokens], np.int64)
        if len(new):
            made = self._teacher.texts.products(self._table, self._bands, new)
            if len(self._tokens) + len(new) > MAX_KEPT_PRODUCTS:
                self._tokens = {row: self._tokens[row] for row in requested if row in self._tokens}
            self._tokens.update((row, made.row(at).copy()) for at, row in enumerate(new.tolist()))
        tokens = [self._tokens[row] for row in requested]
        return Ragged(np.concatenate(tokens), np.cumsum([0, *(len(one) for one in tokens)], dtype=np.int64))
