"""The loop of a training stage: steps, checkpoints, and an error if the loss is not a number.

It replaces the library's trainer for three reasons. The negatives of a query depend on what was clicked, which the library's losses and
samplers cannot use. The random numbers of a step follow from the seed and the step alone, so that an interrupted stage ends with the
same weights. And it needs neither datasets nor accelerate.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from models.arrays import Progress
from models.errors import DegenerateLoss
from models.unified.train_unified import WriteScalar

CHECKPOINT_STEPS = 100  # MiniLM and its optimizer are 270 MB
_WARM_UP_SHARE = 0.1  # of the steps, in which the learning rate rises
MAX_GRADIENT = 1.0
_CURVE_POINTS = 50


class Learner(Protocol):
    """The training objective of a stage."""

    name: str
    steps: int
    learning_rate: float

    @property
    def network(self) -> torch.nn.Module: ...

    def learn(self, step: int) -> float:
        """Adds the gradients of one step to the network and returns the loss; deterministic for a seed and a step."""
        ...


@dataclass(frozen=True, slots=True)
class LossPoint:
    """The mean loss of the steps since the previous point."""

    step: int
    loss: float


def step_seed(seed: int, *place: int) -> int:
    """Returns a seed for a step, or for a part of a step."""
    return int(np.random.SeedSequence([seed, *place]).generate_state(1)[0])


def rate_at(most: float, step: int, steps: int) -> float:
    """Returns the learning rate: a linear warm-up, then linearly down to 0 after the last step."""
    share = (step + 1) / steps
    return most * min(share / _WARM_UP_SHARE, (1 - share) / (1 - _WARM_UP_SHARE) + 1 / steps)


def run_stage(
    learner: Learner, key: str, checkpoint: Path, weight_decay: float, progress: Progress, write: WriteScalar
) -> list[LossPoint]:
    """Runs all steps, or those after the checkpoint of the same `key`.

    Raises DegenerateLoss at the first loss that is not a number; the last checkpoint stays.
    """
    network = learner.network
    optimizer = _optimizer(network, weight_decay)
    step, losses = resume_checkpoint(checkpoint, key, network, optimizer)
    while step < learner.steps:
        rate = rate_at(learner.learning_rate, step, learner.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        network.train()
        network.zero_grad(set_to_none=True)
        loss = learner.learn(step)
        if not math.isfinite(loss):
            raise DegenerateLoss(f"stage {learner.name}: the loss at step {step} is {loss}; lower its learning_rate")
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT)
        if not torch.isfinite(norm):
            raise DegenerateLoss(
                f"stage {learner.name}: the gradient at step {step} is {norm}; lower its learning_rate"
            )
        optimizer.step()
        losses.append(loss)
        write(f"{learner.name}/loss", loss, step)
        write(f"{learner.name}/rate", rate, step)
        step += 1
        progress(f"train: {learner.name}", step, learner.steps)
        if step % CHECKPOINT_STEPS == 0 and step < learner.steps:
            save_checkpoint(checkpoint, key, step, losses, network, optimizer)
    network.eval()
    return loss_curve(losses)


def _optimizer(network: torch.nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """Biases and the scales of norms do not decay."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, fused=True)


def save_checkpoint(
    path: Path,
    key: str,
    step: int,
    losses: list[float],
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Writes a checkpoint, atomically."""
    state = {
        "key": key,
        "step": step,
        "losses": losses,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def resume_checkpoint(
    path: Path, key: str, network: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, list[float]]:
    """Loads the checkpoint of the same `key`, and returns its step and the losses up to it; 0 and none without one."""
    if not path.exists():
        return 0, []
    state = torch.load(path, weights_only=True, map_location=next(network.parameters()).device)
    if state["key"] != key:
        return 0, []
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), list(state["losses"])


def loss_curve(losses: list[float]) -> list[LossPoint]:
    bounds = np.unique(np.linspace(0, len(losses), min(_CURVE_POINTS, len(losses)) + 1).astype(int)).tolist()
    return [LossPoint(stop, round(float(np.mean(losses[start:stop])), 6)) for start, stop in itertools.pairwise(bounds)]
