"""CUDA graphs of a network's calls: launching the kernels of a small transformer one by one costs more than running them."""

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
    """Captures a network once for each padded shape and replays it. Safe to call from several threads: one lock guards the graphs, which
    share their memory, and their inputs, which each replay reads."""

    def __init__(
        self,
        network: Callable[..., Tensor],
        device: torch.device,
        padding: Callable[[int, int], tuple[Array, ...]],
    ) -> None:
        """`padding` returns inputs for (batch, length) empty texts. Each must attend to one token, since a softmax over nothing is NaN. The
        network's output has a row for each text."""
        self._network, self._device, self._padding = network, device, padding
        self._captured: dict[tuple[int, int], _Captured] = {}
        self._pool: Any = None
        self._lock = threading.Lock()

    def __call__(self, arrays: Sequence[Array], shape: tuple[int, int]) -> Floats:
        """Pads inputs (batch, ...) to `shape`, (padded batch, padded length), and returns the network's output (batch, ...)."""
        with self._lock, torch.inference_mode():
            captured = self._captured.get(shape) or self._capture(shape)
            for staged, on_device, blank, array in zip(
                captured.staged, captured.inputs, self._padding(*shape), arrays, strict=True
            ):
                blank[tuple(slice(size) for size in array.shape)] = array
                staged.copy_(torch.from_numpy(blank))
                on_device.copy_(staged, non_blocking=True)
            captured.graph.replay()
            output: Floats = captured.output[: len(arrays[0])].float().cpu().numpy()
            return output

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
        # By default, work of other threads on the device, such as a search, would invalidate the capture.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            output = self._network(*inputs)
        self._pool = graph.pool()
        self._captured[shape] = _Captured(graph, staged, inputs, output)
        return self._captured[shape]


def rounded_up(value: int, steps: Sequence[int]) -> int:
    """Returns the first of the ascending `steps` that is at least `value`, or `value` if none is."""
    return next((step for step in steps if value <= step), value)
