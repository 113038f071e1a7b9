"""The losses of the unified model, as functions of scores and masks.

In all of them: scores (rows, columns) are cosines of searches and products; `positive` (rows,) is the column of the row's own product;
`allowed` (rows, columns) marks the negatives of each row, never its positive; `weight` (rows,) weighs the rows; the result is the
weighted mean over rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from models.errors import DegenerateLoss
from models.events.kinds import CART, CLICK, IMPRESSION, PURCHASE
from models.unified.recipe import HingeTargets


@dataclass(frozen=True, slots=True)
class NegativeSets:
    """The negatives and their current weights in the schedule."""

    allowed: Tensor  # (rows, columns) bool
    uniform: Tensor  # (columns,) weight of a column as a uniform negative; 0 if it is none
    hard: float  # weight of the hardest negatives of a row together; the uniform ones have 1
    hardest: int  # number of hardest negatives


def softmax_offsets(positive: Tensor, allowed: Tensor, log_expected: Tensor) -> Tensor:
    """Returns (rows, columns) the logQ correction of a sampled softmax: -log_expected, and -inf for columns that do not count.

    `log_expected` (rows, columns) or (columns,) is the log of the expected count of a column's product among the row's columns. Without it,
    popular products and products of the row's category, which are drawn often, would be pushed away.
    """
    counts = allowed.scatter(1, positive[:, None], True)
    return (-log_expected).expand_as(allowed).masked_fill(~counts, float("-inf"))


def softmax_loss(scores: Tensor, positive: Tensor, offsets: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
    """Returns the sampled softmax: cross-entropy of scale * score + offsets over the positive and the allowed columns."""
    logits = torch.addcmul(offsets, scores, scale)
    return _weighted_mean(F.cross_entropy(logits, positive, reduction="none"), weight)


def hinge_loss(
    scores: Tensor,
    positive: Tensor,
    kind: Tensor,
    threshold: Tensor,
    targets: HingeTargets,
    negatives: NegativeSets,
    weight: Tensor,
) -> Tensor:
    """Returns the multi-part hinge of Jha et al.: each kind of event has its own target, relative to one learned threshold.

    A click, cart or purchase must score at least threshold + its target; an impression without a click must lie between threshold +
    `impression` and threshold + `click`; a negative must lie below threshold + `negative`. Positives pull the threshold down and
    negatives push it up, so that it settles between the two and products below it can be pruned. Misses are squared.
    """
    own = scores.gather(1, positive[:, None])[:, 0]
    floors = scores.new_zeros(4)
    floors[IMPRESSION], floors[CLICK] = targets.impression, targets.click
    floors[CART], floors[PURCHASE] = targets.cart, targets.purchase
    too_low = F.relu(threshold + floors[kind] - own) ** 2
    too_high = F.relu(own - threshold - targets.click) ** 2 * (kind == IMPRESSION)
    excess = F.relu(scores - threshold - targets.negative) ** 2
    return _weighted_mean(too_low + too_high + _over_negatives(excess, negatives), weight)


def triplet_loss(scores: Tensor, positive: Tensor, margin: float, negatives: NegativeSets, weight: Tensor) -> Tensor:
    """Returns the triplet loss: how far negatives come within `margin` of the positive."""
    own = scores.gather(1, positive[:, None])
    return _weighted_mean(_over_negatives(F.relu(scores - own + margin), negatives), weight)


def _over_negatives(excess: Tensor, negatives: NegativeSets) -> Tensor:
    """Returns (rows,) the mean over uniform negatives plus `hard` times the mean over the hardest."""
    uniform = negatives.allowed * negatives.uniform
    total = (excess * uniform).sum(dim=1) / uniform.sum(dim=1).clamp(min=1e-9)
    if negatives.hard > 0:
        count = min(negatives.hardest, excess.shape[1])
        hardest = excess.masked_fill(~negatives.allowed, 0.0).topk(count, dim=1).values
        total = total + negatives.hard * hardest.mean(dim=1)
    return total


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1e-9)


def prefix_scores(searches: Tensor, products: Tensor, prefix: int) -> Tensor:
    """Returns cosines (rows, columns) of the first `prefix` dimensions of unit vectors."""
    if prefix == searches.shape[1]:
        return searches @ products.T
    return F.normalize(searches[:, :prefix], dim=1) @ F.normalize(products[:, :prefix], dim=1).T


def finite_or_raise(loss: Tensor, searches: Tensor, step: int) -> None:
    """Raises DegenerateLoss if the loss is not a number, or if all search vectors have become the same."""
    if not torch.isfinite(loss):
        raise DegenerateLoss(f"the loss at step {step} is {loss.item()}; lower learning_rate")
    spread = searches.detach().std(dim=0).sum().item()
    if searches.shape[0] > 1 and spread < 1e-4:
        raise DegenerateLoss(
            f"all search vectors are the same at step {step}; lower learning_rate or weigh the softmax"
        )
