"""What a ranker is wrong by: pointwise, a chance for each row, and listwise, the order within each page."""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST_MISS = 1e-6  # of 1 - chance, so that its logarithm is a number


def pointwise_loss(log_chances: Tensor, wanted: Tensor) -> Tensor:
    """(tasks,) mean cross-entropy of chances (rows, tasks), given as logarithms, with what was wanted, 0 to 1."""
    log_missed = torch.log(-torch.expm1(log_chances.clamp(max=-_LEAST_MISS)))
    return -(wanted * log_chances + (1 - wanted) * log_missed).mean(dim=0)


def listwise_loss(scores: Tensor, wanted: Tensor, page: Tensor) -> Tensor:
    """(tasks,) cross-entropy of the softmax of a page's scores (rows, tasks) with each of its labels (Cao et al., 2007), summed over the
    labels and divided by the number of pages.

    `page` (rows,) ascends from 0. Every label counts alike, so that a task with few of them has little say: a mean over the pages that
    have one would give a hundred purchases the weight of six thousand clicks, and their noise with it.
    """
    num_pages, tasks = int(page[-1]) + 1, scores.shape[1]
    at = page.unsqueeze(1).expand_as(scores)
    most = torch.full((num_pages, tasks), -torch.inf).scatter_reduce(0, at, scores.detach(), "amax")
    total = torch.zeros(num_pages, tasks).index_add(0, page, torch.exp(scores - most[page]))
    log_shares = scores - (most + torch.log(total))[page]
    return -(wanted * log_shares).sum(dim=0) / num_pages


def uncertainty_weighted(losses: Tensor, log_variances: Tensor) -> Tensor:
    """The sum of the tasks' losses (tasks,), each by how uncertain its task is found to be (Kendall et al., 2018)."""
    return (torch.exp(-log_variances) * losses + log_variances / 2).sum()


def softened(labels: Tensor, teacher: Tensor, share: float) -> Tensor:
    """Labels mixed with a teacher's chances (both (rows, tasks)) where it told any; NaN is a row that it did not judge.

    The cross-entropy with the mixture is the mixture of both cross-entropies.
    """
    told = torch.isfinite(teacher)
    return torch.where(told, (1 - share) * labels + share * torch.nan_to_num(teacher), labels)
