"""Buckets of a simulated store's queries: training data of the locale, locale, language, and frequency of the type."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.evaluation.buckets import Bucket
from models.query_types.examples import TypeExamples
from models.query_types.tokens import language_of

TIER, LOCALE, LANGUAGE, TYPE = "tier of the locale", "locale", "language", "type"
TIERS = ("high", "mid", "low")
TIER_CLICKS = (20_000, 2_000)  # training clicks of a locale, from which its tier is high or mid
# Types by falling number of clicks: the first half of all clicks is the head, the last tenth the tail.
HEAD_SHARE, TAIL_SHARE = 0.5, 0.1


def tier_of(num_clicks: float) -> str:
    return next((tier for tier, least in zip(TIERS, TIER_CLICKS, strict=False) if num_clicks >= least), TIERS[-1])


def store_buckets(test: TypeExamples, train: TypeExamples, num_clicks: Mapping[str, float]) -> dict[str, Bucket]:
    """Returns dimension -> bucket of the test rows; locales and languages are ordered by falling number of clicks."""
    by_clicks = sorted(test.locales, key=lambda name: -num_clicks.get(name, 0))
    languages = tuple(dict.fromkeys(language_of(name) for name in by_clicks))
    tiers = [tier_of(num_clicks.get(name, 0)) for name in test.locales]
    first = test.labels.values[test.labels.offsets[:-1]]
    return {
        TIER: Bucket(TIERS, _row_codes([TIERS.index(tier) for tier in tiers], test)),
        LOCALE: Bucket(tuple(by_clicks), _row_codes([by_clicks.index(name) for name in test.locales], test)),
        LANGUAGE: Bucket(languages, _row_codes([languages.index(language_of(name)) for name in test.locales], test)),
        TYPE: Bucket(("head", "torso", "tail"), _type_classes(train)[first]),
    }


def _row_codes(of_locale: list[int], test: TypeExamples) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(of_locale, np.int32)[test.locale]


def _type_classes(train: TypeExamples) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Returns (types,) 0 head, 1 torso, 2 tail, by the weight of the rows labelled with each type."""
    rows = np.repeat(np.arange(len(train)), train.labels.lengths)
    clicks = np.bincount(train.labels.values, train.weight[rows], len(train.types))
    order = np.argsort(-clicks, kind="stable")
    before = np.cumsum(clicks[order]) - clicks[order]
    share = before / max(clicks.sum(), 1e-9)
    classes = np.empty(len(clicks), np.int32)
    classes[order] = np.where(share < HEAD_SHARE, 0, np.where(share < 1 - TAIL_SHARE, 1, 2))
    return classes
