"""The rankers of `models.ranking` that are compared: each learns from the same pages and answers the same later ones."""

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
from models.studies.ranking.page_metrics import Answer

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
    "price_above",
    "price_distance",
    "shopper_known",
    "engaged",
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to learn. `tasks` are those of which it says something."""

    name: str
    recipe: RankerRecipe
    without: tuple[str, ...] = ()  # features that it is not told
    tasks: tuple[str, ...] = TASKS


def variants_of(recipe: RankerRecipe) -> list[Variant]:
    """The multi-task ranker first; then what differs from it in one thing."""
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
class KeptChances:
    """Answers in a folder, by what they follow from: an interrupted evaluation goes on where it was."""

    folder: Path
    progress: Progress

    def of(self, name: str, told: Sequence[object], make: Callable[[], Floats]) -> Floats:
        """What `make` gives, or gave earlier for the same `told`, from which all follows; `name` is for who waits."""
        digest = hashlib.sha256(json.dumps(list(told), default=str).encode()).hexdigest()[:16]
        kept = self.folder / f"{digest}.npy"
        if kept.exists():
            return np.load(kept)
        self.progress(name, 0, None)
        found = make()
        partial = self.folder / f"{digest}.partial.npy"
        np.save(partial, found)
        partial.replace(kept)
        self.progress(name, 1, 1)
        return found


def fitted(rows: RankerRows, recipe: RankerRecipe, seed: int) -> Ranker:
    """As `train_ranker` fits and calibrates: the latest pages are held out."""
    cut = rows.num_pages - max(1, int(recipe.holdout_share * rows.num_pages))
    holdout = rows.between(cut, rows.num_pages)
    return calibrated(fit_ranker(rows.between(0, cut), holdout, recipe, seed=seed).ranker, holdout)


def answer_of(kept: KeptChances, variant: Variant, rows: RankerRows, asked: Floats, seed: int, of: str = "") -> Answer:
    """What the variant, learned from `rows`, says of features (rows asked, FEATURES). `of` names the rows where they are not usual."""
    hidden = [_AT[name] for name in variant.without]

    def learn() -> Floats:
        told, later = rows.features.copy(), asked.copy()
        told[:, hidden], later[:, hidden] = 0, 0
        ranker = fitted(RankerRows(told, rows.labels, rows.page, rows.position, rows.teacher), variant.recipe, seed)
        if variant.tasks == TASKS:
            return ranker.probabilities(later)
        # Not nested: a task that it did not learn would cap the chances of those after it.
        odds = ranker.log_odds(later)
        return np.stack([one.apply(odds[:, at]) for at, one in enumerate(ranker.calibration)], axis=1)

    follows = [asdict(variant.recipe), variant.without, seed, fingerprint(rows, asked)]
    follows += [variant.tasks] if variant.tasks != TASKS else []
    found = kept.of(f"train {variant.name} {of}".strip(), follows, learn)
    if len(variant.tasks) == 1:  # its one chance orders the page for whatever is asked
        return Answer.of_score(found[:, TASKS.index(variant.tasks[0])], chance_of=variant.tasks[0])
    found[:, [at for at, task in enumerate(TASKS) if task not in variant.tasks]] = np.nan
    return Answer.of_chances(found)


def fingerprint(rows: RankerRows, asked: Floats) -> str:
    digest = hashlib.sha256()
    for array in (rows.features, rows.labels, rows.page, rows.position, rows.teacher, asked):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
