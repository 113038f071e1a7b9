"""Fits one network to labelled queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from models.arrays import Floats, Ints
from models.errors import DegenerateLoss
from models.query_types.examples import TypeExamples
from models.query_types.head import AGNOSTIC
from models.query_types.head_network import HeadNetwork
from models.query_types.losses import asymmetric_loss, bce_loss, softmax_loss
from models.query_types.network import TypeNetwork
from models.query_types.recipe import Loss, TypesRecipe
from models.query_types.type_net import NetSpec
from models.training_steps import StepProgress, linear_rate, torch_threads

_MAX_GRADIENT = 1.0
_STEPS_EACH = 40  # a small set is cut into this many batches of _LEAST_BATCH or more
_LEAST_BATCH = 32
_EVALUATIONS = 20  # on the held-out rows, at most
_EVALUATED_SHARE = 0.2  # evaluated rows for each training row, so that evaluation costs less than training
_MAX_HOLDOUT = 4096  # rows of an evaluation
_PRODUCTS_FOR_THREADS = 100_000_000
_GAIN = 1e-3  # of the held-out loss; a smaller improvement counts as none


@dataclass(frozen=True, slots=True)
class Fitted:
    weights: dict[str, Floats]
    steps: int
    holdout_loss: float  # nan if nothing was held out


def fit_net(
    spec: NetSpec,
    examples: TypeExamples,
    holdout: TypeExamples,
    recipe: TypesRecipe,
    seed: int,
    report: StepProgress,
    *,
    first: dict[str, Floats] | None = None,
    freeze: Callable[[TypeNetwork], None] | None = None,
) -> Fitted:
    """Trains until the held-out loss stops falling, or the epochs are over, and returns the best weights.

    `first` are weights to start from; `freeze` is called after every backward pass and may clear gradients. Raises DegenerateLoss if
    the loss is not a number.
    """
    scored = 2 * recipe.sampled_types if _samples(recipe, spec.num_types) else spec.num_types
    # One thread if the largest matrix product of a step is small.
    products = _batch_of(examples, recipe) * spec.dim * scored
    with torch_threads(1 if products < _PRODUCTS_FOR_THREADS else torch.get_num_threads()):
        torch.manual_seed(seed)
        network = TypeNetwork(spec)
        if first is not None:
            network.load(first)
        clear = None if freeze is None else partial(freeze, network)
        return fit_network(network, examples, holdout, recipe, seed, report, freeze=clear)


def fit_network(
    network: HeadNetwork,
    examples: TypeExamples,
    holdout: TypeExamples,
    recipe: TypesRecipe,
    seed: int,
    report: StepProgress,
    *,
    max_steps: int | None = None,
    freeze: Callable[[], None] | None = None,
) -> Fitted:
    """Does the same for a given network, which keeps the weights of its last step."""
    batch = _batch_of(examples, recipe)
    data = _Data(network, examples, recipe, np.random.default_rng(seed))
    watched = _Data(network, holdout.take(_spread(len(holdout), _MAX_HOLDOUT)), recipe, np.random.default_rng(seed))
    steps = max(1, round(recipe.epochs * len(examples) / batch))
    steps = min(steps, max_steps or steps)
    every = max(1, steps // _EVALUATIONS, round(len(watched.locale) / (_EVALUATED_SHARE * batch)))
    optimizers = network.optimizers(recipe)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    best, best_loss, idle = network.arrays(), float("nan"), 0
    for step in range(steps):
        _set_rates(optimizers, peaks, step, steps)
        network.train()
        loss = _loss(network, data, data.draw(batch), recipe, train=True)
        if not torch.isfinite(loss):
            raise DegenerateLoss(
                f"the loss is {loss.item()} at step {step + 1} of {steps}; learning_rate {recipe.learning_rate} is too high "
                "for these examples"
            )
        network.zero_grad(set_to_none=True)
        loss.backward()
        if freeze is not None:
            freeze()
        torch.nn.utils.clip_grad_norm_(network.dense(), _MAX_GRADIENT)
        for optimizer in optimizers:
            optimizer.step()
        report(step + 1, steps)
        if (step + 1) % every and step + 1 < steps:
            continue
        now = _holdout_loss(network, watched, recipe)
        if now < best_loss - _GAIN or not np.isfinite(best_loss):
            best, best_loss, idle = network.arrays(), now, 0
        else:
            idle += 1
            if idle >= recipe.patience:
                break
    return Fitted(best, step + 1, best_loss)


def _batch_of(examples: TypeExamples, recipe: TypesRecipe) -> int:
    return int(np.clip(len(examples) // _STEPS_EACH, min(_LEAST_BATCH, recipe.batch), recipe.batch))


class _Data:
    """Examples as the network reads them, and the draw of batches."""

    def __init__(
        self, network: HeadNetwork, examples: TypeExamples, recipe: TypesRecipe, random: np.random.Generator
    ) -> None:
        spec = network.spec
        number_of = {name: at for at, name in enumerate(spec.locales)}
        number = np.array([number_of.get(name, AGNOSTIC) for name in examples.locales], np.int64)
        self.locale = number[examples.locale] if len(examples) else np.zeros(0, np.int64)
        self.read = network.reader(examples.queries, self.locale.tolist())
        self.labels = examples.labels
        self.weight = examples.weight**recipe.weight_power
        self.random = random
        self.num_types = spec.num_types
        counts = np.bincount(examples.locale, minlength=len(examples.locales)).astype(np.float64)
        # A locale of n rows is drawn as n**(1/T): each of its rows n**(1/T - 1) times as often.
        rate = np.maximum(counts, 1.0)[examples.locale] ** (1 / recipe.temperature - 1)
        self._until = np.cumsum(rate / rate.sum()) if len(examples) else rate
        shares = np.bincount(self.labels.values, minlength=spec.num_types) / max(1, len(examples))
        self.type_share = np.minimum(shares, 1.0)

    def draw(self, size: int) -> Ints:
        at = np.searchsorted(self._until, self.random.random(size), side="right")
        return np.minimum(at, len(self._until) - 1)

    def targets(self, rows: Ints, types: Ints | None) -> Tensor:
        """Returns (rows, types) 1 for labels; only for `types` if given, which ascend and include all labels of the rows."""
        labels = self.labels.take(rows)
        targets = torch.zeros(len(rows), self.num_types if types is None else len(types))
        columns = labels.values if types is None else np.searchsorted(types, labels.values)
        at = torch.from_numpy(np.repeat(np.arange(len(rows)), labels.lengths))
        targets[at, torch.from_numpy(columns.astype(np.int64))] = 1
        return targets


def _loss(network: HeadNetwork, data: _Data, rows: Ints, recipe: TypesRecipe, *, train: bool) -> Tensor:
    """Returns the weighted mean over the rows."""
    with_locale = data.locale[rows] != AGNOSTIC
    keep = 1.0
    if train:
        with_locale &= data.random.random(len(rows)) >= recipe.locale_dropout
        keep = 1 - recipe.token_dropout
    device = network.device
    locale = torch.from_numpy(np.where(with_locale, data.locale[rows], AGNOSTIC)).to(device)
    states = data.read(rows, with_locale, keep)
    drawn = _sampled(data, rows, recipe) if train and _samples(recipe, data.num_types) else None
    targets = data.targets(rows, None if drawn is None else drawn.types).to(device)
    if drawn is None:
        scores = network(states.whole, locale)
    else:
        scores = network(states.whole, locale, torch.from_numpy(drawn.types).to(device))
        scores = scores - torch.from_numpy(drawn.log_probability).to(device)
    weight = torch.from_numpy(data.weight[rows]).to(device)
    losses = _row_losses(scores, targets, recipe)
    if train and recipe.locale_penalty and states.in_locale is not None:
        losses = losses + recipe.locale_penalty * states.in_locale.square().sum(dim=1)
    return (losses * weight).sum() / weight.sum()


def _row_losses(scores: Tensor, targets: Tensor, recipe: TypesRecipe) -> Tensor:
    if recipe.loss == Loss.SOFTMAX:
        return softmax_loss(scores, targets, recipe.label_smoothing)
    if recipe.loss == Loss.BCE:
        return bce_loss(scores, targets, recipe.label_smoothing)
    return asymmetric_loss(scores, targets, recipe.focus)


@dataclass(frozen=True, slots=True)
class _Drawn:
    types: Ints  # (n,) ascending
    log_probability: Floats  # (n,) log of the probability that each was drawn


def _samples(recipe: TypesRecipe, num_types: int) -> bool:
    """Whether a step scores only some of the types; with few types, scoring all is as fast."""
    return recipe.loss == Loss.SOFTMAX and 0 < 2 * recipe.sampled_types < num_types


def _sampled(data: _Data, rows: Ints, recipe: TypesRecipe) -> _Drawn:
    """Returns the batch's labels and uniformly drawn types (sampled softmax)."""
    drawn = data.random.choice(data.num_types, recipe.sampled_types, replace=False)
    types = np.union1d(drawn, data.labels.take(rows).values).astype(np.int64)
    missed = (1 - data.type_share[types]) ** len(rows) * (1 - len(drawn) / data.num_types)
    return _Drawn(types, np.log1p(-missed).astype(np.float32))


@torch.inference_mode()
def _holdout_loss(network: HeadNetwork, data: _Data, recipe: TypesRecipe) -> float:
    """Returns the mean over rows, in which a locale counts by its number of rows."""
    network.eval()
    total = 0.0
    for start in range(0, len(data.locale), 512):
        rows = np.arange(start, min(start + 512, len(data.locale)))
        total += _loss(network, data, rows, recipe, train=False).item() * len(rows)
    return total / len(data.locale) if len(data.locale) else float("nan")


def _set_rates(optimizers: tuple[torch.optim.Optimizer, ...], peaks: list[list[float]], step: int, steps: int) -> None:
    for optimizer, rates in zip(optimizers, peaks, strict=True):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = linear_rate(rate, step, steps)


def _spread(size: int, limit: int) -> Ints:
    """Returns at most `limit` evenly spaced numbers below `size`."""
    return np.unique(np.linspace(0, size - 1, min(size, limit)).astype(np.int64)) if size else np.zeros(0, np.int64)
