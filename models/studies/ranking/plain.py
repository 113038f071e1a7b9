"""Rankers that learn nothing from result pages: what a ranker must beat."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.arrays import Floats, Ints, Progress
from models.bundles.bundle import Bundle
from models.lexical import Bm25
from models.products.product import product_text
from models.ranking.impressions import Impressions
from models.studies.ranking.learned import KeptChances
from models.studies.ranking.page_metrics import Answer
from models.studies.ranking.pages import RankingPages
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.export import export_encoder
from models.text_encoder.hugging_face import PACKAGED, encoder_fingerprint
from models.text_encoder.spec import Text

RETRIEVAL, WORDS, POPULAR, FROZEN = "retrieval order", "BM25", "popularity", "MiniLM, frozen"
_BLOCK = 512


def plain_answers(bundle: Bundle, pages: RankingPages, kept: KeptChances) -> dict[str, Answer]:
    """By the retrieval score of query and shopper together, by words, and by how often a product was engaged with in training."""
    test, told = pages.test, [bundle.manifest.version, pages.test_since_ms]
    asked = [WORDS, *told, test.num_pages, len(test), int(test.product.sum())]
    return {
        RETRIEVAL: Answer.of_score(pages.column("search_cosine")),
        WORDS: Answer.of_score(kept.of(WORDS, asked, lambda: _word_scores(bundle, test))),
        POPULAR: Answer.of_score(pages.column("popularity")),
    }


def frozen_answer(bundle: Bundle, pages: RankingPages, kept: KeptChances, work: Path, max_pages: int) -> Answer:
    """By the cosine of MiniLM's vectors of query and product as it came, of the first `max_pages` of a random order: it takes longer than
    all others. Raises EncoderError where the extra is not installed."""
    test, key = pages.test, encoder_fingerprint(PACKAGED)[:12]
    some = np.sort(np.random.default_rng(0).permutation(test.num_pages)[:max_pages])
    asked = [FROZEN, key, bundle.manifest.version, len(test), int(test.product.sum()), max_pages]
    scores = np.full(len(test), np.nan)
    scores[np.isin(test.page, some)] = kept.of(
        FROZEN, asked, lambda: _cosines(bundle, test.take(some), work / f"encoder-{key}", kept.progress)
    )
    return Answer.of_score(scores)


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
        of_products = bm25.scores([query])[0]
        for page in pages:
            rows = slice(offsets[page], offsets[page + 1])
            scores[rows] = of_products[shown.product[rows]]
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
    asked = vectors[len(products) :][query[shown.page]]
    return np.asarray((vectors[product] * asked).sum(axis=1), np.float32)
