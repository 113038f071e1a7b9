"""Learns what words ask for from what was clicked after them. Needs the extra `aisle[train]`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from models.arrays import Ints
from models.events.kinds import CLICK
from models.products.product_table import ProductTable
from models.query_types.tokens import language_of
from models.ranking.parse_log import Log, parse_log
from models.ranking.product_columns import TYPE_AT, ProductColumns
from models.ranking.query_attributes import QueryAttributes, word_key
from models.ranking.taste import category_mark
from models.unified.history import query_words
from models.unified.shopping_log import UNKNOWN, ShoppingLog

_PRIOR = 3.0  # clicks, as usual, that are added to those of each word
_LEAST_CLICKS = 3  # of a word that is kept
_LEAST_LIFT = 0.25  # of a mark that is kept
_MOST_MARKS = 256  # of a word, those with the strongest lifts
_BLOCK = 4_000_000  # numbers at once


def learn_query_attributes(log: Log, table: ProductTable, columns: ProductColumns, *, until_ms: int) -> QueryAttributes:
    """Of the clicks, carts and purchases before `until_ms`, each once a search and product. Raises LogError for what is no log."""
    events, _ = parse_log(log, table)
    at = np.flatnonzero(
        (events.query > 0) & (events.product != UNKNOWN) & (events.kind >= CLICK) & (events.time_ms < until_ms)
    )
    at = at[
        np.unique(events.search[at].astype(np.int64) * events.num_products + events.product[at], return_index=True)[1]
    ]
    if not len(at):
        return QueryAttributes.none()
    keys, of_click = _words_of_clicks(events, at)
    one = np.ones(len(at), np.float32)
    clicks = sparse.csr_matrix((one, (np.arange(len(at)), events.product[at])), (len(at), len(table)))
    counts = of_click.T.tocsr() @ clicks  # (words, products)
    kept = np.flatnonzero(np.asarray(counts.sum(axis=1)).ravel() >= _LEAST_CLICKS)
    kept = kept[np.argsort(keys[kept])]
    return _lifted(keys[kept], counts[kept], columns, _categories(table, columns))


def _words_of_clicks(events: ShoppingLog, at: Ints) -> tuple[npt.NDArray[np.uint32], sparse.csr_matrix]:
    """The keys of all words, and which (words) were asked for before each click: (clicks, words)."""
    languages = [language_of(locale) for locale in events.locales]
    asked = events.query[at].astype(np.int64) * len(languages) + events.locale[at]
    distinct, which = np.unique(asked, return_inverse=True)
    words = [
        [word_key(word, languages[one % len(languages)]) for word in query_words(events.queries[one // len(languages)])]
        for one in distinct.tolist()
    ]
    lengths = np.array([len(some) for some in words])
    keys, column = np.unique(np.array([key for some in words for key in some], np.uint32), return_inverse=True)
    ends = np.concatenate(([0], np.cumsum(lengths)))
    of_query = sparse.csr_matrix((np.ones(len(column), np.float32), column, ends), (len(distinct), len(keys)))
    return keys, of_query[which]


def _categories(table: ProductTable, columns: ProductColumns) -> sparse.csr_matrix:
    """(products, categories) of `columns.usual`, one of each at most."""
    codes, categories = table.distinct("category")
    named = np.array([category_mark(category) for category in categories], np.uint64)
    of_category = np.searchsorted(columns.usual.categories, named)
    is_known = columns.usual.categories.take(of_category, mode="clip") == named
    rows = np.flatnonzero(is_known[codes])
    shape = (len(table), len(columns.usual.categories))
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, of_category[codes[rows]])), shape)


def _lifted(
    keys: npt.NDArray[np.uint32], counts: sparse.csr_matrix, columns: ProductColumns, categories: sparse.csr_matrix
) -> QueryAttributes:
    """Of words with `counts` (words, products)."""
    places = columns.marks[:, TYPE_AT + 1 :].astype(np.int64)
    rows, column = np.nonzero(places)
    size, usual = len(columns.vocabulary), columns.usual
    held = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, places[rows, column] - 1)), (len(columns), size))
    marks, lifts, lengths = [], [], []
    step = max(1, _BLOCK // max(size, 1))
    for start in range(0, counts.shape[0], step):
        some = counts[start : start + step]
        met = (some @ held).toarray()  # (words, marks)
        expected = np.zeros_like(met)
        expected[:, usual.places - 1] = (some @ categories) @ usual.shares
        found = np.log((met + _PRIOR) / (expected + _PRIOR))
        for lift in found:
            strong = np.flatnonzero(np.abs(lift) >= _LEAST_LIFT)
            strong = np.sort(strong[np.argsort(-np.abs(lift[strong]), kind="stable")[:_MOST_MARKS]])
            marks.append(columns.vocabulary[strong])
            lifts.append(lift[strong])
            lengths.append(len(strong))
    return QueryAttributes(
        keys,
        np.concatenate(([0], np.cumsum(lengths))).astype(np.int32),
        np.concatenate(marks) if marks else np.zeros(0, np.uint64),
        np.concatenate(lifts).astype(np.float16) if lifts else np.zeros(0, np.float16),
    )
