"""Mines hard negatives: products that match a query and were never clicked for it."""

from __future__ import annotations

import numpy as np
import torch

from models.arrays import Codes, Floats, Ints
from models.text_tuning.click_stage import positive_mask, positive_products
from models.text_tuning.encoder_network import EncoderNetwork, TokenTable, encode_all
from models.text_tuning.pairs import ClickPairs
from models.text_tuning.recipe import HardNegatives
from models.unified.negatives import hardest_products
from models.unified.words import Ragged


def find_hard_negatives(
    network: EncoderNetwork,
    pairs: ClickPairs,
    group: Codes,
    texts: list[str],
    tables: tuple[TokenTable, TokenTable],
    spec: HardNegatives,
    seed: int,
    precision: torch.dtype,
) -> Codes:
    """Returns (queries, nearest) rows of the catalogue, -1 for none; never a positive of the query.

    Positives are the products that the query or a near-duplicate led to, and their near-duplicates. The search is among `pool` of the
    products that were ever clicked: a product that was never clicked may never have been seen.
    """
    random = np.random.default_rng([seed, 0x4B])
    pool = np.sort(random.permutation(np.unique(pairs.product))[: spec.pool]).astype(np.int64)
    positives = positive_products(pairs.clicked, group).take(pairs.group)
    if spec.source == "bm25":
        return bm25_negatives(pairs.queries, [texts[row] for row in pool], pool, positives, spec.nearest)
    queries = encode_all(network, tables[0], precision)
    products = encode_all(network, TokenTable(tables[1].rows.take(pool), tables[1].pad_id), precision)
    return near_negatives(queries, products, pool, positives, spec)


def near_negatives(queries: Floats, products: Floats, pool: Ints, positives: Ragged, spec: HardNegatives) -> Codes:
    """Returns the nearest products of the `pool`, without those that score above `ceiling` times the mean of the query's positives in it.

    queries (queries, dim) and products (pool, dim) are unit vectors; `positives` are by query.
    """
    nearest = min(spec.nearest, len(pool))
    rows = np.arange(len(queries))
    negatives = hardest_products(queries, products, pool, positives, rows, nearest)
    at = np.searchsorted(pool, negatives)
    for start in range(0, len(queries), 1024):
        block = slice(start, start + 1024)
        scores = queries[block] @ products.T
        is_positive = positive_mask(pool, positives.take(rows[block]))
        means = (scores * is_positive).sum(axis=1) / np.maximum(is_positive.sum(axis=1), 1)
        limit = np.where(is_positive.any(axis=1), spec.ceiling * means, np.inf)
        near = np.take_along_axis(scores, at[block], axis=1)
        # `hardest_products` fills up with positives if the pool is small.
        is_false = (near > limit[:, None]) | np.take_along_axis(is_positive, at[block], axis=1)
        negatives[block][is_false] = -1
    return negatives


def bm25_negatives(queries: list[str], texts: list[str], pool: Ints, positives: Ragged, nearest: int) -> Codes:
    """Returns products that share words with the query; `texts` (pool,) are those of the pool. Needs the extra `aisle[evaluate]`."""
    from models.lexical.bm25 import Bm25

    most_positives = int(positives.lengths.max(initial=0))
    ranked = Bm25(texts).best(queries, min(nearest + most_positives, len(pool)))
    negatives = np.full((len(queries), nearest), -1, np.int32)
    for row, places in enumerate(ranked):
        products = pool[places[places >= 0]]
        kept = products[~np.isin(products, positives.row(row))][:nearest]
        negatives[row, : len(kept)] = kept
    return negatives
