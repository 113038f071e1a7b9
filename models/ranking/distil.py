"""A teacher for a bundle, and a ranker that learns from it: the cross-encoder's chances beside what shoppers did. Needs the extra
`aisle[train]`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.arrays import Progress, silent
from models.bundles.bundle import Bundle
from models.ranking.feature_names import FEATURES
from models.ranking.recipe import RankerRecipe
from models.ranking.teacher.recipe import TeacherRecipe
from models.ranking.teacher.soft_labels import soft_labels
from models.ranking.teacher.teacher import Teacher
from models.ranking.teacher.train_teacher import CatalogueView, TrainedTeacher, train_teacher
from models.ranking.train_ranker import TrainedRanker, TrainingPages, train_on
from models.text_encoder.hugging_face import PACKAGED


def train_teacher_on(
    bundle: Bundle,
    pages: TrainingPages,
    out: Path,
    recipe: TeacherRecipe,
    base: str = PACKAGED,
    *,
    seed: int = 0,
    progress: Progress = silent,
    device: str = "cpu",
) -> TrainedTeacher:
    """Trains the teacher into the folder `out`, on the shown pages, on the `device` "cpu" or "cuda"; interrupted, the same call goes on
    where it stopped. Raises as `train_teacher` does."""
    return train_teacher(
        CatalogueView.from_bundle(bundle),
        pages.shown,
        pages.rows.features,
        FEATURES,
        out,
        recipe,
        base,
        seed,
        progress,
        device,
    )


def distil_ranker(
    bundle: Bundle,
    pages: TrainingPages,
    teacher: Path,
    recipe: RankerRecipe,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> TrainedRanker:
    """The ranker learns from the teacher's chances of `recipe.judged_pages` pages, drawn evenly over the time, and from the labels of all.

    Raises TeacherError for a teacher of other features, and as `train_on` does.
    """
    loaded, shelf, shown = Teacher.load(teacher, features=FEATURES), CatalogueView.from_bundle(bundle), pages.shown
    count = min(recipe.judged_pages, shown.num_pages)
    judged = np.unique(np.linspace(0, shown.num_pages - 1, count).astype(np.int64))
    rows = np.flatnonzero(np.isin(shown.page, judged))
    told = np.full((len(shown), 3), np.nan, np.float32)
    told[rows] = soft_labels(loaded, shown.take(judged), pages.rows.features[rows], shelf.table, shelf.bands, progress)
    return train_on(pages, recipe, teacher_probabilities=told, seed=seed, progress=progress)
