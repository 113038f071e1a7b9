"""An update learns what is new in a few steps, and forgets nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.studies.rankers import nearest
from models.unified.recipe import UnifiedRecipe
from models.unified.shopping_log import ShoppingLog
from models.unified.train_unified import train_unified
from models.unified.unified_model import Search, UnifiedModel
from models.unified.update import Update
from tests.learning.conftest import KINDS

if TYPE_CHECKING:
    from tests.learning.conftest import Planted

NEW = "settee"  # what shoppers call a sofa from some day on
K = 10
Silent = Callable[[str, int, int | None], None]


def with_new_word(log: ShoppingLog, since_ms: int) -> ShoppingLog:
    """The log with another word for a sofa in the searches from a time on."""
    old = log.queries.index(KINDS["sofa"])
    is_new = (log.query == old) & (log.searched_ms >= since_ms)
    query = np.where(is_new, len(log.queries), log.query).astype(np.int32)
    return replace(log, query=query, queries=[*log.queries, NEW])


def share_of(kind: str, query: str, model: UnifiedModel, planted: Planted) -> float:
    ranked = nearest(model.search_vectors([Search(query, "en-US")]), model.product_vectors, K)
    return float(np.mean([f" {kind} " in planted.table.product(int(row)).title for row in ranked[0]]))


@pytest.fixture(scope="module")
def since_ms(planted: Planted) -> int:
    return planted.log.time_at(0.8)


@pytest.fixture(scope="module")
def log(planted: Planted, since_ms: int) -> ShoppingLog:
    return with_new_word(planted.log, since_ms)


@pytest.fixture(scope="module")
def start(
    planted: Planted,
    log: ShoppingLog,
    since_ms: int,
    tiny_recipe: UnifiedRecipe,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("start") / "unified"
    train_unified(planted.table, log, tiny_recipe, folder, lambda *_: None, until_ms=since_ms)
    return folder


def test_a_new_word_is_learned_and_the_old_ones_are_not_forgotten(
    planted: Planted,
    log: ShoppingLog,
    since_ms: int,
    start: Path,
    tiny_recipe: UnifiedRecipe,
    tmp_path: Path,
    silent: Silent,
) -> None:
    before = UnifiedModel.load(start)
    assert share_of("sofa", NEW, before, planted) < 0.5
    end_ms = int(log.time_ms[-1]) + 1
    update = Update(start, since_ms)
    trained = train_unified(planted.table, log, tiny_recipe, tmp_path / "out", silent, until_ms=end_ms, update=update)
    after = UnifiedModel.load(tmp_path / "out")
    assert after.until_ms == end_ms
    assert trained.num_examples < 0.5 * len(log) / 2  # two events make an example: most are not seen again
    assert share_of("sofa", NEW, after, planted) > 0.8
    for kind, word in KINDS.items():
        assert share_of(kind, word, after, planted) > 0.8, kind


def test_an_update_without_new_events_keeps_the_weights(
    planted: Planted,
    log: ShoppingLog,
    since_ms: int,
    start: Path,
    tiny_recipe: UnifiedRecipe,
    tmp_path: Path,
    silent: Silent,
) -> None:
    update = Update(start, since_ms)
    trained = train_unified(planted.table, log, tiny_recipe, tmp_path / "out", silent, until_ms=since_ms, update=update)
    assert trained.steps == 0
    before, after = UnifiedModel.load(start), UnifiedModel.load(tmp_path / "out")
    np.testing.assert_allclose(after.product_vectors, before.product_vectors, atol=0.01)
