"""Trains the unified model from a catalogue and a log, and writes a model folder. Needs the extra `aisle[train]`."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.arrays import Codes, Progress
from models.devices import check_training_device
from models.errors import TrainingError
from models.events.kinds import IMPRESSION
from models.products.product_table import ProductTable
from models.unified.batches import Batch, BatchMaker
from models.unified.load_model import has_locale_words, load_weights
from models.unified.losses import (
    NegativeSets,
    finite_or_raise,
    hinge_loss,
    prefix_scores,
    softmax_loss,
    softmax_offsets,
    triplet_loss,
)
from models.unified.negatives import hardest_products
from models.unified.network import UnifiedNetwork, product_vectors
from models.unified.recipe import UnifiedRecipe
from models.unified.saved_model import save_model
from models.unified.shopping_log import ShoppingLog
from models.unified.training_data import TrainingData, prepare
from models.unified.update import Update
from models.unified.words import word_batch

WriteScalar = Callable[[str, float, int], None]  # name, value, step

_TRIPLET_MARGIN = 0.2
_SKIPPED_WEIGHT = 0.3  # of an impression in the hinge, where a click weighs 1
_CHECKPOINT = "checkpoint.pt"
_CHECKPOINT_STEPS = 100
_WARM_UP_SHARE = 0.05  # of the steps, in which the learning rate rises
_LAST_RATE = 0.05  # share of the learning rate at the end of its cosine
_MAX_GRADIENT = 1.0


@dataclass(frozen=True, slots=True)
class Trained:
    """The model folder and the facts of its training."""

    folder: Path
    steps: int
    num_examples: int
    until_ms: int
    last_loss: float
    threshold: float


def train_unified(
    table: ProductTable,
    log: ShoppingLog,
    recipe: UnifiedRecipe,
    out: Path,
    progress: Progress,
    *,
    seed: int = 0,
    device: str = "cpu",
    cache: Path | None = None,
    logs: Path | None = None,
    until_ms: int | None = None,
    update: Update | None = None,
) -> Trained:
    """Trains the model and writes the folder `out`; after an interruption the same call resumes.

    The same seed gives the same weights on the same machine. `cache` is a folder for the frozen blocks (graph, text), which other
    recipes over the same data reuse; without it they are kept next to `out` until the training ends. `logs` is a folder for
    TensorBoard. Events before `until_ms` are learned from, by default those of the recipe's `train_share`. With `update` a trained model
    learns what is new, see `Update`.

    Raises TrainingError if `out` exists, if the device is not available, or if TensorBoard is missing for `logs`; LogError if the log has
    nothing to learn from; DegenerateLoss if the training fails.
    """
    check_training_device(device)
    if out.exists():
        raise TrainingError(f"{out} exists; choose another folder")
    work = out.with_name(f"{out.name}.partial")
    work.mkdir(parents=True, exist_ok=True)
    with open_scalars(logs) as write:
        frozen = cache or work / "frozen"
        data = prepare(table, log, recipe, seed, frozen, progress, device, until_ms=until_ms, update=update)
        training = Training(data, recipe, seed, work / _CHECKPOINT, device, update)
        last_loss = training.run(progress, write)
    if update is None:  # an update keeps the locales that it has no example of
        of_locale = np.bincount(data.examples.locale, minlength=len(log.locales))
        training.network.search.query.average_untrained(torch.from_numpy(of_locale))
    progress("write the model", 0, None)
    made = work / "model"
    shutil.rmtree(made, ignore_errors=True)
    save_model(training.network, data, table, recipe, seed, made, progress)
    made.replace(out)
    shutil.rmtree(work)
    return Trained(
        folder=out,
        steps=training.batches.steps,
        num_examples=len(data.examples),
        until_ms=data.until_ms,
        last_loss=last_loss,
        threshold=training.network.threshold.item(),
    )


class Training:
    """A training in progress: the network, its optimizers and the step."""

    def __init__(
        self,
        data: TrainingData,
        recipe: UnifiedRecipe,
        seed: int,
        checkpoint: Path,
        device: str,
        update: Update | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.data = data
        self.recipe = recipe = recipe if update is None else update.of(recipe)
        self.batches = BatchMaker(data, recipe, seed)
        graph_dim = data.catalogue.signals.graph.shape[1]
        start = None if update is None else load_weights(update.start)
        num_locales = len(data.log.locales)
        locale_words = num_locales > 1 if start is None else has_locale_words(start)
        self.network = UnifiedNetwork(recipe, num_locales, graph_dim, locale_words=locale_words)
        if self.network.product.reader is not None and data.reader is not None:
            self.network.product.reader.load_state_dict(data.reader.state_dict())
        if start is not None:
            self.network.load_state_dict(start)
        self.network.to(device)
        # A separate optimizer for the tables: a batch reads few of their rows, and only those are updated.
        tables = self.network.tables()
        self._dense = [p for p in self.network.parameters() if all(p is not table for table in tables)]
        self.optimizers = (
            torch.optim.AdamW(self._dense, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True),
            torch.optim.SparseAdam(tables, lr=recipe.learning_rate),
        )
        self.step = 0
        self._checkpoint = checkpoint
        self._key = f"{data.fingerprint}-{seed}"
        self._resume()

    def run(self, progress: Progress, write: WriteScalar) -> float:
        """Trains to the end, with checkpoints, and returns the mean loss of the last 50 steps."""
        recent: list[float] = []
        mix = self.recipe.negatives
        refreshes = _refresh_steps(self.batches.steps, mix.warm_up_share, mix.dynamic_refreshes)
        while self.step < self.batches.steps:
            if mix.dynamic_weight > 0 and self.step in refreshes:
                progress("mine hard negatives", self.step, self.batches.steps)
                self.batches.dynamic = self._hard_products()
            batch = self.batches.make(self.step)
            parts = self._learn(batch)
            recent = [*recent[-49:], parts["loss"]]
            for name, value in parts.items():
                write(name, value, self.step)
            self.step += 1
            progress("train", self.step, self.batches.steps)
            if self.step % _CHECKPOINT_STEPS == 0:
                self.save()
        return float(np.mean(recent)) if recent else math.nan

    def _learn(self, batch: Batch) -> dict[str, float]:
        rate = _learning_rate(self.recipe.learning_rate, batch.step, self.batches.steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        self.network.train()
        loss, searches, parts = objective(self.network, batch, self.data, self.recipe)
        finite_or_raise(loss, searches, batch.step)
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._dense, _MAX_GRADIENT)
        for optimizer in self.optimizers:
            optimizer.step()
        return {"loss": loss.item(), "threshold": self.network.threshold.item(), "rate": rate} | {
            name: part.item() for name, part in parts.items()
        }

    @torch.inference_mode()
    def _hard_products(self) -> Codes:
        """Returns (asked, n) the hardest products of every query in the locales that asked it, see `BatchMaker.asked`."""
        data, mix = self.data, self.recipe.negatives
        self.network.eval()
        random = np.random.default_rng([self.step, 3])
        pool = np.sort(random.permutation(data.log.num_products)[: mix.dynamic_pool]).astype(np.int64)
        vectors = product_vectors(self.network, data.catalogue, data.buckets, pool)
        asked = self.batches.asked
        hardest = np.full((len(asked.query), mix.dynamic_per_row), -1, np.int32)
        for start in range(0, len(asked.query), 4096):
            rows = slice(start, start + 4096)
            queries = asked.query[rows]
            bag = self.network.bags(word_batch([data.queries.take(queries)], data.buckets))
            words = self.batches.locale_words
            bag = self.network.in_locales(bag, None if words is None else words.take(np.arange(len(words))[rows]))
            q = self.network.search.query(bag, torch.from_numpy(asked.locale[rows]).to(bag.device)).cpu().numpy()
            hardest[rows] = hardest_products(q, vectors, pool, data.engaged.by_query, queries, mix.dynamic_per_row)
        return hardest

    def save(self) -> None:
        """Writes a checkpoint, atomically."""
        state: dict[str, Any] = {
            "key": self._key,
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        if self.batches.dynamic is not None:
            state["dynamic"] = torch.from_numpy(self.batches.dynamic)
        partial = self._checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self._checkpoint)

    def _resume(self) -> None:
        if not self._checkpoint.exists():
            return
        state = torch.load(self._checkpoint, weights_only=True, map_location=next(self.network.parameters()).device)
        if state["key"] != self._key:  # a checkpoint of another recipe, seed or log
            return
        self.network.load_state_dict(state["network"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step = int(state["step"])
        if "dynamic" in state:
            self.batches.dynamic = state["dynamic"].cpu().numpy()


def objective(
    network: UnifiedNetwork, batch: Batch, data: TrainingData, recipe: UnifiedRecipe
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Returns the loss to minimise, the search vectors (rows, dim), and the weighted losses by name."""
    device = network.threshold.device

    def tensor(values: Any) -> Tensor:
        return torch.from_numpy(values).to(device)

    rows, columns = len(batch.kind), len(batch.columns.products)
    bags = network.bags(batch.words)
    searches = network.search(
        network.in_locales(bags[:rows], batch.locale_words),
        tensor(batch.searches.locale),
        bags[rows + columns :],
        tensor(batch.searches.slots),
        tensor(batch.strength),
    )
    inputs = data.crossed[batch.fold].take(batch.columns.products, bags[rows : rows + columns], batch.meets)
    products = network.product(inputs)
    positive, kind, weight = tensor(batch.columns.positive), tensor(batch.kind), tensor(batch.weight)
    category = tensor(batch.columns.category)
    log_expected = torch.where(
        category[positive][:, None] == category,
        tensor(batch.columns.expected_by_kin).log(),
        tensor(batch.columns.expected).log(),
    )
    weights, losses = batch.negative_weights, recipe.losses
    negatives = NegativeSets(
        tensor(batch.negatives.irrelevant),
        tensor(batch.columns.uniform),
        weights.in_batch + weights.dynamic,
        recipe.negatives.hardest_in_batch,
    )
    shown = weight + _SKIPPED_WEIGHT * (kind == IMPRESSION)
    offsets = softmax_offsets(positive, tensor(batch.negatives.counted), log_expected)
    parts: dict[str, Tensor] = {}
    for prefix in batch.prefixes:
        scores = prefix_scores(searches, products, prefix)
        terms: dict[str, Tensor] = {}
        if losses.softmax:
            terms["softmax"] = softmax_loss(scores, positive, offsets, network.scale, weight) / len(batch.prefixes)
        if losses.hinge and (prefix == recipe.sizes.dim or not losses.softmax):  # the threshold is for whole vectors
            terms["hinge"] = hinge_loss(scores, positive, kind, network.threshold, recipe.hinge, negatives, shown)
        if losses.triplet and (prefix == recipe.sizes.dim or not losses.softmax):
            terms["triplet"] = triplet_loss(scores, positive, _TRIPLET_MARGIN, negatives, weight)
        for name, part in terms.items():
            parts[name] = parts.get(name, torch.zeros((), device=device)) + getattr(losses, name) * part
    return torch.stack(list(parts.values())).sum(), searches, parts


def _learning_rate(most: float, step: int, steps: int) -> float:
    """Returns the learning rate: a linear warm-up, then a cosine down."""
    share = (step + 1) / steps
    return (
        most
        * min(1.0, share / _WARM_UP_SHARE)
        * (_LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * share)))
    )


def _refresh_steps(steps: int, warm_up_share: float, count: int) -> set[int]:
    """Returns steps spread evenly after the warm-up, the first at its end."""
    first = int(steps * warm_up_share)
    return {first + (steps - first) * at // max(count, 1) for at in range(count)}


@contextmanager
def open_scalars(logs: Path | None) -> Iterator[WriteScalar]:
    """Yields a function that writes to TensorBoard in the folder `logs`; with None it writes nothing."""
    if logs is None:
        yield lambda *_: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(f"logs need {error.name or 'tensorboard'}: pip install tensorboard") from error
    with SummaryWriter(str(logs)) as board:
        yield board.add_scalar
