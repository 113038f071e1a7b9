"""Teachers, and students that learned from them: a base with and without the shop's language. Needs the extra `aisle[minilm]`."""

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
from models.ranking.teacher.recipe import RECIPES, FeatureStage, PageSample, TeacherRecipe, TextStage
from models.ranking.teacher.soft_labels import soft_labels
from models.ranking.teacher.teacher import Teacher
from models.ranking.teacher.train_teacher import CatalogueView, train_teacher
from models.studies.ranking.learned import MULTI_TASK, KeptChances, Variant, answer_of, fingerprint
from models.studies.ranking.page_metrics import Answer
from models.studies.ranking.page_summary import GRADED, Ranked
from models.studies.ranking.pages import RankingPages
from models.text_tuning.mlm_recipe import MlmStage

GENERIC, DOMAIN = "teacher, generic base", "teacher, shop's language"
STUDENTS = {GENERIC: "student of the generic teacher", DOMAIN: "student of the shop's teacher"}

# What a minute allows: it shows that the parts fit together, not how good a teacher is.
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
    """Which teachers, and how many pages they judge."""

    recipe: TeacherRecipe = TOY
    language: MlmStage = field(
        default_factory=lambda: MlmStage(steps=20, batch=16)
    )  # of the domain's teacher, where its recipe has none
    train_pages: int = 1_200  # that they tell the student of
    test_pages: int = 2_000  # on which they are compared
    device: str = "cpu"  # where they are trained

    @classmethod
    def named(cls, name: str, device: str = "cpu") -> TeacherPlan:
        """Raises ValueError for a recipe that there is not."""
        if name not in TEACHERS:
            raise InputError(f"there is no teacher {name!r}; there are {', '.join(TEACHERS)}")
        if name == TOY.name:
            return cls(device=device)
        return cls(TEACHERS[name], MlmStage(steps=300), train_pages=6_000, device=device)


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """Teachers and students on some of the test pages."""

    ranked: Ranked
    teachers: tuple[str, ...]
    plan: TeacherPlan

    def share(self, teacher: str, what: str) -> Interval:
        """Of the teacher's NDCG that its student has."""
        return self.ranked.share(STUDENTS[teacher], teacher, what)


def taught_rankers(
    bundle: Bundle,
    pages: RankingPages,
    ranked: Ranked,
    recipe: RankerRecipe,
    plan: TeacherPlan,
    kept: KeptChances,
    work: Path,
    seed: int,
) -> Taught:
    """Both teachers, their students, and of `ranked` the multi-task ranker that had none. Raises EncoderError without the base."""
    shelf = CatalogueView.from_bundle(bundle)
    some = _some(pages.test.num_pages, plan.test_pages, seed)
    told = _some(pages.train.num_pages, plan.train_pages, seed)
    shown, later = pages.train, pages.test.take(some)
    rows = np.flatnonzero(np.isin(shown.page, told))
    at_test = np.flatnonzero(np.isin(pages.test.page, some))
    answers: dict[str, Answer] = {}
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
                progress=kept.progress,
                device=plan.device,
            )
        teacher = Teacher.load(folder, features=FEATURES)

        judge = partial(_judged, teacher, shelf, kept)
        found = kept.of(
            f"{name}: judge", ["judge", key, len(some)], partial(judge, later, pages.test_rows.features[at_test])
        )
        answers[name] = Answer.of_chances(found)
        chances = np.full((len(shown), len(TASKS)), np.nan, np.float32)
        chances[rows] = kept.of(
            f"{name}: teach",
            ["teach", key, len(told)],
            partial(judge, shown.take(told), pages.train_rows.features[rows]),
        )
        student = Variant(STUDENTS[name], recipe)
        answer = answer_of(kept, student, replace(pages.train_rows, teacher=chances), pages.test_rows.features, seed)
        answers[STUDENTS[name]] = answer.take(at_test)
    return Taught(ranked.of_pages(some).with_answers(answers), (GENERIC, DOMAIN), plan)


def _judged(teacher: Teacher, shelf: CatalogueView, kept: KeptChances, shown: Impressions, features: Floats) -> Floats:
    return soft_labels(teacher, shown, features, shelf.table, shelf.bands, kept.progress)


def taught_section(taught: Taught) -> Section:
    ranked = taught.ranked
    names = [*taught.teachers, *(STUDENTS[one] for one in taught.teachers), MULTI_TASK]
    whats = (*TASKS, GRADED)
    shares: list[tuple[str, list[Cell]]] = [
        (f"{STUDENTS[one]}, share of its teacher's", [taught.share(one, what) for what in whats])
        for one in taught.teachers
    ]
    pairs = [(DOMAIN, GENERIC), *((STUDENTS[one], MULTI_TASK) for one in taught.teachers)]
    return Section(
        "Teacher and student",
        f"Teachers of the recipe '{taught.plan.recipe.name}' on {ranked.rows.num_pages:,} of the test pages. One base is general English, "
        "the other went on with the masked words of catalogue and queries. A student learned from the log and from its teacher's chances "
        f"of {taught.plan.train_pages:,} pages at most; {MULTI_TASK} had no teacher.",
        tables=[
            ranked.task_table(names, "purchase"),
            ranked.difference_table("Is the shop's language, is a teacher worth it?", pairs),
            Table("NDCG of a student over that of its teacher", "student", whats, shares),
        ],
    )


def _some(num_pages: int, most: int, seed: int) -> Ints:
    rng = np.random.default_rng([seed, 0x7E])
    return np.arange(num_pages) if num_pages <= most else np.sort(rng.choice(num_pages, most, replace=False))


def _key(bundle: Bundle, pages: RankingPages, recipe: TeacherRecipe, seed: int) -> str:
    told = [bundle.manifest.version, asdict(recipe), seed, fingerprint(pages.train_rows, pages.test_rows.features)]
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:12]
