"""Explains the gap to the oracle: trees trained on the simulation's true probabilities, with the features and with hidden variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.arrays import Floats
from models.evaluation.bootstrap import ratio_interval
from models.evaluation.page import Cell, Section, Table
from models.studies.ranking.learned import MULTI_TASK, ScoreCache, fingerprint
from models.studies.ranking.page_metrics import RankerScores
from models.studies.ranking.page_summary import GRADED, Ranked
from models.studies.ranking.pages import RankingPages
from models.studies.ranking.truth import FIT, QUALITY, TASTE, StoreTruth

FEATURES_ALONE = "features only"
_ADDED = {
    FEATURES_ALONE: (),
    f"plus {FIT}": (FIT,),
    f"plus {TASTE}": (TASTE,),
    f"plus {QUALITY}": (QUALITY,),
    "plus all three": (FIT, TASTE, QUALITY),
}
_TREES = 300
_SETTINGS = {
    "objective": "regression",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "verbosity": -1,
    "num_threads": 1,
    "deterministic": True,
}


def truth_trained_scores(
    pages: RankingPages, truth: StoreTruth, cache: ScoreCache, seed: int
) -> dict[str, RankerScores]:
    """Trains a regression of the true expected grade on each set of inputs, and returns its scores of the test pages."""
    train_parts, test_parts = truth.parts(pages.train), truth.parts(pages.test)
    target = np.log(truth.for_pages(pages.train).sum(axis=1))
    scores = {}
    for name, added in _ADDED.items():

        def learn(added: tuple[str, ...] = added) -> Floats:
            import lightgbm

            train, test = (
                np.column_stack([rows.features, *(parts[name] for name in added)])
                for rows, parts in ((pages.train_rows, train_parts), (pages.test_rows, test_parts))
            )
            model = lightgbm.train({**_SETTINGS, "seed": seed}, lightgbm.Dataset(train, target), _TREES)
            return np.asarray(model.predict(test), np.float32)

        key = ["truth", *added, seed, fingerprint(pages.train_rows, pages.test_rows.features)]
        scores[name] = RankerScores.from_score(cache.get_or_make(f"train on the truth: {name}", key, learn))
    return scores


def oracle_gap_section(ranked: Ranked, truth_trained: Mapping[str, RankerScores], oracle: str) -> Section:
    both = ranked.with_rankers(truth_trained)
    rows: list[tuple[str, Sequence[Cell]]] = [
        (
            name,
            [
                ratio_interval(both.ndcg(name, what), both.ndcg(oracle, what), both.units, seed=both.seed)
                for what in ("purchase", GRADED)
            ],
        )
        for name in (MULTI_TASK, *truth_trained)
    ]
    return Section(
        "Gap to the oracle",
        f"Below {MULTI_TASK}: trees trained on the simulation's true probabilities instead of clicks, with the features only, and with the "
        "features plus a variable that only the simulation knows. The gap that remains with the features only cannot be closed by more "
        "clicks. The lift by an additional variable is an upper bound for better features of that kind.",
        tables=[Table("NDCG, share of the oracle's", "inputs", ("purchase", GRADED), rows)],
    )
