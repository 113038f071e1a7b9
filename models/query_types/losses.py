"""The losses of the query classifier, as functions of scores and targets.

In all of them: scores (rows, types); `targets` (rows, types) is 1 for labels and 0 elsewhere, with at least one label in each row; the
result is (rows,).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor


def softmax_loss(scores: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Returns the cross-entropy with equal shares of a row's labels, of which `smoothing` is spread over all types."""
    log_shares = F.log_softmax(scores, dim=1)
    label_mean = (log_shares * targets).sum(dim=1) / targets.sum(dim=1)
    return -(1 - smoothing) * label_mean - smoothing * log_shares.mean(dim=1)


def bce_loss(scores: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Returns the binary cross-entropy of each type, summed; labels are 1 - smoothing."""
    return F.binary_cross_entropy_with_logits(scores, targets * (1 - smoothing), reduction="none").sum(dim=1)


def asymmetric_loss(scores: Tensor, targets: Tensor, focus: float, margin: float = 0.05) -> Tensor:
    """Returns a BCE in which a negative of probability p weighs (p - margin)**focus, and 0 below `margin` (Ridnik et al., 2021)."""
    shifted = (torch.sigmoid(scores) - margin).clamp(min=0)
    negative = -torch.log1p(-shifted.clamp(max=1 - 1e-6)) * shifted**focus
    return torch.where(targets > 0, -F.logsigmoid(scores), negative).sum(dim=1)
