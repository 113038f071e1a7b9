"""The teacher's two training stages: the head on features alone, then encoder and head on text and features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.arrays import Floats, Ints
from models.ranking.impressions import Impressions
from models.ranking.tasks import TASKS
from models.ranking.teacher.losses import listwise_loss, log_probabilities, pointwise_loss, weigh_tasks
from models.ranking.teacher.network import TeacherNetwork, gate_entropies
from models.ranking.teacher.pair_tokens import TextSpec, join_pairs
from models.ranking.teacher.recipe import TeacherRecipe
from models.ranking.teacher.samples import RowSample
from models.text_tuning.encoder_network import computing_in
from models.text_tuning.stages import step_seed
from models.unified.words import Ragged


@dataclass(frozen=True, slots=True, eq=False)
class TeacherExamples:
    """Impressions and the teacher's inputs for them."""

    shown: Impressions
    features: Floats  # (rows, features)
    queries: Ragged  # by page
    products: Ragged  # by row of the catalogue


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of some pages, page after page."""

    rows: Ints  # of the impressions
    page: Ints  # (rows,) 0 to num_pages - 1
    num_pages: int
    weight: Floats
    stands_for: Floats


def take_pages(sample: RowSample, offsets: Ints, pages: Ints) -> Batch:
    """Returns pages of a sample as a batch; `offsets` are `sample.offsets`."""
    at = np.concatenate([np.arange(offsets[page], offsets[page + 1]) for page in pages.tolist()])
    sizes = offsets[pages + 1] - offsets[pages]
    weight = sample.stands_for[at] * sample.page_weight[at]
    page = np.repeat(np.arange(len(pages)), sizes)
    return Batch(sample.rows[at], page, len(pages), weight, sample.stands_for[at])


class PageOrder:
    """The pages of each step: every page once an epoch, in an order that follows from the seed and the epoch."""

    def __init__(self, num_pages: int, batch: int, seed: int) -> None:
        self._num_pages, self._batch, self._seed = num_pages, min(batch, num_pages), seed
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def pages(self, step: int) -> Ints:
        places = np.arange(step * self._batch, (step + 1) * self._batch)
        return np.array([self._at(*divmod(place, self._num_pages)) for place in places.tolist()], np.int64)

    def _at(self, epoch: int, place: int) -> int:
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch, 0x9E]).permutation(self._num_pages)
        return int(self._order[place])


class FeatureLearner:
    name = "features"

    def __init__(
        self, network: TeacherNetwork, examples: TeacherExamples, sample: RowSample, recipe: TeacherRecipe, seed: int
    ) -> None:
        self.network: torch.nn.Module = network.head
        self.steps, self.learning_rate = recipe.features.steps(sample.num_pages), recipe.features.learning_rate
        self._learning = _Learning(network, examples, sample, recipe, seed)
        self._order = PageOrder(sample.num_pages, recipe.features.pages, step_seed(seed, 0xFE))

    def learn(self, step: int) -> float:
        batch = self._learning.batch(self._order.pages(step))
        torch.manual_seed(self._learning.step_seed(step, 0xFE))
        return self._learning.backward(batch, None)


class TextLearner:
    name = "text"

    def __init__(
        self,
        network: TeacherNetwork,
        spec: TextSpec,
        examples: TeacherExamples,
        sample: RowSample,
        recipe: TeacherRecipe,
        seed: int,
        precision: torch.dtype,
    ) -> None:
        self.network = network
        self.steps = recipe.text.steps(sample.num_pages)
        self.learning_rate, self.head_rate = recipe.text.learning_rate, recipe.text.head_rate
        self._learning = _Learning(network, examples, sample, recipe, seed)
        self._spec, self._examples, self._precision, self._chunk = spec, examples, precision, recipe.text.chunk
        self._order = PageOrder(sample.num_pages, recipe.text.pages, step_seed(seed, 0x7E))

    def learn(self, step: int) -> float:
        batch = self._learning.batch(self._order.pages(step))
        torch.manual_seed(self._learning.step_seed(step, 0x7E))
        text = encode_rows(self.network, self._spec, self._examples, batch.rows, self._precision, self._chunk)
        return self._learning.backward(batch, text)


def encode_rows(
    network: TeacherNetwork,
    spec: TextSpec,
    examples: TeacherExamples,
    rows: Ints,
    precision: torch.dtype,
    chunk: int,
) -> Tensor:
    """Returns (rows, text_dim) the encoder's vectors, computed in chunks of `chunk` pairs of similar length."""
    queries, products = (
        examples.queries.take(examples.shown.page[rows]),
        examples.products.take(examples.shown.product[rows]),
    )
    order = np.argsort(queries.lengths + products.lengths, kind="stable")
    device = network.head.means.device
    parts = []
    for start in range(0, len(order), chunk):
        places = order[start : start + chunk]
        pairs = join_pairs(queries.take(places), products.take(places), spec)
        with computing_in(network, precision):
            parts.append(
                network.encode(*(torch.from_numpy(part).to(device) for part in (pairs.ids, pairs.mask, pairs.segments)))
            )
    back = torch.from_numpy(np.argsort(order)).to(device)
    return torch.cat(parts)[back]


class _Learning:
    """Batches of a sample and the loss on them, which both stages share."""

    def __init__(
        self, network: TeacherNetwork, examples: TeacherExamples, sample: RowSample, recipe: TeacherRecipe, seed: int
    ) -> None:
        self._head, self._examples, self._sample, self._recipe = network.head, examples, sample, recipe
        self._offsets = sample.offsets
        self._seed = seed
        # Weights of mean 1: the loss does not depend on how many rows were left out.
        self._mean_weight = float(sample.weight.mean())

    def batch(self, pages: Ints) -> Batch:
        return take_pages(self._sample, self._offsets, pages)

    def step_seed(self, step: int, stage: int) -> int:
        return step_seed(self._seed, step, stage)

    def backward(self, batch: Batch, text: Tensor | None) -> float:
        head, recipe, shown = self._head, self._recipe, self._examples.shown
        device = head.means.device

        def tensor(values: npt.NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(values).to(device)

        positions = tensor(shown.position[batch.rows].astype(np.int64)) if recipe.use_position else None
        scored = head(text, tensor(self._examples.features[batch.rows]), positions)
        log_probs = log_probabilities(scored.logits.float(), recipe.transfer)
        labels = tensor(shown.labels[batch.rows])
        objective = recipe.objective
        losses = scored.logits.new_zeros(len(TASKS))
        if objective.pointwise:
            # Relative to the mean over all batches: a batch with heavy rows counts for more.
            weight = tensor(batch.weight / self._mean_weight)
            losses = losses + objective.pointwise * pointwise_loss(log_probs, labels, weight) * weight.mean()
        if objective.listwise:
            page = tensor(batch.page)
            losses = losses + objective.listwise * listwise_loss(
                log_probs, labels, page, batch.num_pages, tensor(batch.stands_for)
            )
        loss = weigh_tasks(losses, objective, head.log_variances)
        loss.backward()
        return float(loss.item())


@torch.inference_mode()
def score_rows(
    network: TeacherNetwork,
    spec: TextSpec,
    examples: TeacherExamples,
    rows: Ints,
    precision: torch.dtype,
    with_text: bool = True,
    block: int = 1024,
) -> tuple[Floats, dict[str, float]]:
    """Returns logits (rows, tasks) without positions, as in serving, and the entropies of the gates."""
    network.eval()
    device = network.head.means.device
    logits, gates = [], []
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        text = encode_rows(network, spec, examples, part, precision, 64) if with_text else None
        scored = network.head(text, torch.from_numpy(examples.features[part]).to(device), None)
        logits.append(scored.logits.float().cpu().numpy())
        gates.append(scored.gates.cpu())
    return np.concatenate(logits), gate_entropies(torch.cat(gates))
