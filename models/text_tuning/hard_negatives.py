"""Products that look right for a query and were never clicked for it."""

from __future__ import annotations

import numpy as np
import torch

from models.arrays import Codes, Floats, Ints
from models.text_tuning.click_stage import wanted_products, which_wanted
from models.text_tuning.encoder_network import EncoderNetwork, TokenTable, encode_all
from models.text_tuning.pairs import ClickPairs
from models.text_tuning.recipe import HardNegatives
from models.unified.negatives import hardest_products
from models.unified.words import Ragged


def find_hard_negatives(
    network: EncoderNetwork,
    pairs: ClickPairs,
    kin: Codes,
    texts: list[str],
    tables: tuple[TokenTable, TokenTable],
    spec: HardNegatives,
    seed: int,
    precision: torch.dtype,
) -> Codes:
    """(queries, nearest) rows of the catalogue, -1 for none: never what the query, or a near-duplicate, led to, nor that product's
    kin. They are looked for among `pool` of the products that were clicked for anything: of one that was never clicked nobody knows
    whether it was ever seen."""
    random = np.random.default_rng([seed, 0x4B])
    pool = np.sort(random.permutation(np.unique(pairs.product))[: spec.pool]).astype(np.int64)
    wanted = wanted_products(pairs.clicked, kin).take(pairs.group)
    if spec.source == "bm25":
        return bm25_negatives(pairs.queries, [texts[row] for row in pool], pool, wanted, spec.nearest)
    queries = encode_all(network, tables[0], precision)
    products = encode_all(network, TokenTable(tables[1].rows.take(pool), tables[1].pad_id), precision)
    return near_negatives(queries, products, pool, wanted, spec)


def near_negatives(queries: Floats, products: Floats, pool: Ints, wanted: Ragged, spec: HardNegatives) -> Codes:
    """The nearest of the `pool`, less those nearer than `ceiling` of the mean of the wanted ones in it.

    queries (queries, dim), products (pool, dim); `wanted` has a row of products for each query."""
    nearest = min(spec.nearest, len(pool))
    rows = np.arange(len(queries))
    found = hardest_products(queries, products, pool, wanted, rows, nearest)
    at = np.searchsorted(pool, found)
    for start in range(0, len(queries), 1024):
        block = slice(start, start + 1024)
        scores = queries[block] @ products.T
        is_wanted = which_wanted(pool, wanted.take(rows[block]))
        means = (scores * is_wanted).sum(axis=1) / np.maximum(is_wanted.sum(axis=1), 1)
        limit = np.where(is_wanted.any(axis=1), spec.ceiling * means, np.inf)
        near = np.take_along_axis(scores, at[block], axis=1)
        # `hardest_products` fills up with wanted ones where the pool is small.
        is_false = (near > limit[:, None]) | np.take_along_axis(is_wanted, at[block], axis=1)
        found[block][is_false] = -1
    return found


def bm25_negatives(queries: list[str], texts: list[str], pool: Ints, wanted: Ragged, nearest: int) -> Codes:
    """What shares words with the query. `texts` (pool,) are the pool's. Needs the extra `aisle[evaluate]`."""
    from models.lexical import Bm25

    most_wanted = int(wanted.lengths.max(initial=0))
    ranked = Bm25(texts).best(queries, min(nearest + most_wanted, len(pool)))
    found = np.full((len(queries), nearest), -1, np.int32)
    for row, places in enumerate(ranked):
        products = pool[places[places >= 0]]
        kept = products[~np.isin(products, wanted.row(row))][:nearest]
        found[row, : len(kept)] = kept
    return found
