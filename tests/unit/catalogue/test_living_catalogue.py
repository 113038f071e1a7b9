"""The living catalogue says what a dictionary says, whatever happens to it; `tests.faults.catalogue_model` has the operations."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.products.product import Product
from serving.compute.filter_masks import FilterMasks
from tests.faults.catalogue_model import Failure, ModelTest, Upserts

NUM_SEEDS = 5
NUM_OPERATIONS = 2_000  # of each seed
SHRINK_S = 120.0


@pytest.fixture(scope="module")
def model(exported_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelTest:
    return ModelTest(tmp_path_factory.mktemp("model"), exported_encoder)


@pytest.mark.parametrize("seed", range(NUM_SEEDS))
def test_the_catalogue_says_what_a_dictionary_says(model: ModelTest, seed: int) -> None:
    failure = model.run_seed(seed, NUM_OPERATIONS)
    if failure:
        shrunk = model.shrink(failure, SHRINK_S)
        pytest.fail(f"seed {seed}: {shrunk}")


def test_a_fault_is_found_and_shrunk_to_what_it_takes(model: ModelTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FilterMasks, "remove", lambda _self, _removed: None)
    failure = model.run_seed(1, 500)
    assert failure
    shrunk = model.shrink(failure, SHRINK_S)
    assert len(shrunk.operations) <= 4


def test_the_words_of_a_failure_can_be_read() -> None:
    operation = Upserts((Product("P-1", "oak", in_stock=False),))
    said = str(Failure((operation,), AssertionError("no")))
    assert said.endswith("1. Upserts(products=(Product(id='P-1', title='oak', in_stock=False),))")
