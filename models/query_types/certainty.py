"""Calibrates a trained model on held-out queries, by tier of locales."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.arrays import Bools, Floats
from models.query_types.calibration import NEVER, Calibration, threshold_for
from models.query_types.examples import TypeExamples
from models.query_types.recipe import Variant
from models.query_types.type_model import Certainty, TypeModel

TIERS = ("high", "mid", "low")
_LEAST_ROWS = 200  # held-out queries, at least, of a tier that is calibrated by itself
_MAX_ROWS = 20_000
_TOP = 5  # best types of a query that are calibrated; others are hardly ever shown
_BLOCK = 2048


def tiers_of(rows: Sequence[int]) -> list[str]:
    """Returns the tier of each locale by its number of examples: the third with the most, the middle one, the third with the fewest."""
    order = np.argsort(-np.asarray(rows), kind="stable")
    place = np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows))
    return [TIERS[3 * int(at) // len(rows)] for at in place]


def measure_certainty(model: TypeModel, learned: TypeExamples, holdout: TypeExamples) -> dict[str, Certainty]:
    """Calibrates each locale of the model, and "" for no locale; a tier with too few held-out queries takes the whole model's."""
    holdout = holdout.take(np.unique(np.linspace(0, len(holdout) - 1, min(len(holdout), _MAX_ROWS)).astype(np.int64)))
    by_locale: dict[str, Certainty] = {}
    if model.recipe.variant != Variant.NU:
        by_locale[""] = _measure(model, *top_pairs(model, holdout, agnostic=True), "all")
    if model.recipe.variant == Variant.U_AG:
        return by_locale
    log_odds, right = top_pairs(model, holdout)
    whole = _measure(model, log_odds, right, "all")
    counts = dict(zip(learned.locales, learned.rows_by_locale().tolist(), strict=True))
    tier_of = dict(zip(model.locales, tiers_of([counts[name] for name in model.locales]), strict=True))
    row_tiers = np.array([tier_of.get(name, "") for name in holdout.row_locales()])
    by_tier = {
        tier: _measure(model, log_odds[row_tiers == tier], right[row_tiers == tier], tier)
        for tier in TIERS
        if (row_tiers == tier).sum() >= _LEAST_ROWS
    }
    return by_locale | {name: by_tier.get(tier, whole) for name, tier in tier_of.items()}


def certainty_of_new_locale(model: TypeModel, holdout: TypeExamples) -> Certainty:
    """Calibrates a locale that was added later: by itself if it has enough held-out queries, else as the lowest tier."""
    if len(holdout) >= _LEAST_ROWS:
        return _measure(model, *top_pairs(model, holdout), "own")
    for tier in ("low", "all", "mid", "high", "own"):
        for certainty in model.certainty.values():
            if certainty.tier == tier:
                return certainty
    return Certainty(Calibration(), NEVER, "own")


def top_pairs(model: TypeModel, examples: TypeExamples, *, agnostic: bool = False) -> tuple[Floats, Bools]:
    """Returns (rows, n) the log odds of the best types of each query, best first, and whether they are labels."""
    names = [""] * len(examples) if agnostic else examples.row_locales()
    used = model.locales_used(examples.queries, names)
    most = min(_TOP, len(model.types))
    odds = np.zeros((len(examples), most), np.float32)
    right = np.zeros((len(examples), most), np.bool_)
    for start in range(0, len(examples), _BLOCK):
        block = slice(start, start + _BLOCK)
        rows = np.arange(len(examples))[block]
        scores, _ = model.log_odds(examples.queries[block], used[block])
        top = np.argpartition(-scores, most - 1, axis=1)[:, :most]
        values = np.take_along_axis(scores, top, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        odds[block] = np.take_along_axis(values, order, axis=1)
        labels = examples.take(rows).label_matrix()
        right[block] = np.take_along_axis(labels, np.take_along_axis(top, order, axis=1), axis=1)
    return odds, right


def _measure(model: TypeModel, log_odds: Floats, right: Bools, tier: str) -> Certainty:
    if not right.size:
        return Certainty(Calibration(), NEVER, tier)
    calibration = Calibration.fit(log_odds.ravel(), right.ravel())
    probability = calibration.apply(log_odds.ravel())
    return Certainty(calibration, threshold_for(probability, right.ravel(), model.recipe.precision), tier)
