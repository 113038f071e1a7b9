from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from models.errors import DegenerateLoss
from models.text_tuning.click_stage import (
    PairBatch,
    click_loss,
    draw_pairs,
    positive_mask,
    positive_products,
)
from models.text_tuning.encoder_network import TokenTable, chunks_by_length
from models.text_tuning.hard_negatives import bm25_negatives, near_negatives
from models.text_tuning.mlm_recipe import MlmStage
from models.text_tuning.mlm_stage import Vocabulary, mask_tokens
from models.text_tuning.recipe import ClickStage, HardNegatives, Stage, Variant
from models.text_tuning.stages import rate_at, run_stage
from models.unified.words import Ragged


def units(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def batch_of(positive: list[int], wanted: list[list[bool]]) -> PairBatch:
    rows, columns = len(positive), len(wanted[0])
    return PairBatch(np.arange(rows), np.arange(columns), np.array(positive), np.array(wanted))


# ---- the loss


def test_what_the_query_led_to_is_no_negative_of_it() -> None:
    queries, products = units(1, 8), units(3, 8, seed=1)
    scores = (queries @ products.T)[0]
    loss = click_loss(queries, products, batch_of([1], [[True, True, False]]), torch.tensor(10.0), (), both_ways=False)
    expected = -torch.log_softmax(10 * scores[1:], dim=0)[0]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_way_back_spares_queries_that_led_to_the_product_too() -> None:
    queries, products = units(3, 8), units(2, 8, seed=1)
    # Rows 0 and 1 both led to column 0, so of either the other is no negative: only row 2 is.
    batch = batch_of([0, 0, 1], [[True, False], [True, False], [False, True]])
    one, both = (click_loss(queries, products, batch, torch.tensor(10.0), (), both_ways=way) for way in (False, True))
    scores = 10 * queries @ products.T
    back = [
        -torch.log_softmax(scores[[0, 2], 0], 0)[0],
        -torch.log_softmax(scores[[1, 2], 0], 0)[0],
        -torch.log_softmax(scores[[2, 0, 1], 1], 0)[0],
    ]
    assert 2 * both.item() - one.item() == pytest.approx(torch.stack(back).mean().item(), rel=1e-4)


def test_every_prefix_counts_as_much_as_the_whole() -> None:
    queries, products = units(4, 8), units(4, 8, seed=1)
    batch = batch_of(list(range(4)), np.eye(4, dtype=bool).tolist())

    def loss(q: torch.Tensor, p: torch.Tensor, prefixes: tuple[int, ...]) -> float:
        return click_loss(q, p, batch, torch.tensor(10.0), prefixes, both_ways=False).item()

    short = loss(F.normalize(queries[:, :3], dim=1), F.normalize(products[:, :3], dim=1), ())
    assert loss(queries, products, (3,)) == pytest.approx((short + loss(queries, products, ())) / 2, rel=1e-5)
    assert loss(queries, products, (8,)) == pytest.approx(loss(queries, products, ()), rel=1e-6)


# ---- what is drawn


def test_pairs_are_drawn_as_often_as_they_weigh() -> None:
    weight = np.array([1.0, 2.0, 1.0, 4.0])
    assert np.bincount(draw_pairs(weight, 800, np.random.default_rng(0))).tolist() == [100, 200, 100, 400]
    few = np.bincount(draw_pairs(weight, 5, np.random.default_rng(1)), minlength=4)
    assert (np.abs(few - 5 * weight / 8) < 1).all()


def test_even_pairs_come_once_before_any_comes_twice() -> None:
    assert sorted(draw_pairs(np.ones(50), 50, np.random.default_rng(3)).tolist()) == list(range(50))


def test_kin_of_what_was_clicked_is_wanted_too() -> None:
    clicked = Ragged.from_rows([[0], [2, 3], []])
    kin = np.array([0, 0, 1, 2, 1], np.int32)
    wanted = positive_products(clicked, kin)
    assert [wanted.row(group).tolist() for group in range(3)] == [[0, 1], [2, 3, 4], []]


def test_wanted_columns_are_found_among_the_batchs_products() -> None:
    found = positive_mask(np.array([1, 4, 7]), Ragged.from_rows([[0, 4], [9], [1, 7]]))
    assert found.tolist() == [[False, True, False], [False, False, False], [True, False, True]]


def test_texts_are_padded_together_with_those_of_their_length() -> None:
    chunks = chunks_by_length(np.array([9, 2, 8, 3]), 2)
    assert [chunk.tolist() for chunk in chunks] == [[1, 3], [2, 0]]
    padded = TokenTable(Ragged.from_rows([[5, 6, 7], [], [8]]), 1).padded(np.array([2, 0, 1]))
    assert padded.ids.tolist() == [[8, 1, 1], [5, 6, 7], [1, 1, 1]]
    assert padded.mask.tolist() == [[1, 0, 0], [1, 1, 1], [1, 0, 0]]


# ---- hard negatives


def test_hard_negatives_are_near_but_not_wanted_nor_nearer_than_what_is() -> None:
    queries = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    angles = np.array([0.0, 0.3, 0.5, 1.5])
    products = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    pool = np.array([10, 20, 30, 40])
    found = near_negatives(
        queries, products, pool, Ragged.from_rows([[20], []]), HardNegatives(nearest=3, ceiling=0.95)
    )
    # Product 20 is the positive of query 0: 10 scores higher, so it is taken for a positive too. Query 1 has no positive in the pool.
    assert sorted(found[0].tolist()) == [-1, 30, 40]
    assert sorted(found[1].tolist()) == [10, 20, 30]


def test_a_pool_of_wanted_products_gives_no_hard_negatives() -> None:
    queries = products = np.array([[1.0, 0.0]], np.float32)
    assert near_negatives(queries, products, np.array([5]), Ragged.from_rows([[5]]), HardNegatives()).tolist() == [[-1]]


def test_bm25_negatives_share_words_with_the_query_and_were_not_clicked() -> None:
    texts = ["velvet sofa red", "velvet sofa blue", "oak table"]
    found = bm25_negatives(["velvet sofa"], texts, np.array([3, 5, 8]), Ragged.from_rows([[5]]), 2)
    assert found.tolist() == [[3, -1]]


# ---- masks


def test_the_chosen_share_is_masked_and_special_tokens_never_are() -> None:
    ids = torch.full((200, 50), 7)
    ids[:, 0], ids[:, -1] = 1, 2
    masked = mask_tokens(ids, torch.ones_like(ids), Vocabulary(1000, 4, (0, 1, 2)), 0.15, np.random.default_rng(0))
    assert masked.chosen[:, 1:-1].float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert not masked.chosen[:, [0, -1]].any()
    assert (masked.targets == 7).all()
    written = masked.ids[masked.chosen]
    assert (written == 4).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert (written == 7).float().mean().item() == pytest.approx(0.1, abs=0.03)
    assert torch.equal(masked.ids[~masked.chosen], ids[~masked.chosen])


def test_at_least_one_token_is_guessed() -> None:
    ids = torch.tensor([[1, 7, 2]])
    masked = mask_tokens(ids, torch.ones_like(ids), Vocabulary(9, 4, (1, 2)), 1e-9, np.random.default_rng(0))
    assert masked.chosen.tolist() == [[False, True, False]]
    padding = mask_tokens(ids, torch.zeros_like(ids), Vocabulary(9, 4, (1, 2)), 0.5, np.random.default_rng(0))
    assert not len(padding.targets)


# ---- the loop


class Line:
    """Learns one number; the loss is no number at step `breaks`."""

    name = "line"
    steps = 20
    learning_rate = 0.1

    def __init__(self, breaks: int = -1) -> None:
        self.network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(self.network.weight, 3.0)
        self._breaks = breaks

    def learn(self, step: int) -> float:
        loss = (self.network(torch.ones(1, 1)) ** 2).sum()
        loss.backward()
        return float("nan") if step == self._breaks else float(loss.item())


def test_a_loss_that_is_no_number_stops_with_its_stage_and_step(tmp_path: Path) -> None:
    with pytest.raises(DegenerateLoss, match="stage line: the loss at step 7 is nan; lower its learning_rate"):
        run_stage(Line(breaks=7), "key", tmp_path / "line.pt", 0.0, lambda *_: None, lambda *_: None)


def test_losses_fall_and_are_told_with_their_steps(tmp_path: Path) -> None:
    points = run_stage(Line(), "key", tmp_path / "line.pt", 0.0, lambda *_: None, lambda *_: None)
    assert [point.step for point in points] == list(range(1, 21))
    assert points[-1].loss < points[0].loss == 9.0


def test_the_rate_rises_then_falls_to_nearly_nothing() -> None:
    rates = [rate_at(1.0, step, 100) for step in range(100)]
    assert np.argmax(rates) in (9, 10)
    assert rates[0] == pytest.approx(0.1)
    assert 0 < rates[-1] < 0.02


# ---- recipes


def test_a_variant_says_which_stages_it_is_made_by() -> None:
    assert Variant.GENERAL.stages == Variant.RAW.stages == ()
    assert Variant.CLICK.stages == (Stage.CLICK,)
    assert Variant("mlm+click").stages == (Stage.MLM, Stage.CLICK)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ClickStage(batch=1), "batch"),
        (lambda: ClickStage(temperature=0), "temperature"),
        (lambda: ClickStage(prefixes=(64, 32)), "prefixes"),
        (lambda: MlmStage(steps=0), "steps"),
        (lambda: MlmStage(steps=1, masked=1.0), "masked"),
        (lambda: HardNegatives(each=3, nearest=2), "nearest"),
        (lambda: HardNegatives(source="dice"), "'dice'"),  # type: ignore[arg-type]
    ],
)
def test_a_recipe_outside_its_limits_is_refused_by_name(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()
