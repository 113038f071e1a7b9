"""Measures on held-out queries what a trained model's scores are worth, by tier of locales."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.arrays import Bools, Floats
from models.query_types.calibration import NEVER, Calibration, threshold_for
from models.query_types.examples import TypeExamples
from models.query_types.recipe import Variant
from models.query_types.type_model import Certainty, TypeModel

TIERS = ("high", "mid", "low")
_LEAST_ROWS = 200  # held-out queries of a tier that let it have numbers of its own
_MAX_ROWS = 20_000
_TOP = 5  # best types of a query that are calibrated on: hardly any other is ever shown
_BLOCK = 2048


def tiers_of(rows: Sequence[int]) -> list[str]:
    """The tier of each locale by its number of examples: the richest third, the middle one, the poorest."""
    order = np.argsort(-np.asarray(rows), kind="stable")
    place = np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows))
    return [TIERS[3 * int(at) // len(rows)] for at in place]


def measure_certainty(model: TypeModel, learned: TypeExamples, holdout: TypeExamples) -> dict[str, Certainty]:
    """By locale of the model, and "" for the way without one; tiers with too few held-out queries share the model's."""
    holdout = holdout.take(np.unique(np.linspace(0, len(holdout) - 1, min(len(holdout), _MAX_ROWS)).astype(np.int64)))
    found: dict[str, Certainty] = {}
    if model.recipe.variant != Variant.NU:
        found[""] = _measure(model, *top_pairs(model, holdout, agnostic=True), "all")
    if model.recipe.variant == Variant.U_AG:
        return found
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
    return found | {name: by_tier.get(tier, whole) for name, tier in tier_of.items()}


def certainty_of_added(model: TypeModel, holdout: TypeExamples) -> Certainty:
    """Of a locale that came later: its own where there are enough held-out queries of it, else that of the poorest tier."""
    if len(holdout) >= _LEAST_ROWS:
        return _measure(model, *top_pairs(model, holdout), "own")
    for tier in ("low", "all", "mid", "high", "own"):
        for one in model.certainty.values():
            if one.tier == tier:
                return one
    return Certainty(Calibration(), NEVER, "own")


def top_pairs(model: TypeModel, examples: TypeExamples, *, agnostic: bool = False) -> tuple[Floats, Bools]:
    """(rows, n) log odds of the best types of each query, best first, and whether they are wanted."""
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
        wanted = examples.take(rows).label_matrix()
        right[block] = np.take_along_axis(wanted, np.take_along_axis(top, order, axis=1), axis=1)
    return odds, right


def _measure(model: TypeModel, log_odds: Floats, right: Bools, tier: str) -> Certainty:
    if not right.size:
        return Certainty(Calibration(), NEVER, tier)
    calibration = Calibration.fit(log_odds.ravel(), right.ravel())
    probability = calibration.apply(log_odds.ravel())
    return Certainty(calibration, threshold_for(probability, right.ravel(), model.recipe.precision), tier)
