"""The teacher in PyTorch: on CUDA in bf16, on a CPU in fp32 as the numerical reference; and its conversion for OpenVINO."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.arrays import Floats
from models.ranking.teacher.network import TeacherNetwork
from models.ranking.teacher.openvino_network import OpenVinoNetwork
from models.ranking.teacher.pair_tokens import PairBatch, TextSpec
from models.ranking.teacher.spec import TeacherSpec
from models.text_encoder.cuda_graphs import CapturedCalls, rounded_up
from models.text_encoder.export import EncoderError
from models.text_encoder.spec import OPENVINO_FILE

# bf16 in both places rounds differently; a logit of this difference moves a chance of 0.1 to 0.125.
MAX_LOGIT_DIFFERENCE = 0.25

# Padded shapes on CUDA. A call of more tokens keeps the device busy however it is launched.
LENGTH_STEP = 8
BATCH_STEPS = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
MAX_CAPTURED_TOKENS = 32_768


class TorchNetwork:
    """Runs on any device. Safe to call from several threads."""

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
        found: Floats = logits.float().cpu().numpy()
        return found


def _padding(num_features: int, batch: int, length: int) -> tuple[npt.NDArray[Any], ...]:
    mask = np.zeros((batch, length), np.int64)
    mask[:, 0] = 1
    zeros = np.zeros((batch, length), np.int64)
    return zeros, mask, zeros.copy(), np.zeros((batch, num_features), np.float32)


def save_openvino(network: TeacherNetwork, folder: Path, spec: TextSpec) -> float:
    """Writes the network for OpenVINO and returns how far its logits are from the original's at most, over pairs of random tokens. Raises
    EncoderError where it cannot be converted, or differs by more than MAX_LOGIT_DIFFERENCE."""
    import openvino

    network = network.float().eval().cpu()
    num_features = len(network.head.means)
    ones = torch.ones(2, 8, dtype=torch.int64)
    example = (ones, ones, torch.zeros_like(ones), torch.zeros(2, num_features))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about branches that do not depend on the text
        try:
            graph = openvino.convert_model(network, example_input=example)
        except Exception as error:
            raise EncoderError(f"the teacher cannot be converted: {str(error)[:500]}") from error
    openvino.save_model(graph, folder / OPENVINO_FILE, compress_to_fp16=True)
    return _difference(network, folder, spec)


def _difference(network: TeacherNetwork, folder: Path, spec: TextSpec) -> float:
    exported = OpenVinoNetwork(folder)
    vocabulary = network.encoder.get_input_embeddings().num_embeddings
    random = np.random.default_rng(0)
    largest = 0.0
    for batch, length in ((1, 5), (3, 9), (4, spec.max_tokens)):
        ids = random.integers(0, vocabulary, (batch, length))
        mask = np.ones((batch, length), np.int64)
        mask[-1, length // 2 :] = 0
        segments = np.full((batch, length), spec.num_segments - 1)
        segments[:, : length // 3] = 0
        features = random.normal(size=(batch, len(network.head.means)))
        features = network.head.means.numpy() + features / np.maximum(network.head.factors.numpy(), 1e-3)
        with torch.inference_mode():
            features = features.astype(np.float32)
            arrays = (torch.from_numpy(array) for array in (ids, mask, segments, features))
            expected = network(*arrays).numpy()
        largest = max(largest, float(np.abs(exported(PairBatch(ids, mask, segments), features) - expected).max()))
    if not largest <= MAX_LOGIT_DIFFERENCE:
        raise EncoderError(
            f"the converted teacher differs from the original: logits by {largest:.3f}, at most {MAX_LOGIT_DIFFERENCE} is allowed"
        )
    return largest
