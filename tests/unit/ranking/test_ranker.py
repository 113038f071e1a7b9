"""The served ranker computes the network's probabilities, nested and calibrated, explains them, and refuses invalid input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from models.query_types.calibration import Calibration
from models.ranking.feature_names import FEATURES
from models.ranking.losses import listwise_loss, pointwise_loss, softened, uncertainty_weighted
from models.ranking.network import MAX_POSITION, RankerNetwork
from models.ranking.ranker import Ranker, RankerError, Scaling, blend, shapes
from models.ranking.recipe import RankerRecipe, Structure, Transfer

TINY = RankerRecipe("tiny", experts=3, expert_dim=5, tower_dim=4)
COUNT = len(FEATURES)
FOUND = np.random.default_rng(0).normal(size=(40, COUNT)).astype(np.float32)


def make_network(recipe: RankerRecipe = TINY, count: int = COUNT) -> RankerNetwork:
    torch.manual_seed(0)
    network = RankerNetwork(count, recipe)
    for layer in (network.skip, *network.heads):
        torch.nn.init.normal_(layer.weight, std=0.3)
    if network.carry is not None:
        network.carry.data[:] = torch.tensor([0.1, -0.05])
    return network.eval()


def make_ranker(recipe: RankerRecipe = TINY, calibration: Calibration | None = None) -> Ranker:
    return Ranker(recipe, make_network(recipe).arrays(), Scaling.fit(FOUND), [calibration or Calibration()] * 3)


@pytest.mark.parametrize("structure", Structure)
@pytest.mark.parametrize("transfer", Transfer)
def test_the_served_ranker_tells_the_networks_chances(structure: Structure, transfer: Transfer) -> None:
    recipe = replace(TINY, structure=structure, transfer=transfer)
    network, ranker = make_network(recipe), make_ranker(recipe)
    with torch.inference_mode():
        inputs = torch.from_numpy(Scaling.fit(FOUND).apply(FOUND))
        told = network.log_probabilities(network(inputs, torch.zeros(len(FOUND), dtype=torch.long))).exp().numpy()
    assert np.allclose(ranker.probabilities(FOUND), np.minimum.accumulate(told, axis=1), atol=1e-5)


def test_a_chain_multiplies_the_chances_of_its_steps() -> None:
    logits = torch.tensor([[0.0, 0.0, np.log(3.0)]])  # 1/2, 1/2 of those, 3/4 of those
    network = make_network()
    assert network.log_probabilities(logits).exp().tolist()[0] == pytest.approx([0.5, 0.25, 0.1875])
    network.recipe = replace(TINY, transfer=Transfer.NONE)
    assert network.log_probabilities(logits).exp().tolist()[0] == pytest.approx([0.5, 0.5, 0.75])


def test_a_later_step_of_a_chain_carries_the_one_before_it_but_not_its_position() -> None:
    network = make_network()
    network.carry.data[:] = torch.tensor([0.4, 0.1])  # type: ignore[union-attr]  # a fifth of what is carried
    own, unknown = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([0])
    assert network.logits(own, unknown).tolist()[0] == pytest.approx([1, 2 + 2 * 1, 3 + 0.5 * 4])
    network.position.weight.data[7] = torch.tensor([1.0, 0.0, 0.0])
    assert network.logits(own, torch.tensor([7])).tolist()[0] == pytest.approx([2, 4, 5])


@pytest.mark.parametrize("transfer", Transfer)
def test_chances_are_nested_whatever_the_calibration(transfer: Transfer) -> None:
    ranker = make_ranker(replace(TINY, transfer=transfer))
    skewed = ranker.calibrated([Calibration(1, -3, 0.5), Calibration(2, 0), Calibration(0.5, 4)])
    chances = skewed.probabilities(FOUND)
    assert (np.diff(chances, axis=1) <= 0).all()
    assert ((chances >= 0) & (chances <= 1)).all()


def test_extreme_features_give_chances_all_the_same() -> None:
    chances = make_ranker().probabilities(np.array([[1e30] * COUNT, [-1e30] * COUNT], np.float32))
    assert np.isfinite(chances).all()


def test_a_feature_that_never_changed_has_no_say() -> None:
    constant = FOUND.copy()
    constant[:, 3] = 7
    scaling = Scaling.fit(constant)
    assert (scaling.apply(FOUND)[:, 3] == 0).all()
    assert scaling.apply(constant)[:, 2].std() == pytest.approx(1, abs=1e-4)


def test_what_is_not_known_counts_as_the_mean() -> None:
    ranker, usual, unknown = make_ranker(), FOUND.copy(), FOUND.copy()
    usual[:20, 2] = Scaling.fit(FOUND).mean[2]
    unknown[:20, 2] = np.nan
    assert np.allclose(ranker.probabilities(unknown), ranker.probabilities(usual), atol=1e-6)
    assert np.allclose(ranker.explain(unknown), ranker.explain(usual), atol=1e-5)
    assert not ranker.explain(unknown)[:20, 2].any()
    assert np.isnan(unknown[:20, 2]).all()  # the caller's array stays as it was
    assert np.isfinite(ranker.probabilities(np.full((2, COUNT), np.nan, np.float32))).all()


def test_many_candidates_are_as_few() -> None:
    for structure in Structure:
        ranker = make_ranker(replace(TINY, structure=structure))
        many = np.tile(FOUND, (40, 1))  # more than are computed at once
        assert np.allclose(ranker.probabilities(many), np.tile(ranker.probabilities(FOUND), (40, 1)), atol=1e-6)


def test_candidates_are_told_apart_from_their_batch() -> None:
    ranker = make_ranker()
    alone = np.concatenate([ranker.probabilities(FOUND[at : at + 1]) for at in range(len(FOUND))])
    assert np.allclose(alone, ranker.probabilities(FOUND), atol=1e-6)
    assert ranker.probabilities(FOUND[:0]).shape == (0, 3)


def test_a_blend_weighs_the_chances() -> None:
    chances = np.array([[0.5, 0.2, 0.1], [0.9, 0.1, 0.0]], np.float32)
    assert blend(chances, (1, 2, 10)).tolist() == pytest.approx([1.9, 1.1])
    assert blend(chances, (1, 0, 0)).argmax() == 1
    for weights in ((0, 0, 0), (1, -1, 0), (1, float("nan"), 0), (1, 2)):
        with pytest.raises(ValueError, match="weights of click, cart, purchase must be 3 numbers"):
            blend(chances, weights)


def test_an_explanation_is_what_the_blend_loses_without_the_feature() -> None:
    ranker, weights = make_ranker(), (1.0, 2.0, 3.0)
    parts = ranker.explain(FOUND[:5], weights)
    assert parts.shape == (5, COUNT)
    without = FOUND[:5].copy()
    without[:, 4] = Scaling.fit(FOUND).mean[4]
    lost = blend(ranker.probabilities(FOUND[:5]), weights) - blend(ranker.probabilities(without), weights)
    assert np.allclose(parts[:, 4], lost, atol=1e-5)
    usual = Scaling.fit(FOUND).mean[None]
    assert np.allclose(ranker.explain(usual, weights), 0, atol=1e-5)


def test_the_wrong_number_of_features_is_refused() -> None:
    with pytest.raises(ValueError, match=rf"features must be \(candidates, {COUNT}\), not 2 x 3"):
        make_ranker().probabilities(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("structure", Structure)
def test_a_saved_ranker_is_the_same_when_loaded(structure: Structure, tmp_path: Path) -> None:
    ranker = make_ranker(replace(TINY, structure=structure), Calibration(0.7, -1.0, 0.9))
    ranker.save(tmp_path / "ranker")
    loaded = Ranker.load(tmp_path / "ranker")
    assert np.array_equal(loaded.probabilities(FOUND), ranker.probabilities(FOUND))
    assert (loaded.features, loaded.recipe, loaded.calibration) == (FEATURES, ranker.recipe, ranker.calibration)


def edited(folder: Path, **changes: object) -> Path:
    make_ranker().save(folder)
    path = folder / "ranker.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ((*FEATURES[:-1], "moon_phase"), f"reads moon_phase, which are not computed; it does not read {FEATURES[-1]}"),
        (FEATURES[1:], f"does not read {FEATURES[0]}"),
        (FEATURES[::-1], "the same in another order"),
    ],
)
def test_a_ranker_of_other_features_is_refused_by_what_differs(
    tmp_path: Path, features: tuple[str, ...], said: str
) -> None:
    with pytest.raises(RankerError, match=said):
        Ranker.load(edited(tmp_path, features=features))


def test_what_is_no_ranker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RankerError, match="holds no ranker"):
        Ranker.load(tmp_path)
    with pytest.raises(RankerError, match="format version 9 is not 4"):
        Ranker.load(edited(tmp_path / "old", format_version=9))
    with pytest.raises(RankerError, match="is damaged"):
        Ranker.load(edited(tmp_path / "damaged", recipe={"name": "x"}))
    with pytest.raises(RankerError, match="calibration of 0 tasks"):
        Ranker.load(edited(tmp_path / "raw", calibration=[]))
    folder = edited(tmp_path / "cut")
    weights = load_file(folder / "ranker.safetensors")
    save_file(weights | {"heads.bias": np.zeros(2, np.float32)}, folder / "ranker.safetensors")
    with pytest.raises(
        RankerError, match=r"heads.bias has shape \(2,\) in ranker.safetensors, and \(3,\) by ranker.json"
    ):
        Ranker.load(folder)
    save_file({n: v for n, v in weights.items() if n != "gates.bias"}, folder / "ranker.safetensors")
    with pytest.raises(RankerError, match=r"gates.bias is in ranker.json and not in ranker.safetensors"):
        Ranker.load(folder)


@pytest.mark.parametrize("structure", Structure)
def test_what_a_network_gives_has_the_shapes_that_are_loaded(structure: Structure) -> None:
    recipe = replace(TINY, structure=structure)
    given = {name: value.shape for name, value in make_network(recipe).arrays().items()}
    assert given | {"scaling.mean": (COUNT,), "scaling.deviation": (COUNT,)} == shapes(recipe, COUNT)


def test_a_position_adds_to_the_logits_alone_and_nothing_where_it_is_not_known() -> None:
    network = make_network()
    network.start_at(np.array([0.2, 0.1, 0.05]), np.array([1, 4, 0]))  # the usual depth is that of the second place
    with torch.no_grad():
        network.fall.fill_(0.1)
    inputs = torch.from_numpy(FOUND[:3])
    first, second, eighth, unknown = (network(inputs, torch.full((3,), place)) for place in (1, 2, 8, 0))
    assert torch.allclose(second, unknown, atol=1e-5)
    assert (eighth - first).detach().numpy() == pytest.approx(np.full((3, 3), -np.log(8)), abs=1e-4)
    odds = torch.from_numpy(network.position_odds())
    assert odds.shape == (MAX_POSITION + 1, 3)
    assert torch.allclose(network(inputs, torch.full((3,), 999)) - unknown, odds[MAX_POSITION], atol=1e-5)


def test_an_untrained_network_tells_the_usual_chances() -> None:
    torch.manual_seed(0)
    for transfer in Transfer:
        network = RankerNetwork(COUNT, replace(TINY, transfer=transfer)).eval()
        network.start_at(np.array([0.2, 0.1, 0.05]), np.array([1, 2]))
        told = network.log_probabilities(
            network(torch.from_numpy(FOUND), torch.zeros(len(FOUND), dtype=torch.long))
        ).exp()
        assert told.detach().numpy() == pytest.approx(np.tile([0.2, 0.1, 0.05], (len(FOUND), 1)), abs=1e-5)


def test_losses_by_hand() -> None:
    chances = torch.tensor([[0.5, 0.25], [0.5, 0.75]])
    wanted = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert pointwise_loss(chances.log(), wanted).tolist() == pytest.approx([np.log(2), -np.log(0.75)])
    # Of the first page both of two alike were clicked; the second task meant the likelier one. Nothing came of the second page.
    scores = torch.tensor([[0.0, 0.0], [0.0, float(np.log(3))], [5.0, 5.0]])
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = listwise_loss(scores, labels, torch.tensor([0, 0, 1]))
    assert found.tolist() == pytest.approx([2 * np.log(2) / 2, -np.log(0.75) / 2])
    assert listwise_loss(scores, 0 * labels, torch.tensor([0, 0, 1])).tolist() == [0, 0]
    assert pointwise_loss(torch.zeros(1, 1), torch.ones(1, 1)).tolist() == [0]  # a chance of 1 is no infinity
    assert torch.isfinite(pointwise_loss(torch.zeros(1, 1), torch.zeros(1, 1))).all()


def test_an_uncertain_task_counts_less_and_pays_for_it() -> None:
    found = uncertainty_weighted(torch.tensor([2.0, 4.0]), torch.tensor([0.0, float(np.log(4))]))
    assert float(found) == pytest.approx(2 + 1 + np.log(4) / 2)


def test_a_teacher_softens_only_what_it_judged() -> None:
    labels = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    teacher = torch.tensor([[0.6, 0.2, 0.1], [float("nan")] * 3])
    assert softened(labels, teacher, 0.5).numpy() == pytest.approx(np.array([[0.8, 0.1, 0.05], [1, 1, 0]]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dropout", 1.0),
        ("listwise", 1.5),
        ("experts", 0),
        ("epochs", 0),
        ("holdout_share", 0.6),
        ("max_pages", 9),
        ("task_weights", (0.0, 0.0, 0.0)),
        ("task_weights", (1.0, 1.0)),
        ("weight_decay", -1.0),
        ("chain_prior", -1.0),
    ],
)
def test_a_recipe_is_refused_by_the_name_of_its_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be"):
        replace(TINY, **{field: value})  # type: ignore[arg-type]
