"""What an update learns from, and what it keeps of the model that it starts from."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.events.errors import LogError
from models.events.event import EVENT_SCHEMA
from models.unified.embed_products import UnifiedEmbedding
from models.unified.examples import Examples
from models.unified.model_files import PRODUCT_FILE, SEARCH_FILE
from models.unified.recipe import UnifiedRecipe
from models.unified.shopping_log import ShoppingLog
from models.unified.update import Update, turned_onto

SINCE_MS = 900


def examples(num: int) -> Examples:
    columns = {field.name: np.arange(num, dtype=np.int32) for field in fields(Examples)}
    return Examples(**columns)  # type: ignore[arg-type] - searched at 0, 1, 2 ... ms


def test_new_examples_all_count_and_as_many_older_ones_are_drawn() -> None:
    update = Update(Path(), SINCE_MS)
    drawn = update.sample(examples(1000), seed=3)
    is_new = drawn.searched_ms >= SINCE_MS
    assert drawn.searched_ms[is_new].tolist() == list(range(SINCE_MS, 1000))
    assert np.count_nonzero(~is_new) == 100
    assert len(np.unique(drawn.searched_ms)) == 200
    assert (np.diff(drawn.searched_ms) > 0).all()


def test_what_an_update_starts_from_is_known_by_its_content_not_by_its_place(
    tmp_path: Path,
) -> None:
    log = tmp_path / "events.parquet"
    log.write_bytes(b"a log")

    def fingerprint(folder: str, weights: bytes) -> str:
        (start := tmp_path / folder).mkdir(exist_ok=True)
        for name in (SEARCH_FILE, PRODUCT_FILE):
            (start / name).write_bytes(weights)
        return UnifiedEmbedding((log,), UnifiedRecipe("tiny"), update=Update(start, SINCE_MS)).fingerprint()

    first = fingerprint("bundle", b"first")
    assert fingerprint("moved", b"first") == first
    assert fingerprint("bundle", b"second") != first


def test_where_all_is_new_or_nothing_is_there_is_no_more_to_draw() -> None:
    assert len(Update(Path(), 0).sample(examples(10), seed=0)) == 10
    assert len(Update(Path(), SINCE_MS).sample(examples(10), seed=0)) == 0


def test_an_update_takes_smaller_steps_without_a_warm_up() -> None:
    recipe = UnifiedRecipe("some", learning_rate=0.01)
    updated = Update(Path(), 0, rate=0.25, epochs=2).of(recipe)
    assert (updated.learning_rate, updated.epochs) == (0.0025, 2)
    assert (updated.negatives.warm_up_share, updated.negatives.full_share) == (0, 0)
    assert updated.sizes == recipe.sizes


def test_the_vectors_of_a_new_graph_are_turned_onto_those_that_the_tower_knows() -> None:
    random = np.random.default_rng(0)
    former = random.normal(size=(50, 4)).astype(np.float32)
    rotation = np.linalg.qr(random.normal(size=(4, 4)))[0].astype(np.float32)
    graphs = np.stack([former @ rotation, 2 * former @ rotation])
    turned = turned_onto(graphs, former)
    np.testing.assert_allclose(turned, np.stack([former, 2 * former]), atol=1e-4)
    assert turned.dtype == np.float32


def log_in(*locales: str) -> ShoppingLog:
    rows = [
        {
            "id": str(at),
            "time": at,
            "shopper_id": "",
            "session_id": str(at),
            "locale": locale,
            "kind": "click",
            "product_id": "P",
            "query": "a",
            "position": 1,
            "price_minor": 1,
        }
        for at, locale in enumerate(locales)
    ]
    return ShoppingLog.from_table(pa.Table.from_pylist(rows, EVENT_SCHEMA), ["P"])


def test_locales_have_the_numbers_that_the_model_knows() -> None:
    known = ["sv-SE", "en-US", "de-DE"]
    log = log_in("en-US", "sv-SE", "en-US").with_locales(known)
    assert [log.locales[number] for number in log.locale.tolist()] == ["en-US", "sv-SE", "en-US"]
    assert log.locales == known


def test_a_locale_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(LogError, match="events in fr-FR, which the model does not know; it knows en-US"):
        log_in("en-US", "fr-FR").with_locales(["en-US"])
