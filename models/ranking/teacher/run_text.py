"""The loop of the text stage: `models.text_tuning.stages.run_stage` with a separate learning rate for the head.

The encoder is pre-trained and needs a lower rate than the head.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from models.arrays import Progress
from models.errors import DegenerateLoss
from models.ranking.teacher.learners import TextLearner
from models.text_tuning.stages import (
    CHECKPOINT_STEPS,
    MAX_GRADIENT,
    LossPoint,
    loss_curve,
    rate_at,
    resume_checkpoint,
    save_checkpoint,
)
from models.unified.train_unified import WriteScalar


def run_text(
    learner: TextLearner, key: str, checkpoint: Path, weight_decay: float, progress: Progress, write: WriteScalar
) -> list[LossPoint]:
    """Runs all steps, or those after the checkpoint of the same `key`.

    Raises DegenerateLoss at the first loss that is not a number; the last checkpoint stays.
    """
    network = learner.network
    optimizer = _optimizer(learner, weight_decay)
    rates = [group["lr"] for group in optimizer.param_groups]
    step, losses = resume_checkpoint(checkpoint, key, network, optimizer)
    while step < learner.steps:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate_at(rate, step, learner.steps)
        network.train()
        network.zero_grad(set_to_none=True)
        loss = learner.learn(step)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT)
        if not math.isfinite(loss) or not torch.isfinite(norm):
            raise DegenerateLoss(
                f"stage {learner.name}: at step {step} the loss is {loss} and the gradient {float(norm)}; lower its learning_rate"
            )
        optimizer.step()
        losses.append(loss)
        write(f"{learner.name}/loss", loss, step)
        step += 1
        progress(f"train: {learner.name}", step, learner.steps)
        if step % CHECKPOINT_STEPS == 0 and step < learner.steps:
            save_checkpoint(checkpoint, key, step, losses, network, optimizer)
    network.eval()
    return loss_curve(losses)


def _optimizer(learner: TextLearner, weight_decay: float) -> torch.optim.AdamW:
    """Biases, the scales of norms and the terms of positions do not decay."""
    groups = []
    for part, rate in ((learner.network.encoder, learner.learning_rate), (learner.network.head, learner.head_rate)):
        named = [(name, parameter) for name, parameter in part.named_parameters() if parameter.requires_grad]
        decays = [p for name, p in named if p.ndim > 1 and name != "positions"]
        stays = [p for name, p in named if p.ndim <= 1 or name == "positions"]
        groups.append({"params": decays, "lr": rate, "weight_decay": weight_decay})
        groups.append({"params": stays, "lr": rate, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, fused=True)
