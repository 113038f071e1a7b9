"""The variants of the ranker that are compared: each is trained on the same pages and scores the same later pages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from models.arrays import Floats, Progress
from models.ranking.feature_names import FEATURES
from models.ranking.fit_ranker import RankerRows, fit_ranker
from models.ranking.ranker import Ranker
from models.ranking.recipe import RankerRecipe, Structure, Transfer, Weighting
from models.ranking.tasks import TASKS
from models.ranking.train_ranker import calibrated
from models.studies.ranking.page_metrics import RankerScores

_AT = {name: at for at, name in enumerate(FEATURES)}

MULTI_TASK = "multi-task"
NO_TRANSFER, SHARED, ESMM = "MMoE, no transfer", "shared bottom", "ESMM-like"
UNCERTAINTY, POINTWISE, LISTWISE = "uncertainty weights", "pointwise only", "listwise only"
IMPERSONAL = "without personal features"
PERSONAL_FEATURES = (
    "search_cosine",
    "shopper_cosine",
    "brand_affinity",
    "category_affinity",
    "price_affinity",
    "trait_affinity",
    "clicked_before",
    "bought_before",
    "price_above",
    "price_distance",
    "shopper_known",
    "engaged",
)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to train the ranker. `tasks` are the tasks that it predicts."""

    name: str
    recipe: RankerRecipe
    without: tuple[str, ...] = ()  # hidden features
    tasks: tuple[str, ...] = TASKS


def variants_of(recipe: RankerRecipe) -> list[Variant]:
    """Returns the multi-task ranker, then variants that each differ from it in one thing."""
    only = {task: tuple(float(task == one) for one in TASKS) for task in TASKS}
    single = replace(recipe, structure=Structure.SINGLE, transfer=Transfer.NONE, weighting=Weighting.FIXED)
    return [
        Variant(MULTI_TASK, recipe),
        Variant(NO_TRANSFER, replace(recipe, transfer=Transfer.NONE)),
        Variant(SHARED, replace(recipe, structure=Structure.SHARED, transfer=Transfer.NONE)),
        *(
            Variant(
                single_name(task),
                replace(single, task_weights=(only[task][0], only[task][1], only[task][2])),
                (),
                (task,),
            )
            for task in TASKS
        ),
        Variant(
            ESMM,
            replace(recipe, structure=Structure.SINGLE, transfer=Transfer.CHAIN, task_weights=(1.0, 0.0, 1.0)),
            (),
            ("click", "purchase"),
        ),
        Variant(UNCERTAINTY, replace(recipe, weighting=Weighting.UNCERTAINTY)),
        Variant(POINTWISE, replace(recipe, listwise=0.0)),
        Variant(LISTWISE, replace(recipe, listwise=1.0)),
        Variant(IMPERSONAL, recipe, PERSONAL_FEATURES),
    ]


def single_name(task: str) -> str:
    return f"single task: {task}"


@dataclass(frozen=True, slots=True)
class ScoreCache:
    """Scores cached in a folder, so that an interrupted evaluation resumes."""

    folder: Path
    progress: Progress

    def get_or_make(self, name: str, key: Sequence[object], make: Callable[[], Floats]) -> Floats:
        """Returns the array cached under `key`, or makes and caches it. `name` is reported as progress."""
        digest = hashlib.sha256(json.dumps(list(key), default=str).encode()).hexdigest()[:16]
        path = self.folder / f"{digest}.npy"
        if path.exists():
            return np.load(path)
        self.progress(name, 0, None)
        array = make()
        partial = self.folder / f"{digest}.partial.npy"
        np.save(partial, array)
        partial.replace(path)
        self.progress(name, 1, 1)
        return array


def train_variant(rows: RankerRows, recipe: RankerRecipe, seed: int) -> Ranker:
    """Trains and calibrates as `train_ranker` does: the latest pages are the holdout."""
    cut = rows.num_pages - max(1, int(recipe.holdout_share * rows.num_pages))
    holdout = rows.between(cut, rows.num_pages)
    return calibrated(fit_ranker(rows.between(0, cut), holdout, recipe, seed=seed).ranker, holdout)


def variant_scores(
    cache: ScoreCache, variant: Variant, rows: RankerRows, test_features: Floats, seed: int, label: str = ""
) -> RankerScores:
    """Trains the variant on `rows` and scores `test_features` (test rows, FEATURES). `label` describes unusual training rows."""
    hidden = [_AT[name] for name in variant.without]

    def learn() -> Floats:
        features, later = rows.features.copy(), test_features.copy()
        features[:, hidden], later[:, hidden] = 0, 0
        ranker = train_variant(
            RankerRows(features, rows.labels, rows.page, rows.position, rows.teacher), variant.recipe, seed
        )
        if variant.tasks == TASKS:
            return ranker.probabilities(later)
        # Not nested: a task without training would cap the probabilities of the later tasks.
        odds = ranker.log_odds(later)
        return np.stack([scale.apply(odds[:, task]) for task, scale in enumerate(ranker.calibration)], axis=1)

    key = [asdict(variant.recipe), variant.without, seed, fingerprint(rows, test_features)]
    key += [variant.tasks] if variant.tasks != TASKS else []
    scores = cache.get_or_make(f"train {variant.name} {label}".strip(), key, learn)
    if len(variant.tasks) == 1:  # its only probability orders the page for every task
        return RankerScores.from_score(scores[:, TASKS.index(variant.tasks[0])], calibrated_task=variant.tasks[0])
    scores[:, [at for at, task in enumerate(TASKS) if task not in variant.tasks]] = np.nan
    return RankerScores.from_probabilities(scores)


def fingerprint(rows: RankerRows, test_features: Floats) -> str:
    digest = hashlib.sha256()
    for array in (rows.features, rows.labels, rows.page, rows.position, rows.teacher, test_features):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
