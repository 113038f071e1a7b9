"""What is missing to the oracle: trees that are taught the simulation's chances themselves, from the features and from more than these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.arrays import Floats
from models.evaluation.bootstrap import ratio_interval
from models.evaluation.page import Cell, Section, Table
from models.studies.ranking.learned import MULTI_TASK, KeptChances, fingerprint
from models.studies.ranking.page_metrics import Answer
from models.studies.ranking.page_summary import GRADED, Ranked
from models.studies.ranking.pages import RankingPages
from models.studies.ranking.truth import FIT, QUALITY, TASTE, StoreTruth

FEATURES_ALONE = "the features"
_ADDED = {
    FEATURES_ALONE: (),
    f"and {FIT}": (FIT,),
    f"and {TASTE}": (TASTE,),
    f"and {QUALITY}": (QUALITY,),
    "and all three": (FIT, TASTE, QUALITY),
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


def taught_truth(pages: RankingPages, truth: StoreTruth, kept: KeptChances, seed: int) -> dict[str, Answer]:
    """Orders of the test pages by the mean grade that a regression expects, learned without noise: by what it was told."""
    told, asked = truth.parts(pages.train), truth.parts(pages.test)
    wanted = np.log(truth.of_pages(pages.train).sum(axis=1))
    found = {}
    for name, added in _ADDED.items():

        def learn(added: tuple[str, ...] = added) -> Floats:
            import lightgbm

            train, test = (
                np.column_stack([rows.features, *(parts[one] for one in added)])
                for rows, parts in ((pages.train_rows, told), (pages.test_rows, asked))
            )
            model = lightgbm.train({**_SETTINGS, "seed": seed}, lightgbm.Dataset(train, wanted), _TREES)
            return np.asarray(model.predict(test), np.float32)

        key = ["truth", *added, seed, fingerprint(pages.train_rows, pages.test_rows.features)]
        found[name] = Answer.of_score(kept.of(f"taught the truth: {name}", key, learn))
    return found


def missing_section(ranked: Ranked, taught: Mapping[str, Answer], oracle: str) -> Section:
    both = ranked.with_answers(taught)
    rows: list[tuple[str, Sequence[Cell]]] = [
        (
            name,
            [
                ratio_interval(both.ndcg(name, what), both.ndcg(oracle, what), both.units, seed=both.seed)
                for what in ("purchase", GRADED)
            ],
        )
        for name in (MULTI_TASK, *taught)
    ]
    return Section(
        "What is missing to the oracle",
        f"Below {MULTI_TASK}, trees were taught the simulation's true chances instead of clicks: from {FEATURES_ALONE}, and from these "
        "with one thing that nobody but the simulation knows. What the first of them lacks no number of clicks can teach; what another has "
        "more is what better features of this kind could bring at most.",
        tables=[Table("NDCG, share of the oracle's", "taught by", ("purchase", GRADED), rows)],
    )
