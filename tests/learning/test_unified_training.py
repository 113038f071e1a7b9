"""Training is repeatable, can be interrupted, and what it writes is what serving loads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import load_file

from models.errors import DegenerateLoss, TrainingError
from models.events.event import EVENT_SCHEMA
from models.products.product import Product
from models.unified.batches import search_inputs
from models.unified.model_files import SEARCH_FILE, SPEC_FILE, VECTORS_FILE
from models.unified.recipe import UnifiedRecipe
from models.unified.saved_model import ProductEncoder, export_product_vectors
from models.unified.shopping_log import ShoppingLog
from models.unified.train_unified import Training, train_unified
from models.unified.training_data import TrainingData, prepare
from models.unified.unified_model import ModelError, Search, UnifiedModel
from models.unified.words import word_batch

if TYPE_CHECKING:
    from tests.learning.conftest import Planted

Silent = Callable[[str, int, int | None], None]
STEPS = 8


@pytest.fixture(scope="module")
def short(tiny_recipe: UnifiedRecipe) -> UnifiedRecipe:
    negatives = replace(tiny_recipe.negatives, dynamic_weight=0.5, dynamic_pool=200)
    return replace(tiny_recipe, max_steps=STEPS, negatives=negatives)


@pytest.fixture(scope="module")
def data(planted: Planted, short: UnifiedRecipe, tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return prepare(planted.table, planted.log, short, 0, tmp_path_factory.mktemp("cache"), lambda *_: None)


@pytest.fixture(scope="module")
def folder(planted: Planted, short: UnifiedRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "unified"
    train_unified(planted.table, planted.log, short, out, lambda *_: None)
    return out


def write_nothing(_name: str, _value: float, _step: int) -> None:
    """No logs."""


def weights(training: Training) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in training.network.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    data: TrainingData, short: UnifiedRecipe, tmp_path: Path, silent: Silent
) -> None:
    made = []
    for at, seed in enumerate((0, 0, 1)):
        training = Training(data, short, seed, tmp_path / f"{at}.pt", "cpu")
        training.run(silent, write_nothing)
        made.append(weights(training))
    assert same(made[0], made[1])
    assert not same(made[0], made[2])


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    data: TrainingData, short: UnifiedRecipe, tmp_path: Path, silent: Silent
) -> None:
    whole = Training(data, short, 0, tmp_path / "whole.pt", "cpu")
    whole.run(silent, write_nothing)

    class Interrupted(Exception):
        pass

    def stop_at_5(what: str, done: int, total: int | None) -> None:
        if what == "train" and done == 5:
            first.save()
            raise Interrupted

    first = Training(data, short, 0, tmp_path / "part.pt", "cpu")
    with pytest.raises(Interrupted):
        first.run(stop_at_5, write_nothing)
    second = Training(data, short, 0, tmp_path / "part.pt", "cpu")
    assert second.step == 5
    second.run(silent, write_nothing)
    assert same(weights(whole), weights(second))


def test_hard_negatives_are_mined_in_the_locales_that_asked(
    planted: Planted, short: UnifiedRecipe, tmp_path: Path, silent: Silent
) -> None:
    events = planted.events
    locales = pa.array(["en-US" if number % 2 else "de-DE" for number in range(len(events))])
    events = events.set_column(events.schema.get_field_index("locale"), "locale", locales.cast(pa.string()))
    log = ShoppingLog.from_table(events, [planted.table.id(row) for row in range(len(planted.table))])
    training = Training(prepare(planted.table, log, short, 0, tmp_path, silent), short, 0, tmp_path / "part.pt", "cpu")
    torch.nn.init.normal_(training.network.search.query.locale.weight, std=3.0)
    asked, hardest = training.batches.asked, training._hard_products()
    assert len(hardest) == len(asked.query)
    assert (hardest >= 0).all()
    both = [np.flatnonzero(asked.query == query) for query in np.unique(asked.query)]
    assert all(len(rows) == 2 for rows in both)
    assert any(set(hardest[one]) != set(hardest[other]) for one, other in both)
    training.batches.dynamic = hardest
    batch = training.batches.make(training.batches.steps - 1)
    _, rows = training.batches.rows(training.batches.steps - 1)
    assert set(hardest[asked.of_example[rows]].ravel()) <= set(batch.columns.products)


def test_words_of_later_queries_are_in_no_vocabulary(
    planted: Planted, short: UnifiedRecipe, tmp_path: Path, silent: Silent
) -> None:
    events = planted.events.to_pylist()
    cut = int(short.train_share * len(events))
    for at, event in enumerate(events):
        event["query"] += " early" if at < cut // 2 else " late" if at > cut + 10 else ""
    log = ShoppingLog.from_table(
        pa.Table.from_pylist(events, EVENT_SCHEMA), [planted.table.id(row) for row in range(len(planted.table))]
    )
    words = prepare(planted.table, log, short, 0, tmp_path, silent).vocabulary.words
    assert "early" in words
    assert "late" not in words


def test_a_checkpoint_of_another_recipe_is_not_gone_on_from(
    data: TrainingData, short: UnifiedRecipe, tmp_path: Path
) -> None:
    Training(data, short, 0, tmp_path / "part.pt", "cpu").save()
    other = Training(replace(data, fingerprint="other"), short, 0, tmp_path / "part.pt", "cpu")
    assert other.step == 0


def test_the_light_tower_is_the_network_to_1e_4(
    data: TrainingData, folder: Path, planted: Planted, short: UnifiedRecipe
) -> None:
    """Searches with and without history, and in a locale that training did not see."""
    model = UnifiedModel.load(folder)
    training = Training(data, short, 0, folder.parent / "none.pt", "cpu")
    training.network.load_state_dict(
        {name: torch.from_numpy(value) for name, value in load_file(folder / SEARCH_FILE).items()}, strict=False
    )
    rows = np.arange(0, len(data.examples), 40)
    examples = data.examples
    history = data.histories.before(examples.shopper[rows], examples.searched_ms[rows])
    locale = np.where(np.arange(len(rows)) % 5 == 0, 1, 0)  # there is one locale: 1 is any other
    inputs = search_inputs(history, locale, data.texts)
    texts = [data.queries.take(examples.query[rows]), data.texts.take(inputs.items)]
    with torch.inference_mode():
        bags = training.network.bags(word_batch(texts, data.buckets))
        expected = training.network.search(
            bags[: len(rows)],
            torch.from_numpy(inputs.locale),
            bags[len(rows) :],
            torch.from_numpy(inputs.slots),
            torch.ones(len(rows)),
        ).numpy()
    searches = [
        Search(
            planted.log.queries[examples.query[row]],
            "en-US" if known == 0 else "fr-FR",
            planted.history_before(model.bands, int(examples.shopper[row]), int(examples.searched_ms[row])),
        )
        for row, known in zip(rows.tolist(), locale.tolist(), strict=True)
    ]
    assert 0 < sum(not search.history for search in searches) < len(searches)
    np.testing.assert_allclose(model.search_vectors(searches), expected, atol=1e-4)


def test_strength_0_and_no_history_are_the_query_alone(folder: Path, planted: Planted) -> None:
    model = UnifiedModel.load(folder)
    history = planted.history_before(model.bands, int(planted.log.shopper[-1]), 10**13)
    known, unknown = Search("couch", "en-US", history), Search("couch", "en-US")
    alone = model.tower.encode_queries([("couch", "en-US")])
    np.testing.assert_array_equal(model.search_vectors([known], strength=0), alone)
    np.testing.assert_array_equal(model.search_vectors([unknown]), alone)
    full, half = model.search_vectors([known]), model.search_vectors([known], strength=0.5)
    assert full @ alone.T < half @ alone.T < 1
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([full, half, alone]), axis=1), 1, atol=1e-5)


def test_empty_and_odd_texts_are_answered(folder: Path) -> None:
    vectors = UnifiedModel.load(folder).search_vectors(
        [Search(""), Search("!?"), Search("沙发 🛋️"), Search("x" * 10_000)]
    )
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_exported_vectors_are_those_written_at_training_and_new_products_get_theirs(
    folder: Path, planted: Planted, tmp_path: Path, silent: Silent
) -> None:
    written = np.load(folder / VECTORS_FILE)
    again = export_product_vectors(folder, planted.table, tmp_path / "vectors.npy", silent)
    np.testing.assert_allclose(again.astype(np.float32), written.astype(np.float32), atol=2e-3)
    known = planted.table.product(0)
    new = Product("never seen", known.title, known.brand, known.category, known.price_minor)
    vectors = ProductEncoder(folder).encode([known, new])
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[0], written[0].astype(np.float32), atol=2e-3)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)  # no signals, no id
    assert vectors[0] @ vectors[1] > 0.3  # yet the same text, brand and category


def test_a_degenerate_loss_stops_training(
    data: TrainingData, short: UnifiedRecipe, tmp_path: Path, silent: Silent
) -> None:
    training = Training(data, short, 0, tmp_path / "c.pt", "cpu")
    with torch.no_grad():
        training.network.log_scale.fill_(float("nan"))
    with pytest.raises(DegenerateLoss, match="step 0"):
        training.run(silent, write_nothing)


def test_an_existing_folder_is_not_written_over(planted: Planted, short: UnifiedRecipe, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="exists"):
        train_unified(planted.table, planted.log, short, tmp_path, lambda *_: None)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no unified model"):
        UnifiedModel.load(tmp_path)
    (tmp_path / SPEC_FILE).write_text('{"format_version": 99}')
    with pytest.raises(ModelError, match="99 is not 2"):
        UnifiedModel.load(tmp_path)
