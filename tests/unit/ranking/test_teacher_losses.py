from __future__ import annotations

import numpy as np
import pytest
import torch

from models.ranking.impressions import Impressions
from models.ranking.recipe import Transfer, Weighting
from models.ranking.teacher.learners import PageOrder, take_pages
from models.ranking.teacher.losses import listwise_loss, log_probabilities, pointwise_loss, weigh_tasks
from models.ranking.teacher.network import TeacherHead, gate_entropies
from models.ranking.teacher.probabilities import Calibration, nested_probabilities
from models.ranking.teacher.recipe import Objective, PageSample, TeacherRecipe
from models.ranking.teacher.samples import draw_sample, split_pages
from models.ranking.teacher.spec import HeadSizes

CHAIN, NONE = Transfer.CHAIN, Transfer.NONE


def impressions(num_pages: int = 400, shown: int = 12, seed: int = 0) -> Impressions:
    """A fifth of the pages has a click, of which half is bought."""
    random = np.random.default_rng(seed)
    labels = np.zeros((num_pages, shown, 3), np.float32)
    for page in np.flatnonzero(random.random(num_pages) < 0.2):
        labels[page, random.integers(shown), : random.choice([1, 3])] = 1
    return Impressions(
        page=np.repeat(np.arange(num_pages), shown),
        product=np.tile(np.arange(shown), num_pages),
        position=np.tile(np.arange(1, shown + 1), num_pages),
        labels=labels.reshape(-1, 3),
        queries=["q"] * num_pages,
        locales=["en-US"] * num_pages,
        time_ms=np.arange(num_pages),
        shopper=np.zeros(num_pages, np.int32),
        is_anonymous=np.zeros(num_pages, np.bool_),
        histories=[[]] * num_pages,
    )


# ---- losses


def test_a_chain_multiplies_and_its_logs_are_exact_at_both_ends() -> None:
    logits = torch.tensor([[20.0, 15.0, 10.0], [-20.0, -3.0, 0.5], [0.3, -0.2, 1.0]], requires_grad=True)
    chances = log_probabilities(logits, CHAIN)
    expected = torch.sigmoid(logits.detach().double()).cumprod(dim=1)
    assert torch.allclose(chances.yes.double(), expected.log(), atol=1e-4)
    assert torch.allclose(chances.no.double()[1:], torch.log1p(-expected)[1:], rtol=1e-3, atol=1e-9)
    (chances.yes + chances.no).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_weights_count_as_repeated_rows() -> None:
    logits, labels = torch.randn(3, 3), torch.tensor([[1.0, 1, 0], [0, 0, 0], [1, 0, 0]])
    weighted = pointwise_loss(log_probabilities(logits, NONE), labels, torch.tensor([1.0, 3.0, 1.0]))
    rows = torch.tensor([0, 1, 1, 1, 2])
    repeated = pointwise_loss(log_probabilities(logits[rows], NONE), labels[rows], torch.ones(5))
    assert torch.allclose(weighted, repeated)


def test_a_row_stands_for_many_in_the_choice_of_a_page() -> None:
    scores = torch.tensor([[2.0], [0.5]]).expand(2, 3)
    labels = torch.tensor([[1.0, 1, 1], [0, 0, 0]])
    few = listwise_loss(log_probabilities(scores, NONE), labels, torch.tensor([0, 0]), 1, torch.tensor([1.0, 4.0]))
    rows = torch.tensor([0, 1, 1, 1, 1])
    many = listwise_loss(
        log_probabilities(scores[rows], NONE), labels[rows], torch.zeros(5, dtype=torch.int64), 1, torch.ones(5)
    )
    assert torch.allclose(few, many)


def test_pages_without_the_task_do_not_count_for_it() -> None:
    scores, page = torch.tensor([[1.0], [0.0], [9.0], [0.0]]).expand(4, 3), torch.tensor([0, 0, 1, 1])
    labels = torch.tensor([[1.0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    losses = listwise_loss(log_probabilities(scores, NONE), labels, page, 2, torch.ones(4))
    expected = -torch.log_softmax(torch.tensor([1.0, 0.0]), 0)[0].item()
    assert losses.tolist() == pytest.approx([expected, expected, 0.0], abs=1e-6)


def test_a_task_of_weight_zero_teaches_nothing() -> None:
    for weighting in Weighting:
        losses, variances = torch.tensor([1.0, 2.0, 4.0]), torch.zeros(3, requires_grad=True)
        total = weigh_tasks(losses, Objective(weighting, (1.0, 0.0, 0.5)), variances)
        assert total.item() == pytest.approx(3.0)
        if weighting == Weighting.UNCERTAINTY:
            total.backward()
            assert variances.grad is not None
            assert variances.grad[1].item() == 0


# ---- the head


def test_the_text_adds_nothing_before_it_has_learned() -> None:
    torch.manual_seed(0)
    head = TeacherHead(8, 4, HeadSizes(dropout=0)).eval()
    features = torch.randn(5, 4)
    assert torch.equal(head(torch.randn(5, 8), features, None).logits, head(None, features, None).logits)


def test_a_feature_that_never_changed_is_ignored() -> None:
    head = TeacherHead(8, 2, HeadSizes(dropout=0)).eval()
    head.observe(torch.tensor([[1.0, 7.0], [2.0, 7.0]]), torch.tensor([1, 2]))
    one, other = (head(None, torch.tensor([[1.5, value]]), None).logits for value in (7.0, -300.0))
    assert torch.equal(one, other)


def test_without_a_position_the_usual_one_is_taken() -> None:
    head = TeacherHead(8, 1, HeadSizes(dropout=0)).eval()
    head.observe(torch.randn(4, 1), torch.tensor([1, 1, 1, 500]))
    head.positions.data[1], head.positions.data[-1] = 4.0, -4.0
    features = torch.zeros(1, 1)
    of_first, usual = (head(None, features, at).logits for at in (torch.tensor([1]), None))
    assert torch.allclose(of_first - usual, torch.full((1, 3), 2.0), atol=1e-5)


def test_gates_that_ask_all_experts_alike_have_entropy_one() -> None:
    gates = torch.tensor([[[0.5, 0.5], [1.0, 0.0], [0.5, 0.5]]])
    assert gate_entropies(gates) == {"click": 1.0, "cart": 0.0, "purchase": 1.0}


# ---- what is learned on


def test_weights_undo_the_draw() -> None:
    shown = impressions()
    pages = np.arange(shown.num_pages)
    sample = draw_sample(shown, PageSample(pages=100, others=3), seed=1, among=pages)
    assert sample.num_pages == 100
    assert len(sample.rows) < len(shown) / 8
    assert sample.weight.sum() == pytest.approx(len(shown), rel=1e-3)
    labels = shown.labels[sample.rows]
    assert (sample.weight[:, None] * labels).sum(axis=0) == pytest.approx(shown.labels.sum(axis=0), rel=1e-3)


def test_all_that_was_engaged_with_is_in_its_page() -> None:
    shown = impressions()
    sample = draw_sample(shown, PageSample(pages=100, others=1), 1, np.arange(shown.num_pages))
    pages = np.unique(shown.page[sample.rows])
    rows = np.flatnonzero(np.isin(shown.page, pages) & (shown.labels[:, 0] > 0))
    assert np.isin(rows, sample.rows).all()
    assert len(np.unique(sample.rows)) == len(sample.rows)


def test_no_page_is_learned_from_that_is_held_out() -> None:
    learned, held = split_pages(10, 0.1, seed=0)
    assert sorted([*learned.tolist(), *held.tolist()]) == list(range(10))
    sample = draw_sample(impressions(10), PageSample(pages=None, others=None), 0, learned)
    assert not set(np.unique(impressions(10).page[sample.rows])) & set(held.tolist())
    with pytest.raises(ValueError, match="1 pages; two are the least"):
        split_pages(1, 0.1, 0)


def test_an_epoch_has_every_page_once_and_steps_can_be_asked_in_any_order() -> None:
    order = PageOrder(10, 4, seed=3)
    steps = [order.pages(step).tolist() for step in range(5)]
    both = [page for step in steps for page in step]
    assert sorted(both[:10]) == sorted(both[10:]) == list(range(10))
    assert PageOrder(10, 4, seed=3).pages(3).tolist() == steps[3]


def test_a_batch_numbers_its_pages_anew() -> None:
    shown = impressions(20)
    sample = draw_sample(shown, PageSample(pages=None, others=2), 0, np.arange(20))
    batch = take_pages(sample, sample.offsets, np.array([5, 2]))
    assert np.unique(batch.page).tolist() == [0, 1]
    assert set(shown.page[batch.rows[batch.page == 0]]) == set(shown.page[sample.rows[sample.page == 5]])


# ---- probabilities


def test_calibration_finds_what_was_done_to_the_logits() -> None:
    random = np.random.default_rng(0)
    true = random.normal(0, 2, (20_000, 3))
    single = random.random(true.shape) < 1 / (1 + np.exp(-true))
    labels = np.cumprod(single, axis=1).astype(np.float32)
    found = Calibration.fit((true * 2 + 1).astype(np.float32), labels, np.ones(len(true), np.float32), CHAIN)
    assert found.scales == pytest.approx((0.5, 0.5, 0.5), abs=0.05)
    assert found.shifts == pytest.approx((-0.5, -0.5, -0.5), abs=0.12)


def test_with_few_labels_logits_stay_as_they_are() -> None:
    labels = np.zeros((50, 3), np.float32)
    labels[:4] = 1
    found = Calibration.fit(np.random.default_rng(0).normal(size=(50, 3)), labels, np.ones(50, np.float32), NONE)
    assert found == Calibration()


@pytest.mark.parametrize("transfer", list(Transfer))
def test_chances_are_nested_whatever_the_logits(transfer: Transfer) -> None:
    logits = np.random.default_rng(0).normal(0, 9, (200, 3)).astype(np.float32)
    chances = nested_probabilities(logits, transfer, Calibration((0.3, 2.0, 1.0), (-4.0, 5.0, 0.0)))
    assert (np.diff(chances, axis=1) <= 0).all()
    assert ((chances >= 0) & (chances <= 1)).all()


# ---- recipes


def test_recipes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="use_features or use_text"):
        TeacherRecipe("x", use_features=False, use_text=False)
    with pytest.raises(ValueError, match="pages must be 8 or more and others 1 or more, not 3, 4"):
        PageSample(pages=3)
    with pytest.raises(ValueError, match="pointwise or listwise"):
        Objective(pointwise=0, listwise=0)
    with pytest.raises(ValueError, match="experts must be 1 or more, not 0"):
        HeadSizes(experts=0)
