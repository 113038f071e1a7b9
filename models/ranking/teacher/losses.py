"""The teacher's losses, as functions of logits.

In all of them: logits (rows, tasks) are of each task, in a chain given the task before it; labels (rows, tasks) are 0 or 1 and nested;
a page is a run of rows that were shown together.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from models.ranking.losses import uncertainty_weighted
from models.ranking.recipe import Transfer, Weighting
from models.ranking.teacher.recipe import Objective


class LogProbabilities(NamedTuple):
    yes: Tensor  # (rows, tasks) log of the probability
    no: Tensor  # (rows, tasks) log of 1 - probability


def log_probabilities(logits: Tensor, transfer: Transfer) -> LogProbabilities:
    """Returns the log probabilities of each task over all rows.

    In a chain P(purchase) = P(click) P(cart | click) P(purchase | cart), as in ESMM (Ma et al., 2018), so that rare purchases learn
    from many clicks and the probabilities are nested.
    """
    if transfer == Transfer.NONE:
        return LogProbabilities(F.logsigmoid(logits), F.logsigmoid(-logits))
    yes = F.logsigmoid(logits).cumsum(dim=1)
    return LogProbabilities(yes, _log_of_rest(yes))


def _log_of_rest(logs: Tensor) -> Tensor:
    """Returns log(1 - exp(x)) for x < 0, near each end by the form that is exact there."""
    below = logs.clamp(max=-1e-7)
    near_one = below > -math.log(2)
    # Each branch gets a harmless argument where it is not taken: its gradient would be NaN otherwise.
    near = torch.log(-torch.expm1(torch.where(near_one, below, below.new_tensor(-0.5))))
    far = torch.log1p(-torch.exp(torch.where(near_one, below.new_tensor(-1.0), below)))
    return torch.where(near_one, near, far)


def pointwise_loss(logs: LogProbabilities, labels: Tensor, weight: Tensor) -> Tensor:
    """Returns (tasks,) the mean log-loss; `weight` (rows,) is how many rows each stands for."""
    losses = -(labels * logs.yes + (1 - labels) * logs.no)
    total: Tensor = (losses * weight[:, None]).sum(dim=0) / weight.sum().clamp(min=1e-9)
    return total


def listwise_loss(logs: LogProbabilities, labels: Tensor, page: Tensor, num_pages: int, stands_for: Tensor) -> Tensor:
    """Returns (tasks,) the log-loss of choosing the labelled products among all products of the page, averaged over the pages with a label.

    `page` (rows,) is 0 to num_pages - 1; `stands_for` (rows,) is how many products of the page a sampled one stands for in the softmax.
    """
    scores = logs.yes - logs.no
    index = page[:, None].expand_as(scores)
    most = scores.detach().new_full((num_pages, scores.shape[1]), -torch.inf)
    most = most.scatter_reduce(0, index, scores.detach(), "amax")
    shares = stands_for[:, None] * (scores - most[page]).exp()
    total = scores.new_zeros(num_pages, scores.shape[1]).scatter_add(0, index, shares)
    chosen = scores.new_zeros(num_pages, scores.shape[1]).scatter_add(0, index, labels)
    log_choice = scores - most[page] - total.clamp(min=1e-30).log()[page]
    by_page = -scores.new_zeros(num_pages, scores.shape[1]).scatter_add(0, index, labels * log_choice)
    has_any = chosen > 0
    mean: Tensor = (by_page / chosen.clamp(min=1.0)).sum(dim=0) / has_any.sum(dim=0).clamp(min=1)
    return mean


def weigh_tasks(losses: Tensor, objective: Objective, log_variances: Tensor) -> Tensor:
    """Returns the weighted sum of the losses (tasks,); a task of weight 0 is left out."""
    weights = losses.new_tensor(objective.weights)
    if objective.weighting == Weighting.FIXED:
        return (weights * losses).sum()
    counted = weights > 0
    return uncertainty_weighted((weights * losses)[counted], log_variances[counted])
