"""The teacher in PyTorch: on CUDA in bf16, on a CPU in fp32 as the numerical reference."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.arrays import Floats
from models.ranking.teacher.network import TeacherNetwork
from models.ranking.teacher.pair_tokens import PairBatch, TextSpec
from models.ranking.teacher.spec import TeacherSpec
from models.text_encoder.cuda_graphs import CapturedCalls, rounded_up

# Padded shapes on CUDA. Larger calls keep the device busy without a captured graph.
LENGTH_STEP = 8
BATCH_STEPS = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
MAX_CAPTURED_TOKENS = 32_768


class TorchNetwork:
    """Runs the network on any device. Safe to call from several threads."""

    def __init__(self, folder: Path, device: str, spec: TeacherSpec) -> None:
        where = torch.device(device)
        on_gpu = where.type == "cuda"
        num_features = len(spec.features)
        network = TeacherNetwork.load(folder, spec.pooling, num_features, spec.head)
        if on_gpu:
            network.encoder.to(torch.bfloat16)
        self._network, self._device = network.to(where), where
        self._longest = TextSpec.load(folder).max_tokens
        self._captured = CapturedCalls(self._network, where, partial(_padding, num_features)) if on_gpu else None
        self.max_call_tokens = 65_536 if on_gpu else 2_048
        self.warm_up_pairs: tuple[int, ...] = BATCH_STEPS[:-4] if on_gpu else (8, 8)
        self.name = f"torch {torch.cuda.get_device_name(where)} bf16" if on_gpu else "torch cpu fp32"

    @torch.inference_mode()
    def __call__(self, pairs: PairBatch, features: Floats) -> Floats:
        arrays = (pairs.ids, pairs.mask, pairs.segments, features)
        batch, length = pairs.ids.shape
        small = batch * length <= MAX_CAPTURED_TOKENS and batch <= BATCH_STEPS[-1]
        if self._captured is not None and small:
            padded = max(length, min(-(-length // LENGTH_STEP) * LENGTH_STEP, self._longest))
            return self._captured(arrays, (rounded_up(batch, BATCH_STEPS), padded))
        logits = self._network(*(torch.from_numpy(array).to(self._device) for array in arrays))
        values: Floats = logits.float().cpu().numpy()
        return values


def _padding(num_features: int, batch: int, length: int) -> tuple[npt.NDArray[Any], ...]:
    mask = np.zeros((batch, length), np.int64)
    mask[:, 0] = 1
    zeros = np.zeros((batch, length), np.int64)
    return zeros, mask, zeros.copy(), np.zeros((batch, num_features), np.float32)
