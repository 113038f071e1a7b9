"""What is minimised, as functions of scores and wanted types; no function here knows the network.

Everywhere: scores (rows, types); `wanted` (rows, types) is 1 where a type is a row's label and 0 elsewhere, each row has one
label or more; the result is (rows,).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor


def softmax_loss(scores: Tensor, wanted: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy with even shares of a row's labels, of which `smoothing` is spread over all types."""
    log_shares = F.log_softmax(scores, dim=1)
    of_labels = (log_shares * wanted).sum(dim=1) / wanted.sum(dim=1)
    return -(1 - smoothing) * of_labels - smoothing * log_shares.mean(dim=1)


def bce_loss(scores: Tensor, wanted: Tensor, smoothing: float) -> Tensor:
    """Each type for itself, summed; labels are 1 - smoothing."""
    return F.binary_cross_entropy_with_logits(scores, wanted * (1 - smoothing), reduction="none").sum(dim=1)


def asymmetric_loss(scores: Tensor, wanted: Tensor, focus: float, margin: float = 0.05) -> Tensor:
    """BCE in which a negative of probability p counts (p - margin)**focus, nothing below `margin` (Ridnik et al., 2021)."""
    shifted = (torch.sigmoid(scores) - margin).clamp(min=0)
    negative = -torch.log1p(-shifted.clamp(max=1 - 1e-6)) * shifted**focus
    return torch.where(wanted > 0, -F.logsigmoid(scores), negative).sum(dim=1)
