"""Fits the ranker's network to the features of shown products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.arrays import Floats, Ints
from models.errors import DegenerateLoss
from models.events.errors import LogError
from models.ranking.losses import listwise_loss, pointwise_loss, softened, uncertainty_weighted
from models.ranking.network import RankerNetwork
from models.ranking.ranker import Ranker, Scaling
from models.ranking.recipe import RankerRecipe, Transfer, Weighting
from models.ranking.tasks import TASKS
from models.training_steps import StepProgress, linear_rate, torch_threads

_MAX_GRADIENT = 1.0
_EVALUATIONS = 24  # on the held-out pages, at most
_LIST_SCALE = 0.1  # of the listwise loss, which is about 2.4 on a page of 13, where the pointwise loss of a row is 0.25
# A rise of the held-out loss over its minimum that is still noise: on 480 held-out pages it rose by 0.7% while the loss on 2,700 later
# pages still fell.
_SLACK = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class RankerRows:
    """Shown products as the network reads them, page after page."""

    features: Floats  # (rows, features)
    labels: Floats  # (rows, TASKS) 0 or 1
    page: Ints  # (rows,) ascending from 0 without gaps
    position: Ints  # (rows,) from 1; 0 if unknown
    teacher: Floats | None = None  # (rows, TASKS) a teacher's probabilities, NaN in rows that it did not score

    def __post_init__(self) -> None:
        rows = len(self.features)
        shapes = {"labels": (rows, len(TASKS)), "page": (rows,), "position": (rows,), "teacher": (rows, len(TASKS))}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(f"{name} must be {shape} for {rows} rows of features, not {value.shape}")
        if rows and (self.page[0] != 0 or not np.isin(np.diff(self.page), (0, 1)).all()):
            raise ValueError("page must ascend from 0 without a gap")
        if self.teacher is not None and not ((self.teacher >= 0) & (self.teacher <= 1) | np.isnan(self.teacher)).all():
            raise ValueError("a teacher's probabilities must be 0 to 1, or NaN in rows that it did not score")

    @property
    def num_pages(self) -> int:
        return int(self.page[-1]) + 1 if len(self.page) else 0

    def append(self, other: RankerRows) -> RankerRows:
        """Returns these pages, followed by the other ones."""
        teacher = None
        if self.teacher is not None or other.teacher is not None:
            teacher = np.concatenate(
                [np.full_like(rows.labels, np.nan) if rows.teacher is None else rows.teacher for rows in (self, other)]
            )
        return RankerRows(
            np.concatenate([self.features, other.features]),
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.page, other.page + self.num_pages]),
            np.concatenate([self.position, other.position]),
            teacher,
        )

    def between(self, first: int, stop: int) -> RankerRows:
        """Returns the pages from `first` on and before `stop`."""
        rows = slice(*np.searchsorted(self.page, (first, stop)).tolist())
        return RankerRows(
            self.features[rows],
            self.labels[rows],
            self.page[rows] - first,
            self.position[rows],
            None if self.teacher is None else self.teacher[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class FittedRanker:
    ranker: Ranker  # without calibration
    steps: int
    holdout_loss: dict[str, float]  # cross-entropy by task
    gate_entropy: dict[str, float]  # by task, 0 (one expert has all weight) to 1 (all alike); empty without gates
    position_odds: Floats  # (MAX_POSITION + 1, TASKS) added to the logits by each position


def fit_ranker(
    rows: RankerRows,
    holdout: RankerRows,
    recipe: RankerRecipe,
    *,
    seed: int = 0,
    report: StepProgress = lambda *_: None,
) -> FittedRanker:
    """Trains until the loss on held-out pages rises, or the epochs are over, and returns the last weights before the rise.

    The same rows, recipe and seed give the same weights on the same machine. Raises LogError if there is nothing to learn from,
    DegenerateLoss if the loss is not a number.
    """
    if rows.num_pages < 2 or not holdout.num_pages or not rows.labels[:, 0].any():
        raise LogError(
            f"{rows.num_pages} pages with {int(rows.labels[:, 0].sum()) if len(rows.labels) else 0} clicks to learn from and "
            f"{holdout.num_pages} held out; 2, 1 and 1 are the least"
        )
    if not np.isfinite(rows.features).all() or not np.isfinite(holdout.features).all():
        raise LogError("features must be finite")
    with torch_threads(1):
        return _fit(rows, holdout, recipe, seed, report)


def _fit(rows: RankerRows, holdout: RankerRows, recipe: RankerRecipe, seed: int, report: StepProgress) -> FittedRanker:
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    scaling = Scaling.fit(rows.features)
    network = RankerNetwork(rows.features.shape[1], recipe)
    network.start_at(rows.labels.mean(axis=0), rows.position)
    log_variances = torch.zeros(len(TASKS), requires_grad=recipe.weighting == Weighting.UNCERTAINTY)
    learned = [*network.parameters(), log_variances]
    optimizer = torch.optim.Adam(_groups(network, log_variances, recipe), lr=recipe.learning_rate)
    prior = recipe.chain_prior / 2 / len(rows.features)
    data, watched = _Data(rows, scaling, recipe), _Data(holdout, scaling, recipe)
    steps = max(1, round(recipe.epochs * rows.num_pages / recipe.batch_pages))
    every = max(1, steps // _EVALUATIONS)
    kept, best_loss, idle = network.state(), float("inf"), 0
    for step, pages in enumerate(_batches(rows.num_pages, recipe.batch_pages, steps, random)):
        for group in optimizer.param_groups:
            group["lr"] = linear_rate(recipe.learning_rate, step, steps)
        network.train()
        batch = data.batch(pages, random)
        own = network.own(batch.features)
        loss = _weighted(_losses(network, own, batch), log_variances, recipe)
        if network.carry is not None:
            loss = loss + prior * own[:, 1:].var(dim=0, correction=0).sum()
        if not torch.isfinite(loss):
            raise DegenerateLoss(
                f"the loss is {loss.item()} at step {step + 1} of {steps}; learning_rate {recipe.learning_rate} is too high for "
                "these pages"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, _MAX_GRADIENT)
        optimizer.step()
        report(step + 1, steps)
        if (step + 1) % every and step + 1 < steps:
            continue
        now = _holdout_loss(network, watched, recipe)
        best_loss = min(best_loss, now)
        if now <= best_loss * (1 + _SLACK):
            kept, idle = network.state(), 0
        else:
            idle += 1
            if idle >= recipe.patience:
                break
    network.load_state_dict(kept)
    network.eval()
    return FittedRanker(
        ranker=Ranker(recipe, network.arrays(), scaling, features=_names(rows)),
        steps=step + 1,
        holdout_loss=_by_task(_pointwise(network, watched)),
        gate_entropy=_gate_entropy(network, watched),
        position_odds=network.position_odds(),
    )


def _groups(network: RankerNetwork, log_variances: Tensor, recipe: RankerRecipe) -> list[dict[str, object]]:
    """Returns parameter groups for the optimizer.

    The weights of experts, skips, towers and heads decay, as part of the gradient (unlike AdamW); biases, gates, and the parameters of
    positions and chains do not.
    """
    layers = [network.experts, network.skip, *network.towers, *network.heads]
    decayed = [layer.weight for layer in layers]
    ids = {id(weight) for weight in decayed}
    free = [value for value in network.parameters() if id(value) not in ids]
    return [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": [*free, log_variances]}]


def _names(rows: RankerRows) -> tuple[str, ...]:
    from models.ranking.feature_names import FEATURES

    count = rows.features.shape[1]
    return FEATURES if count == len(FEATURES) else tuple(f"feature_{at}" for at in range(count))


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    features: Tensor
    labels: Tensor
    targets: Tensor  # labels, softened by the teacher
    page: Tensor
    position: Tensor


class _Data:
    """Rows as tensors, cut into pages."""

    def __init__(self, rows: RankerRows, scaling: Scaling, recipe: RankerRecipe) -> None:
        self._recipe = recipe
        self._offsets = np.searchsorted(rows.page, np.arange(rows.num_pages + 1))
        labels = torch.from_numpy(rows.labels)
        targets = labels
        if rows.teacher is not None:
            targets = softened(labels, torch.from_numpy(rows.teacher), recipe.distillation)
        position = rows.position if recipe.use_position else np.zeros_like(rows.position)
        self.all = _Batch(
            torch.from_numpy(scaling.apply(rows.features)),
            labels,
            targets,
            torch.from_numpy(rows.page),
            torch.from_numpy(position),
        )

    def batch(self, pages: Ints, random: np.random.Generator) -> _Batch:
        """Returns these pages, some of their rows without a position."""
        starts, lengths = self._offsets[pages], self._offsets[pages + 1] - self._offsets[pages]
        page = np.repeat(np.arange(len(pages)), lengths)
        at = torch.from_numpy(np.arange(len(page)) + (starts - np.cumsum(lengths) + lengths)[page])
        is_known = torch.from_numpy(random.random(len(page)) >= self._recipe.position_dropout)
        whole = self.all
        return _Batch(
            whole.features[at],
            whole.labels[at],
            whole.targets[at],
            torch.from_numpy(page),
            whole.position[at] * is_known,
        )


def _losses(network: RankerNetwork, own: Tensor, batch: _Batch) -> Tensor:
    """Returns (tasks,) the losses of the outputs `own` of the towers on a batch."""
    recipe = network.recipe
    logits = network.logits(own, batch.position)
    log_probabilities = network.log_probabilities(logits)
    losses = (1 - recipe.listwise) * pointwise_loss(log_probabilities, batch.targets)
    if recipe.listwise:
        scores = log_probabilities if recipe.transfer == Transfer.CHAIN else logits
        losses = losses + recipe.listwise * _LIST_SCALE * listwise_loss(scores, batch.labels, batch.page)
    return losses


def _weighted(losses: Tensor, log_variances: Tensor, recipe: RankerRecipe) -> Tensor:
    if recipe.weighting == Weighting.UNCERTAINTY:
        return uncertainty_weighted(losses, log_variances)
    return (losses * torch.tensor(recipe.task_weights)).sum()


@torch.inference_mode()
def _holdout_loss(network: RankerNetwork, data: _Data, recipe: RankerRecipe) -> float:
    """Weighs the tasks by the recipe: learned weights would change the loss without a change of the predictions."""
    network.eval()
    own = network.own(data.all.features)
    return float((_losses(network, own, data.all) * torch.tensor(recipe.task_weights)).sum())


@torch.inference_mode()
def _pointwise(network: RankerNetwork, data: _Data) -> Tensor:
    return pointwise_loss(network.log_probabilities(network(data.all.features, data.all.position)), data.all.labels)


@torch.inference_mode()
def _gate_entropy(network: RankerNetwork, data: _Data) -> dict[str, float]:
    shares = network.shares(data.all.features)
    if shares is None or shares.shape[2] < 2:
        return {}
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum(dim=2).mean(dim=0)
    return _by_task(entropy / np.log(shares.shape[2]))


def _by_task(values: Tensor) -> dict[str, float]:
    return {task: round(float(value), 6) for task, value in zip(TASKS, values, strict=True)}


def _batches(num_pages: int, size: int, steps: int, random: np.random.Generator) -> Iterator[Ints]:
    """Yields every page once an epoch, in a new order each time."""
    rest = np.zeros(0, np.int64)
    for _ in range(steps):
        while len(rest) < min(size, num_pages):
            rest = np.concatenate([rest, random.permutation(num_pages)])
        yield rest[:size]
        rest = rest[size:]
