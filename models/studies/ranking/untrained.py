"""Baselines without training on result pages: retrieval order, BM25, popularity, and an untuned text encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.arrays import Floats, Ints, Progress
from models.bundles.bundle import Bundle
from models.lexical.bm25 import Bm25
from models.products.product import product_text
from models.ranking.impressions import Impressions
from models.studies.ranking.learned import ScoreCache
from models.studies.ranking.page_metrics import RankerScores
from models.studies.ranking.pages import RankingPages
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.export import export_encoder
from models.text_encoder.hugging_face import PACKAGED, encoder_fingerprint
from models.text_encoder.spec import Text

RETRIEVAL, WORDS, POPULAR, FROZEN = "retrieval order", "BM25", "popularity", "MiniLM, frozen"
_BLOCK = 512


def untrained_scores(bundle: Bundle, pages: RankingPages, cache: ScoreCache) -> dict[str, RankerScores]:
    """Scores the test pages by retrieval (query and shopper together), by BM25, and by popularity in training."""
    test = pages.test
    key = [WORDS, bundle.manifest.version, pages.test_since_ms, test.num_pages, len(test), int(test.product.sum())]
    return {
        RETRIEVAL: RankerScores.from_score(pages.column("search_cosine")),
        WORDS: RankerScores.from_score(cache.get_or_make(WORDS, key, lambda: _word_scores(bundle, test))),
        POPULAR: RankerScores.from_score(pages.column("popularity")),
    }


def frozen_scores(bundle: Bundle, pages: RankingPages, cache: ScoreCache, work: Path, max_pages: int) -> RankerScores:
    """Scores `max_pages` random pages by the cosine of the untuned MiniLM; it is the slowest baseline.

    Raises EncoderError if the extra `aisle[minilm]` is not installed.
    """
    test, encoder = pages.test, encoder_fingerprint(PACKAGED)[:12]
    sample = np.sort(np.random.default_rng(0).permutation(test.num_pages)[:max_pages])
    key = [FROZEN, encoder, bundle.manifest.version, len(test), int(test.product.sum()), max_pages]
    scores = np.full(len(test), np.nan)
    scores[np.isin(test.page, sample)] = cache.get_or_make(
        FROZEN, key, lambda: _cosines(bundle, test.take(sample), work / f"encoder-{encoder}", cache.progress)
    )
    return RankerScores.from_score(scores)


def _texts(bundle: Bundle, rows: Ints) -> list[str]:
    table = bundle.products()
    return [product_text(table.product(row), bundle.manifest.text_attributes) for row in rows.tolist()]


def _word_scores(bundle: Bundle, shown: Impressions) -> Floats:
    bm25 = Bm25(_texts(bundle, np.arange(bundle.manifest.products)))
    offsets, scores = shown.offsets, np.empty(len(shown), np.float32)
    pages_of: dict[str, list[int]] = {}
    for page, query in enumerate(shown.queries):
        pages_of.setdefault(query, []).append(page)
    for query, pages in pages_of.items():
        product_scores = bm25.scores([query])[0]
        for page in pages:
            rows = slice(offsets[page], offsets[page + 1])
            scores[rows] = product_scores[shown.product[rows]]
    return scores


def _cosines(bundle: Bundle, shown: Impressions, folder: Path, progress: Progress) -> Floats:
    if not folder.exists():
        export_encoder(PACKAGED, folder)
    encoder = TextEncoder(folder, "cpu")
    products, product = np.unique(shown.product, return_inverse=True)
    queries, query = np.unique(np.asarray(shown.queries, np.str_), return_inverse=True)
    texts = [Text(text, "product") for text in _texts(bundle, products)] + [Text(text) for text in queries.tolist()]
    vectors = np.empty((len(texts), encoder.spec.dim), np.float32)
    for start in range(0, len(texts), _BLOCK):
        progress(f"{FROZEN}: encode", start, len(texts))
        vectors[start : start + _BLOCK] = encoder.encode(texts[start : start + _BLOCK])
    query_vectors = vectors[len(products) :][query[shown.page]]
    return np.asarray((vectors[product] * query_vectors).sum(axis=1), np.float32)
