"""The stage "click": a query must be closer to a product that it led to than to the other products of the batch.

The loss is the softmax over in-batch negatives (the library's MultipleNegativesRankingLoss), without columns of other products that the
query led to; a product that comes twice in the batch is one column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.arrays import Bools, Codes, Ints
from models.text_tuning.encoder_network import EncoderNetwork, Padded, TokenTable, chunks_by_length, computing_in
from models.text_tuning.pairs import ClickPairs
from models.text_tuning.recipe import ClickStage
from models.text_tuning.stages import step_seed
from models.unified.losses import prefix_scores, softmax_loss, softmax_offsets
from models.unified.words import Ragged


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Rows are pairs, columns the distinct products among them and their hard negatives."""

    query: Ints  # (rows,)
    products: Ints  # (columns,) ascending
    positive: Ints  # (rows,) columns of the rows' own products
    is_positive: Bools  # (rows, columns) products that the query or a near-duplicate led to, and their near-duplicates: no negatives


@dataclass(frozen=True, slots=True)
class _Chunk:
    is_query: bool
    places: Ints  # in the batch's queries or products
    texts: Padded
    seed: int  # of its dropout


class ClickLearner:
    name = "click"

    def __init__(
        self,
        network: EncoderNetwork,
        pairs: ClickPairs,
        group: Codes,
        tables: tuple[TokenTable, TokenTable],
        stage: ClickStage,
        seed: int,
        precision: torch.dtype,
        hard: Codes | None = None,
    ) -> None:
        """`tables` are the tokens of the pairs' queries and of the catalogue; `group` (products,) is `ProductTexts.group`; `hard`
        (queries, n) are hard negatives, -1 for none."""
        self.network = network
        self.steps = stage.steps(len(pairs))
        self.learning_rate = stage.learning_rate
        self._stage, self._seed, self._precision, self._hard = stage, seed, precision, hard
        self._pairs = pairs
        self._tables = tables
        self._positives = positive_products(pairs.clicked, group)
        random = np.random.default_rng([seed, 0xC1])
        self._draws = draw_pairs(pairs.weight, self.steps * stage.batch, random)
        self._scale = torch.tensor(1.0 / stage.temperature, device=next(network.parameters()).device)

    def learn(self, step: int) -> float:
        batch = self.batch(step)
        chunks = self._chunks(batch, step)
        if not self._stage.cached:
            loss = self._loss(batch, chunks, [self._encode(chunk) for chunk in chunks])
            loss.backward()
            return float(loss.item())
        with torch.no_grad():
            vectors = [self._encode(chunk) for chunk in chunks]
        for each in vectors:
            each.requires_grad_()
        loss = self._loss(batch, chunks, vectors)
        loss.backward()
        for chunk, each in zip(chunks, vectors, strict=True):
            torch.sum(self._encode(chunk) * each.grad).backward()
        return float(loss.item())

    def batch(self, step: int) -> PairBatch:
        size = self._stage.batch
        drawn = self._draws[step * size : (step + 1) * size]
        query, product = self._pairs.query[drawn].astype(np.int64), self._pairs.product[drawn].astype(np.int64)
        every = product
        if self._hard is not None and self._stage.hard is not None:
            random = np.random.default_rng([self._seed, step, 0x4A])
            shuffled = random.permuted(self._hard[query], axis=1)
            # The shuffle puts -1 anywhere in a row: the first products are taken.
            first = np.argsort(shuffled < 0, axis=1, kind="stable")[:, : self._stage.hard.each]
            negatives = np.take_along_axis(shuffled, first, axis=1)
            every = np.concatenate([product, negatives[negatives >= 0]])
        products = np.unique(every)
        return PairBatch(
            query=query,
            products=products,
            positive=np.searchsorted(products, product),
            is_positive=positive_mask(products, self._positives.take(self._pairs.group[query])),
        )

    def _chunks(self, batch: PairBatch, step: int) -> list[_Chunk]:
        chunks: list[_Chunk] = []
        for table, rows in zip(self._tables, (batch.query, batch.products), strict=True):
            lengths = table.rows.offsets[rows + 1] - table.rows.offsets[rows]
            for places in chunks_by_length(lengths, self._stage.chunk):
                seed = step_seed(self._seed, step, len(chunks))
                chunks.append(_Chunk(table is self._tables[0], places, table.padded(rows[places]), seed))
        return chunks

    def _encode(self, chunk: _Chunk) -> Tensor:
        torch.manual_seed(chunk.seed)
        with computing_in(self.network, self._precision):
            vectors: Tensor = self.network(chunk.texts)
        return vectors

    def _loss(self, batch: PairBatch, chunks: list[_Chunk], vectors: list[Tensor]) -> Tensor:
        queries, products = (
            _in_order([(c.places, v) for c, v in zip(chunks, vectors, strict=True) if c.is_query == is_query])
            for is_query in (True, False)
        )
        return click_loss(queries, products, batch, self._scale, self._stage.prefixes, both_ways=self._stage.both_ways)


def click_loss(
    queries: Tensor, products: Tensor, batch: PairBatch, scale: Tensor, prefixes: tuple[int, ...], *, both_ways: bool
) -> Tensor:
    """Returns the mean loss over rows, and over `prefixes` and the full vectors; queries (rows, dim) and products (columns, dim) are
    unit vectors."""
    positive = torch.from_numpy(batch.positive).to(queries.device)
    allowed = torch.from_numpy(~batch.is_positive).to(queries.device)
    ones = queries.new_ones(len(queries))
    even = queries.new_zeros(allowed.shape[1])
    own = torch.arange(len(queries), device=queries.device)
    losses: list[Tensor] = []
    for prefix in (*(p for p in prefixes if p != queries.shape[1]), queries.shape[1]):
        scores = prefix_scores(queries, products, prefix)
        losses.append(softmax_loss(scores, positive, softmax_offsets(positive, allowed, even), scale, ones))
        if both_ways:
            offsets = softmax_offsets(own, allowed[:, positive].T, queries.new_zeros(len(queries)))
            losses.append(softmax_loss(scores[:, positive].T, own, offsets, scale, ones))
    return torch.stack(losses).mean()


def draw_pairs(weight: npt.NDArray[np.floating], count: int, random: np.random.Generator) -> Ints:
    """Returns (count,) pairs in random order, each as often as its share of the weight, rounded up or down (systematic sampling).

    With fewer draws than pairs, a pair comes twice only if its weight is large enough.
    """
    bounds = np.cumsum(weight, dtype=np.float64)
    at = (np.arange(count) + random.random()) * (bounds[-1] / count)
    drawn: Ints = np.minimum(np.searchsorted(bounds, at, side="right"), len(weight) - 1)
    return random.permutation(drawn)


def positive_products(clicked: Ragged, group: Codes) -> Ragged:
    """Returns, by group of queries, the clicked products and all of their near-duplicates, ascending."""
    order = np.argsort(group, kind="stable").astype(np.int32)
    members = Ragged(order, np.concatenate(([0], np.cumsum(np.bincount(group)))).astype(np.int64))
    alike = members.take(group[clicked.values])
    owner = np.repeat(np.arange(len(clicked)), clicked.lengths)
    pairs = np.unique(np.stack([np.repeat(owner, alike.lengths), alike.values]).astype(np.int64), axis=1)
    counts = np.bincount(pairs[0], minlength=len(clicked))
    return Ragged(pairs[1].astype(np.int32), np.concatenate(([0], np.cumsum(counts))).astype(np.int64))


def positive_mask(products: Ints, positives: Ragged) -> Bools:
    """Returns (rows, columns) whether a product is a positive of the row; `products` (columns,) ascend, `positives` are by row."""
    at = np.minimum(np.searchsorted(products, positives.values), len(products) - 1)
    met = products[at] == positives.values
    mask = np.zeros((len(positives), len(products)), np.bool_)
    mask[np.repeat(np.arange(len(positives)), positives.lengths)[met], at[met]] = True
    return mask


def _in_order(parts: list[tuple[Ints, Tensor]]) -> Tensor:
    places = np.concatenate([places for places, _ in parts])
    return torch.cat([vectors for _, vectors in parts])[torch.from_numpy(np.argsort(places))]
