"""A network's calls on CUDA as captured graphs: launching a small transformer's kernels one by one costs more than running them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from models.arrays import Floats

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    staged: tuple[Tensor, ...]  # the inputs in the host's pinned memory
    inputs: tuple[Tensor, ...]
    output: Tensor


class CapturedCalls:
    """A network whose every padded shape is captured once and replayed. Safe to call from several threads: one lock, since the graphs
    share their memory, and each its inputs with its replays."""

    def __init__(
        self,
        network: Callable[..., Tensor],
        device: torch.device,
        padding: Callable[[int, int], tuple[Array, ...]],
    ) -> None:
        """`padding` makes the inputs of (batch, length) texts that say nothing; each must attend to something, or its softmax would be
        NaN. The network's output has a row for each text."""
        self._network, self._device, self._padding = network, device, padding
        self._captured: dict[tuple[int, int], _Captured] = {}
        self._pool: Any = None
        self._lock = threading.Lock()

    def __call__(self, arrays: Sequence[Array], shape: tuple[int, int]) -> Floats:
        """The network's output for inputs (batch, ...) that are padded to `shape`, (padded batch, padded length): (batch, ...)."""
        with self._lock, torch.inference_mode():
            captured = self._captured.get(shape) or self._capture(shape)
            for staged, on_device, blank, array in zip(
                captured.staged, captured.inputs, self._padding(*shape), arrays, strict=True
            ):
                blank[tuple(slice(size) for size in array.shape)] = array
                staged.copy_(torch.from_numpy(blank))
                on_device.copy_(staged, non_blocking=True)
            captured.graph.replay()
            found: Floats = captured.output[: len(arrays[0])].float().cpu().numpy()
            return found

    def _capture(self, shape: tuple[int, int]) -> _Captured:
        staged = tuple(torch.from_numpy(array).pin_memory() for array in self._padding(*shape))
        inputs = tuple(tensor.to(self._device) for tensor in staged)
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._network(*inputs)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # By default what other threads do on the device, such as a search, would spoil the capture.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            output = self._network(*inputs)
        self._pool = graph.pool()
        self._captured[shape] = _Captured(graph, staged, inputs, output)
        return self._captured[shape]


def rounded_up(value: int, steps: Sequence[int]) -> int:
    """The first of the ascending `steps` that is as large, or the value where none is."""
    return next((step for step in steps if value <= step), value)
