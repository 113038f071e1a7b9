"""What the training loops of the ranker and of the query classifiers share: the learning rate, the number of threads, the report of
steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

StepProgress = Callable[[int, int], None]  # steps done, and steps in all

_WARM_UP_SHARE = 0.05  # of the steps, in which the rate rises
_LAST_RATE = 0.05  # share of the rate at the last step


def linear_rate(rate: float, step: int, steps: int) -> float:
    """Returns the learning rate at a step (from 0): a linear warm-up, then linearly down to a twentieth."""
    rise = min(1.0, (step + 1) / max(1.0, _WARM_UP_SHARE * steps))
    return rate * rise * (1 - (1 - _LAST_RATE) * step / steps)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Lets PyTorch compute in `count` threads: on a busy machine, several threads of a small step wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
