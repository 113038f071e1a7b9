"""Trains a teacher for a bundle, and distils a ranker from it. Needs the extra `aisle[train]`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.arrays import Progress, silent
from models.bundles.bundle import Bundle
from models.ranking.feature_names import FEATURES
from models.ranking.recipe import RankerRecipe
from models.ranking.teacher.catalogue_view import CatalogueView
from models.ranking.teacher.recipe import TeacherRecipe
from models.ranking.teacher.soft_labels import soft_labels
from models.ranking.teacher.teacher import Teacher
from models.ranking.teacher.train_teacher import TrainedTeacher, train_teacher
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
    """Trains the teacher on the shown pages and writes the folder `out`; after an interruption the same call resumes.

    `device` is "cpu" or "cuda". Raises the errors of `train_teacher`.
    """
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
    """Trains a ranker on the labels of all pages and on the teacher's probabilities of `recipe.judged_pages` pages, evenly spread over
    time.

    Raises TeacherError for a teacher of other features, and the errors of `train_on`.
    """
    loaded, catalogue, shown = Teacher.load(teacher, features=FEATURES), CatalogueView.from_bundle(bundle), pages.shown
    count = min(recipe.judged_pages, shown.num_pages)
    scored = np.unique(np.linspace(0, shown.num_pages - 1, count).astype(np.int64))
    rows = np.flatnonzero(np.isin(shown.page, scored))
    probabilities = np.full((len(shown), 3), np.nan, np.float32)
    probabilities[rows] = soft_labels(
        loaded, shown.take(scored), pages.rows.features[rows], catalogue.table, catalogue.bands, progress
    )
    return train_on(pages, recipe, teacher_probabilities=probabilities, seed=seed, progress=progress)
