"""Learns which attributes the words of queries ask for, from the products clicked after them. Needs the extra `aisle[train]`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from models.arrays import Ints
from models.events.kinds import CLICK
from models.products.product_table import ProductTable
from models.query_types.tokens import language_of
from models.ranking.parse_log import Log, parse_log
from models.ranking.product_columns import ProductColumns
from models.ranking.product_words import TYPE_AT
from models.ranking.query_attributes import QueryAttributes, word_key
from models.ranking.taste import category_key
from models.unified.history import query_words
from models.unified.shopping_log import UNKNOWN, ShoppingLog

_PRIOR = 3.0  # clicks at the baseline rate that are added to those of each word
_LEAST_CLICKS = 3  # of a word that is kept
_LEAST_LIFT = 0.25  # of an attribute that is kept
_MOST_ATTRIBUTES = 256  # of a word: those with the strongest lifts
_BLOCK = 4_000_000  # numbers computed together


def learn_query_attributes(log: Log, table: ProductTable, columns: ProductColumns, *, until_ms: int) -> QueryAttributes:
    """Learns from the clicks, carts and purchases before `until_ms`; a product counts once for each search.

    Raises LogError if the log cannot be read.
    """
    events, _ = parse_log(log, table)
    at = np.flatnonzero(
        (events.query > 0) & (events.product != UNKNOWN) & (events.kind >= CLICK) & (events.time_ms < until_ms)
    )
    at = at[
        np.unique(events.search[at].astype(np.int64) * events.num_products + events.product[at], return_index=True)[1]
    ]
    if not len(at):
        return QueryAttributes.none()
    words, words_of_click = _words_of_clicks(events, at)
    ones = np.ones(len(at), np.float32)
    clicks = sparse.csr_matrix((ones, (np.arange(len(at)), events.product[at])), (len(at), len(table)))
    counts = words_of_click.T.tocsr() @ clicks  # (words, products)
    kept = np.flatnonzero(np.asarray(counts.sum(axis=1)).ravel() >= _LEAST_CLICKS)
    kept = kept[np.argsort(words[kept])]
    return _strongest_lifts(words[kept], counts[kept], columns, _categories(table, columns))


def _words_of_clicks(events: ShoppingLog, at: Ints) -> tuple[npt.NDArray[np.uint32], sparse.csr_matrix]:
    """Returns the keys of all words, and a matrix (clicks, words) that is 1 where a word is in the query before the click."""
    languages = [language_of(locale) for locale in events.locales]
    query_in_locale = events.query[at].astype(np.int64) * len(languages) + events.locale[at]
    distinct, which = np.unique(query_in_locale, return_inverse=True)
    words = [
        [
            word_key(word, languages[code % len(languages)])
            for word in query_words(events.queries[code // len(languages)])
        ]
        for code in distinct.tolist()
    ]
    lengths = np.array([len(row) for row in words])
    keys, column = np.unique(np.array([key for row in words for key in row], np.uint32), return_inverse=True)
    ends = np.concatenate(([0], np.cumsum(lengths)))
    by_query = sparse.csr_matrix((np.ones(len(column), np.float32), column, ends), (len(distinct), len(keys)))
    return keys, by_query[which]


def _categories(table: ProductTable, columns: ProductColumns) -> sparse.csr_matrix:
    """Returns a matrix (products, categories of `columns.baseline`) with at most one 1 in each row."""
    codes, categories = table.distinct("category")
    keys = np.array([category_key(category) for category in categories], np.uint64)
    number = np.searchsorted(columns.baseline.categories, keys)
    is_known = columns.baseline.categories.take(number, mode="clip") == keys
    rows = np.flatnonzero(is_known[codes])
    shape = (len(table), len(columns.baseline.categories))
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, number[codes[rows]])), shape)


def _strongest_lifts(
    words: npt.NDArray[np.uint32], counts: sparse.csr_matrix, columns: ProductColumns, categories: sparse.csr_matrix
) -> QueryAttributes:
    """Takes the clicks `counts` (words, products) after each word."""
    ids = columns.attribute_ids.all()[:, TYPE_AT + 1 :].astype(np.int64)
    rows, column = np.nonzero(ids)
    size, baseline = len(columns.vocabulary), columns.baseline
    held = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, ids[rows, column] - 1)), (len(columns), size))
    keys, lifts, lengths = [], [], []
    step = max(1, _BLOCK // max(size, 1))
    for start in range(0, counts.shape[0], step):
        block = counts[start : start + step]
        observed = (block @ held).toarray()  # (words, attributes)
        expected = np.zeros_like(observed)
        expected[:, baseline.ids - 1] = (block @ categories) @ baseline.shares
        lift_by_word = np.log((observed + _PRIOR) / (expected + _PRIOR))
        for lift in lift_by_word:
            strong = np.flatnonzero(np.abs(lift) >= _LEAST_LIFT)
            strong = np.sort(strong[np.argsort(-np.abs(lift[strong]), kind="stable")[:_MOST_ATTRIBUTES]])
            keys.append(columns.vocabulary[strong])
            lifts.append(lift[strong])
            lengths.append(len(strong))
    return QueryAttributes(
        words,
        np.concatenate(([0], np.cumsum(lengths))).astype(np.int32),
        np.concatenate(keys) if keys else np.zeros(0, np.uint64),
        np.concatenate(lifts).astype(np.float16) if lifts else np.zeros(0, np.float16),
    )
