"""The ranker's losses: pointwise, over the probability of each row, and listwise, over the order within each page."""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST_MISS = 1e-6  # minimum of 1 - probability, so that its logarithm is finite


def pointwise_loss(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """Returns (tasks,) the mean cross-entropy between log probabilities (rows, tasks) and `targets`, 0 to 1."""
    log_missed = torch.log(-torch.expm1(log_probabilities.clamp(max=-_LEAST_MISS)))
    return -(targets * log_probabilities + (1 - targets) * log_missed).mean(dim=0)


def listwise_loss(scores: Tensor, labels: Tensor, page: Tensor) -> Tensor:
    """Returns (tasks,) the cross-entropy between the softmax of a page's scores (rows, tasks) and its labels (Cao et al., 2007).

    It is summed over all labels and divided by the number of pages. `page` (rows,) ascends from 0. Every label counts alike: a mean
    over the pages with a label would give a hundred purchases the weight of six thousand clicks, and amplify their noise.
    """
    num_pages, tasks = int(page[-1]) + 1, scores.shape[1]
    at = page.unsqueeze(1).expand_as(scores)
    most = torch.full((num_pages, tasks), -torch.inf).scatter_reduce(0, at, scores.detach(), "amax")
    total = torch.zeros(num_pages, tasks).index_add(0, page, torch.exp(scores - most[page]))
    log_shares = scores - (most + torch.log(total))[page]
    return -(labels * log_shares).sum(dim=0) / num_pages


def uncertainty_weighted(losses: Tensor, log_variances: Tensor) -> Tensor:
    """Returns the sum of the losses (tasks,), each weighted by the learned uncertainty of its task (Kendall et al., 2018)."""
    return (torch.exp(-log_variances) * losses + log_variances / 2).sum()


def softened(labels: Tensor, teacher: Tensor, share: float) -> Tensor:
    """Returns labels mixed with a teacher's probabilities (both (rows, tasks)); labels alone where the teacher is NaN.

    The cross-entropy with the mixture is the mixture of both cross-entropies.
    """
    is_scored = torch.isfinite(teacher)
    return torch.where(is_scored, (1 - share) * labels + share * torch.nan_to_num(teacher), labels)
