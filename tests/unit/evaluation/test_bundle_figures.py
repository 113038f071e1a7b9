"""Pages of the log are ordered by scores alone."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.bundle_figures import page_ndcg
from models.ranking.impressions import Impressions
from models.ranking.tasks import TASKS


def pages(num_pages: int, length: int) -> Impressions:
    """Pages in the order in which they were shown, of which the first product was clicked."""
    rows = num_pages * length
    labels = np.zeros((rows, len(TASKS)), np.float32)
    labels[::length, 0] = 1
    return Impressions(
        page=np.repeat(np.arange(num_pages), length),
        product=np.arange(rows),
        position=np.tile(np.arange(1, length + 1), num_pages),
        labels=labels,
        queries=["lamp"] * num_pages,
        locales=["en-US"] * num_pages,
        time_ms=np.arange(num_pages),
        shopper=np.arange(num_pages, dtype=np.int32),
        is_anonymous=np.zeros(num_pages, np.bool_),
        histories=[[] for _ in range(num_pages)],
    )


def test_scores_that_tell_nothing_apart_do_not_profit_from_the_shown_order() -> None:
    shown = pages(2000, 10)
    as_shown = page_ndcg(-np.repeat(shown.position[:, None], len(TASKS), axis=1).astype(np.float32), shown)
    assert as_shown[:, 0].mean() == 1
    alike = page_ndcg(np.zeros((len(shown), len(TASKS)), np.float32), shown)
    assert alike[:, 0].mean() == pytest.approx((1 / np.log2(np.arange(2, 12))).mean(), abs=0.02)
    assert np.isnan(alike[:, 1:]).all()  # nothing was bought
