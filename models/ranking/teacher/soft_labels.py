"""Soft labels: the teacher's predictions for a log's impressions, from which the ranker learns (knowledge distillation)."""

from __future__ import annotations

import numpy as np

from models.arrays import Floats, Progress
from models.products.product_table import ProductTable
from models.ranking.impressions import Impressions
from models.ranking.teacher.teacher import Teacher
from models.unified.price_bands import PriceBands

_BLOCK = 8_192  # rows that are tokenised together


def soft_labels(
    teacher: Teacher,
    shown: Impressions,
    features: Floats,
    table: ProductTable,
    bands: PriceBands,
    progress: Progress = lambda *_: None,
) -> Floats:
    """Returns the teacher's probabilities (rows, tasks) for every impression."""
    queries = teacher.texts.queries(shown.queries, shown.locales)
    distinct, place = np.unique(shown.product, return_inverse=True)
    products = teacher.texts.products(table, bands, distinct)
    labels = np.empty((len(shown), 3), np.float32)
    for start in range(0, len(shown), _BLOCK):
        rows = slice(start, start + _BLOCK)
        labels[rows] = teacher.probabilities(
            queries.take(shown.page[rows]), products.take(place[rows]), np.asarray(features[rows], np.float32)
        )
        progress("teacher's labels", min(start + _BLOCK, len(shown)), len(shown))
    return labels
