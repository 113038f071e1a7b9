"""What the teacher minimises, as functions of logits.

Everywhere: logits (rows, tasks) are of each task's chance, or under a chain of its chance given the task before; labels (rows, tasks)
are 0 or 1 and nested; a page is a run of rows that were shown together.
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


class LogChances(NamedTuple):
    yes: Tensor  # (rows, tasks) log of the chance
    no: Tensor  # (rows, tasks) log of 1 - chance


def log_chances(logits: Tensor, transfer: Transfer) -> LogChances:
    """Of each task over all rows. Under a chain a purchase's chance is that of a click, times that of a cart given a click, times that
    of a purchase given a cart (as in ESMM, Ma et al., 2018), so that rare purchases learn from many clicks and chances are nested."""
    if transfer == Transfer.NONE:
        return LogChances(F.logsigmoid(logits), F.logsigmoid(-logits))
    yes = F.logsigmoid(logits).cumsum(dim=1)
    return LogChances(yes, _log_of_rest(yes))


def _log_of_rest(logs: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0, of the two usual forms the one that is exact near each end."""
    below = logs.clamp(max=-1e-7)
    near_one = below > -math.log(2)
    # Each branch gets an argument that is harmless to it: the gradient of the one not taken would be NaN otherwise.
    near = torch.log(-torch.expm1(torch.where(near_one, below, below.new_tensor(-0.5))))
    far = torch.log1p(-torch.exp(torch.where(near_one, below.new_tensor(-1.0), below)))
    return torch.where(near_one, near, far)


def pointwise_loss(chances: LogChances, labels: Tensor, weight: Tensor) -> Tensor:
    """(tasks,) mean log-loss; `weight` (rows,) is what a row stands for."""
    losses = -(labels * chances.yes + (1 - labels) * chances.no)
    total: Tensor = (losses * weight[:, None]).sum(dim=0) / weight.sum().clamp(min=1e-9)
    return total


def listwise_loss(chances: LogChances, labels: Tensor, page: Tensor, num_pages: int, stands_for: Tensor) -> Tensor:
    """(tasks,) log-loss of choosing the page's chosen products among all that it showed, mean over the pages that have any.

    `page` (rows,) is 0 to num_pages - 1; `stands_for` (rows,) how many of the page's products a drawn one stands for, by which it counts
    in the softmax.
    """
    scores = chances.yes - chances.no
    index = page[:, None].expand_as(scores)
    most = scores.detach().new_full((num_pages, scores.shape[1]), -torch.inf)
    most = most.scatter_reduce(0, index, scores.detach(), "amax")
    shares = stands_for[:, None] * (scores - most[page]).exp()
    total = scores.new_zeros(num_pages, scores.shape[1]).scatter_add(0, index, shares)
    chosen = scores.new_zeros(num_pages, scores.shape[1]).scatter_add(0, index, labels)
    log_choice = scores - most[page] - total.clamp(min=1e-30).log()[page]
    of_page = -scores.new_zeros(num_pages, scores.shape[1]).scatter_add(0, index, labels * log_choice)
    has_any = chosen > 0
    mean: Tensor = (of_page / chosen.clamp(min=1.0)).sum(dim=0) / has_any.sum(dim=0).clamp(min=1)
    return mean


def weigh_tasks(losses: Tensor, objective: Objective, log_variances: Tensor) -> Tensor:
    """The tasks' losses (tasks,) as one; a task of weight 0 is left out."""
    weights = losses.new_tensor(objective.weights)
    if objective.weighting == Weighting.FIXED:
        return (weights * losses).sum()
    counted = weights > 0
    return uncertainty_weighted((weights * losses)[counted], log_variances[counted])
