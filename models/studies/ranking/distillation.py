"""Teachers and the students distilled from them, with and without further pretraining on shop text. Needs the extra `aisle[minilm]`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from models.arrays import Floats, Ints
from models.bundles.bundle import Bundle
from models.errors import InputError
from models.evaluation.bootstrap import Interval
from models.evaluation.page import Cell, Section, Table
from models.ranking.feature_names import FEATURES
from models.ranking.impressions import Impressions
from models.ranking.recipe import RankerRecipe
from models.ranking.tasks import TASKS
from models.ranking.teacher.catalogue_view import CatalogueView
from models.ranking.teacher.recipe import RECIPES, FeatureStage, PageSample, TeacherRecipe, TextStage
from models.ranking.teacher.soft_labels import soft_labels
from models.ranking.teacher.teacher import Teacher
from models.ranking.teacher.train_teacher import train_teacher
from models.studies.ranking.learned import MULTI_TASK, ScoreCache, Variant, fingerprint, variant_scores
from models.studies.ranking.page_metrics import RankerScores
from models.studies.ranking.page_summary import GRADED, Ranked
from models.studies.ranking.pages import RankingPages
from models.text_tuning.mlm_recipe import MlmStage

GENERIC, DOMAIN = "teacher, generic base", "teacher, base adapted to the shop"
STUDENTS = {GENERIC: "student of the generic teacher", DOMAIN: "student of the adapted teacher"}

# Trains within a minute: shows that the parts fit together, not how good a teacher is.
TOY = TeacherRecipe(
    "toy",
    layers=1,
    sample=PageSample(pages=300, others=3),
    features=FeatureStage(max_steps=200),
    text=TextStage(pages=12),
)
TEACHERS = {TOY.name: TOY, **RECIPES}


@dataclass(frozen=True, slots=True)
class TeacherPlan:
    """Which teachers to train, and how many pages they score."""

    recipe: TeacherRecipe = TOY
    language: MlmStage = field(
        default_factory=lambda: MlmStage(steps=20, batch=16)
    )  # for the adapted teacher, if its recipe has none
    train_pages: int = 1_200  # pages that they label for the student
    test_pages: int = 2_000  # pages on which they are compared
    device: str = "cpu"  # for training

    @classmethod
    def named(cls, name: str, device: str = "cpu") -> TeacherPlan:
        """Returns the plan of a named teacher recipe. Raises ValueError for an unknown name."""
        if name not in TEACHERS:
            raise InputError(f"there is no teacher {name!r}; there are {', '.join(TEACHERS)}")
        if name == TOY.name:
            return cls(device=device)
        return cls(TEACHERS[name], MlmStage(steps=300), train_pages=6_000, device=device)


@dataclass(frozen=True, slots=True, eq=False)
class Distilled:
    """Teachers and students on a sample of the test pages."""

    ranked: Ranked
    teachers: tuple[str, ...]
    plan: TeacherPlan

    def share(self, teacher: str, what: str) -> Interval:
        """Returns the share of the teacher's NDCG that its student reaches."""
        return self.ranked.share(STUDENTS[teacher], teacher, what)


def distil_rankers(
    bundle: Bundle,
    pages: RankingPages,
    ranked: Ranked,
    recipe: RankerRecipe,
    plan: TeacherPlan,
    cache: ScoreCache,
    work: Path,
    seed: int,
) -> Distilled:
    """Trains both teachers and their students, and compares them with the multi-task ranker of `ranked`, which has no teacher.

    Raises EncoderError without the base encoder.
    """
    shelf = CatalogueView.from_bundle(bundle)
    test_pages = _sample(pages.test.num_pages, plan.test_pages, seed)
    taught_pages = _sample(pages.train.num_pages, plan.train_pages, seed)
    shown, later = pages.train, pages.test.take(test_pages)
    rows = np.flatnonzero(np.isin(shown.page, taught_pages))
    at_test = np.flatnonzero(np.isin(pages.test.page, test_pages))
    scores: dict[str, RankerScores] = {}
    for name in (GENERIC, DOMAIN):
        teacher_recipe = plan.recipe
        if name == GENERIC:
            teacher_recipe = replace(teacher_recipe, mlm=None)
        elif teacher_recipe.mlm is None:
            teacher_recipe = replace(teacher_recipe, mlm=plan.language)
        key = _key(bundle, pages, teacher_recipe, seed)
        folder = work / f"teacher-{key}"
        if not folder.exists():
            train_teacher(
                shelf,
                shown,
                pages.train_rows.features,
                FEATURES,
                folder,
                teacher_recipe,
                seed=seed,
                progress=cache.progress,
                device=plan.device,
            )
        teacher = Teacher.load(folder, features=FEATURES)

        score = partial(_soft_labels, teacher, shelf, cache)
        probabilities = cache.get_or_make(
            f"{name}: score the test pages",
            ["judge", key, len(test_pages)],
            partial(score, later, pages.test_rows.features[at_test]),
        )
        scores[name] = RankerScores.from_probabilities(probabilities)
        soft = np.full((len(shown), len(TASKS)), np.nan, np.float32)
        soft[rows] = cache.get_or_make(
            f"{name}: label training pages",
            ["teach", key, len(taught_pages)],
            partial(score, shown.take(taught_pages), pages.train_rows.features[rows]),
        )
        student = Variant(STUDENTS[name], recipe)
        student_scores = variant_scores(
            cache, student, replace(pages.train_rows, teacher=soft), pages.test_rows.features, seed
        )
        scores[STUDENTS[name]] = student_scores.take(at_test)
    return Distilled(ranked.on_pages(test_pages).with_rankers(scores), (GENERIC, DOMAIN), plan)


def _soft_labels(
    teacher: Teacher, shelf: CatalogueView, cache: ScoreCache, shown: Impressions, features: Floats
) -> Floats:
    return soft_labels(teacher, shown, features, shelf.table, shelf.bands, cache.progress)


def distillation_section(distilled: Distilled) -> Section:
    ranked = distilled.ranked
    names = [*distilled.teachers, *(STUDENTS[teacher] for teacher in distilled.teachers), MULTI_TASK]
    targets = (*TASKS, GRADED)
    shares: list[tuple[str, list[Cell]]] = [
        (f"{STUDENTS[teacher]}, share of its teacher's", [distilled.share(teacher, what) for what in targets])
        for teacher in distilled.teachers
    ]
    pairs = [(DOMAIN, GENERIC), *((STUDENTS[teacher], MULTI_TASK) for teacher in distilled.teachers)]
    return Section(
        "Teacher and student",
        f"Teachers of the recipe '{distilled.plan.recipe.name}' on {ranked.rows.num_pages:,} of the test pages. One base is a general "
        "English encoder; the other was adapted to the shop by masked language modelling on catalogue and queries. A student learns from "
        f"the log and from its teacher's probabilities on at most {distilled.plan.train_pages:,} pages; {MULTI_TASK} has no teacher.",
        tables=[
            ranked.task_table(names, "purchase"),
            ranked.difference_table("Lift by adapting the base, and by having a teacher", pairs),
            Table("NDCG of each student as a share of its teacher's", "student", targets, shares),
        ],
    )


def _sample(num_pages: int, max_pages: int, seed: int) -> Ints:
    rng = np.random.default_rng([seed, 0x7E])
    return np.arange(num_pages) if num_pages <= max_pages else np.sort(rng.choice(num_pages, max_pages, replace=False))


def _key(bundle: Bundle, pages: RankingPages, recipe: TeacherRecipe, seed: int) -> str:
    key = [bundle.manifest.version, asdict(recipe), seed, fingerprint(pages.train_rows, pages.test_rows.features)]
    return hashlib.sha256(json.dumps(key, default=str).encode()).hexdigest()[:12]
