"""The recipes of `train all`: one for each stage, and which part of the log is kept for the report."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.query_types.recipe import RECIPES as TYPES_RECIPES
from models.query_types.recipe import TypesRecipe
from models.ranking.recipe import RECIPES as RANKER_RECIPES
from models.ranking.recipe import RankerRecipe
from models.ranking.teacher.recipe import RECIPES as TEACHER_RECIPES
from models.ranking.teacher.recipe import PageSample, TeacherRecipe
from models.text_encoder.hugging_face import PACKAGED
from models.text_tuning.recipe import RECIPES as TEXT_RECIPES
from models.text_tuning.recipe import Stage, TextRecipe
from models.unified.recipe import RECIPES as UNIFIED_RECIPES
from models.unified.recipe import UnifiedRecipe

TEXT_STAGES = (Stage.CLICK,)  # "mlm" before "click" improved nothing
HELD_OUT = 0.05  # of the log's events, the latest, for the report


@dataclass(frozen=True, slots=True)
class LoopRecipe:
    """The recipes of all stages."""

    name: str
    text: TextRecipe
    unified: UnifiedRecipe
    types: TypesRecipe
    teacher: TeacherRecipe
    ranker: RankerRecipe
    base: str = PACKAGED  # base of the text encoder
    report_pages: int = 3_000

    def __post_init__(self) -> None:
        if self.unified.train_share >= 1 - HELD_OUT:
            raise ValueError(
                f"unified: train_share {self.unified.train_share} leaves no events for the ranker; it must be below {1 - HELD_OUT:g}"
            )


STARTER = LoopRecipe(
    "starter",
    TEXT_RECIPES["starter"],
    UNIFIED_RECIPES["starter"],
    TYPES_RECIPES["starter"],
    TEACHER_RECIPES["starter"],
    replace(RANKER_RECIPES["starter"], judged_pages=1_500),
    report_pages=2_000,
)
# Less than half an hour on two cores with a log of 2,000,000 events: text encoder and teacher train for less long than by themselves.
# With 250 steps after 60 steps of "mlm", and 2,500 pages for the teacher, teacher and ranker were no better at more than twice the time
# (simulated store, 979 later pages with a purchase: NDCG@10 0.584 and 0.577, with this recipe 0.587 and 0.574).
SMALL = LoopRecipe(
    "small",
    replace(TEXT_RECIPES["small"], click=replace(TEXT_RECIPES["small"].click, max_steps=90)),
    UNIFIED_RECIPES["small"],
    TYPES_RECIPES["starter"],
    replace(TEACHER_RECIPES["small"], sample=PageSample(pages=600)),
    replace(RANKER_RECIPES["small"], max_pages=10_000, judged_pages=600),
)
# For a GPU, hours: the teacher reads every page of the ranker's window, so that the ranker may be taught by 30,000 of them. The intervals
# of the report are a third as wide as small's with ten times the pages.
FULL = LoopRecipe(
    "full",
    TEXT_RECIPES["full"],
    UNIFIED_RECIPES["full"],
    TYPES_RECIPES["full"],
    TEACHER_RECIPES["full"],
    RANKER_RECIPES["full"],
    report_pages=30_000,
)
RECIPES = {recipe.name: recipe for recipe in (STARTER, SMALL, FULL)}
