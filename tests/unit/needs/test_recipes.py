"""Every stage has a recipe of each size."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

pytest.importorskip("torch")

from models.query_types.recipe import ENCODER_RECIPES
from models.query_types.recipe import RECIPES as TYPES
from models.ranking.recipe import RECIPES as RANKER
from models.ranking.teacher.recipe import RECIPES as TEACHER
from models.text_tuning.recipe import RECIPES as TEXT
from models.train_all import RECIPES as ALL
from models.unified.recipe import RECIPES as UNIFIED

STAGES = {
    "all": ALL,
    "encoder types": ENCODER_RECIPES,
    "ranker": RANKER,
    "teacher": TEACHER,
    "text": TEXT,
    "types": TYPES,
    "unified": UNIFIED,
}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_starter_a_small_and_a_full_recipe(stage: str) -> None:
    recipes: Mapping[str, object] = STAGES[stage]
    assert list(recipes) == ["starter", "small", "full"]
    assert all(getattr(recipe, "name", "") == name for name, recipe in recipes.items())
