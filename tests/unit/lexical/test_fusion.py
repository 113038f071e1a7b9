"""What words add to the similarity of a product."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.lexical.fusion import FusionWeights, lexical_boost
from models.lexical.lexical_index import LexicalIndex
from models.products.product import Product
from models.products.product_table import ProductTable, write_products


def index_of(tmp_path: Path, *titles: str) -> LexicalIndex:
    write_products(tmp_path / "products.arrow", [Product(str(n), title) for n, title in enumerate(titles)], ())
    return LexicalIndex.build(ProductTable(tmp_path / "products.arrow"), "en")


def test_a_boost_is_the_weighted_sum_of_score_and_coverage(tmp_path: Path) -> None:
    index = index_of(tmp_path, "red sofa", "red lamp", "blue lamp")
    query = index.query("red sofa")
    match = index.match(query, np.array([2, 0, 1]))
    boosts = lexical_boost(query, match, FusionWeights(score=0.5, coverage=0.2))
    expected = 0.5 * match.scores / query.weights.sum() + 0.2 * match.coverage
    np.testing.assert_allclose(boosts, expected, rtol=1e-6)
    assert boosts[0] == 0
    assert boosts[1] > boosts[2] > 0


def test_a_query_without_words_adds_nothing(tmp_path: Path) -> None:
    index = index_of(tmp_path, "red sofa", "blue lamp")
    query = index.query("🎧 ?!")
    assert lexical_boost(query, index.match(query, np.array([0, 1]))).tolist() == [0, 0]
