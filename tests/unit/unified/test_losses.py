from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.errors import DegenerateLoss
from models.events.kinds import CART, CLICK, IMPRESSION, PURCHASE
from models.unified.losses import (
    NegativeSets,
    finite_or_raise,
    hinge_loss,
    prefix_scores,
    softmax_loss,
    softmax_offsets,
    triplet_loss,
)
from models.unified.recipe import HingeTargets, LossWeights

TARGETS = HingeTargets()
ONE = torch.ones(1)
FIRST = torch.zeros(1, dtype=torch.int64)


def negatives(allowed: list[bool], *, hard: float = 0.0, hardest: int = 1) -> NegativeSets:
    return NegativeSets(torch.tensor([allowed]), torch.ones(len(allowed)), hard, hardest)


def hinge(scores: list[float], kind: int, threshold: Tensor, *, hard: float = 0.0) -> Tensor:
    allowed = [False] + [True] * (len(scores) - 1)
    sets = negatives(allowed, hard=hard)
    return hinge_loss(torch.tensor([scores]), FIRST, torch.tensor([kind]), threshold, TARGETS, sets, ONE)


def test_the_hinge_is_0_where_every_kind_is_on_its_side_of_the_threshold() -> None:
    at = torch.tensor(0.2)
    for kind, score in ((PURCHASE, 0.6), (CART, 0.55), (CLICK, 0.5), (IMPRESSION, 0.4)):
        assert hinge([score, 0.1, -0.5], kind, at).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("kind", "floor"), [(PURCHASE, 0.4), (CART, 0.35), (CLICK, 0.3), (IMPRESSION, 0.1)])
def test_each_kind_is_pulled_up_to_its_own_target(kind: int, floor: float) -> None:
    missed = hinge([0.2 + floor - 0.1, -1.0], kind, torch.tensor(0.2))
    assert missed.item() == pytest.approx(0.1**2, rel=1e-4)


def test_an_impression_that_was_passed_over_may_not_score_as_a_click() -> None:
    assert hinge([0.7, -1.0], IMPRESSION, torch.tensor(0.2)).item() == pytest.approx(0.2**2, rel=1e-4)
    assert hinge([0.7, -1.0], CLICK, torch.tensor(0.2)).item() == 0


def test_positives_pull_the_threshold_down_and_negatives_push_it_up() -> None:
    for scores, sign in (([0.0, -1.0], 1), ([1.0, 0.9], -1)):
        threshold = torch.tensor(0.2, requires_grad=True)
        hinge(scores, PURCHASE, threshold).backward()
        assert threshold.grad is not None
        assert math.copysign(1, threshold.grad.item()) == sign  # the step goes against it


def test_hard_negatives_count_beside_the_uniform_mean() -> None:
    at = torch.tensor(0.0)
    easy = hinge([1.0, 0.4, -1.0], PURCHASE, at).item()
    hard = hinge([1.0, 0.4, -1.0], PURCHASE, at, hard=1.0).item()
    assert easy == pytest.approx(0.5**2 / 2, rel=1e-4)
    assert hard == pytest.approx(0.5**2 / 2 + 0.5**2, rel=1e-4)


def test_a_column_that_is_not_allowed_costs_nothing_in_any_loss() -> None:
    allowed = torch.tensor([[False, True, False]])
    sets = NegativeSets(allowed, torch.ones(3), 1.0, 2)
    offsets = softmax_offsets(FIRST, allowed, torch.zeros(3))
    for loss in (
        lambda s: hinge_loss(s, FIRST, torch.tensor([CLICK]), torch.tensor(0.2), TARGETS, sets, ONE),
        lambda s: softmax_loss(s, FIRST, offsets, torch.tensor(10.0), ONE),
        lambda s: triplet_loss(s, FIRST, 0.2, sets, ONE),
    ):
        assert loss(torch.tensor([[0.5, 0.1, -1.0]])).item() == loss(torch.tensor([[0.5, 0.1, 1.0]])).item()


def test_the_softmax_is_the_cross_entropy_of_the_columns_that_count() -> None:
    scores = torch.tensor([[0.5, 0.2, 0.9]])
    offsets = softmax_offsets(FIRST, torch.tensor([[False, True, False]]), torch.zeros(3))
    found = softmax_loss(scores, FIRST, offsets, torch.tensor(10.0), ONE).item()
    assert found == pytest.approx(-math.log(math.exp(5) / (math.exp(5) + math.exp(2))), rel=1e-5)


def test_the_corrected_softmax_does_not_blame_a_product_for_being_drawn_often() -> None:
    """A column that is expected k times weighs as much as k columns, each expected once, of which one came."""
    scores = torch.tensor([[0.5, 0.2]])
    once = softmax_offsets(FIRST, torch.tensor([[False, True]]), torch.zeros(2))
    often = softmax_offsets(FIRST, torch.tensor([[False, True]]), torch.tensor([0.0, math.log(4.0)]))
    scale = torch.tensor(10.0)
    found = softmax_loss(scores, FIRST, often, scale, ONE).item()
    assert found == pytest.approx(-math.log(math.exp(5) / (math.exp(5) + math.exp(2) / 4)), rel=1e-5)
    assert found < softmax_loss(scores, FIRST, once, scale, ONE).item()


def test_the_triplet_is_how_far_a_negative_comes_within_the_margin() -> None:
    sets = negatives([False, True, True])
    far = triplet_loss(torch.tensor([[0.9, 0.1, 0.2]]), FIRST, 0.2, sets, ONE)
    near = triplet_loss(torch.tensor([[0.9, 0.8, 0.2]]), FIRST, 0.2, sets, ONE)
    assert far.item() == 0
    assert near.item() == pytest.approx(0.1 / 2, rel=1e-4)


def test_a_row_without_weight_does_not_count() -> None:
    scores = torch.tensor([[0.5, 0.2], [-0.5, 0.9]])
    positive = torch.zeros(2, dtype=torch.int64)
    offsets = softmax_offsets(positive, torch.tensor([[False, True]] * 2), torch.zeros(2))
    both = softmax_loss(scores, positive, offsets, torch.tensor(10.0), torch.tensor([1.0, 0.0]))
    first = softmax_loss(scores[:1], positive[:1], offsets[:1], torch.tensor(10.0), ONE)
    assert both.item() == pytest.approx(first.item())


def test_a_prefix_is_scored_as_a_unit_vector_of_its_own() -> None:
    a, b = torch.tensor([[0.6, 0.0, 0.8]]), torch.tensor([[0.8, 0.0, 0.6]])
    assert prefix_scores(a, b, 2).item() == pytest.approx(1.0)
    assert prefix_scores(a, b, 3).item() == pytest.approx(0.96)


def test_a_loss_that_is_no_number_and_a_collapse_stop_training() -> None:
    varied, same = torch.eye(4), torch.ones(4, 4) / 2
    finite_or_raise(torch.tensor(1.0), varied, 3)
    with pytest.raises(DegenerateLoss, match="step 3 is nan"):
        finite_or_raise(torch.tensor(float("nan")), varied, 3)
    with pytest.raises(DegenerateLoss, match="the same at step 3"):
        finite_or_raise(torch.tensor(1.0), same, 3)


def test_losses_that_weigh_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        LossWeights(0, 0, 0)
