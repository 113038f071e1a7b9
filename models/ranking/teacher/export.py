"""The conversion of a teacher's network for OpenVINO. Needs the extra `aisle[train]`."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from models.ranking.teacher.network import TeacherNetwork
from models.ranking.teacher.openvino_network import OpenVinoNetwork
from models.ranking.teacher.pair_tokens import PairBatch, TextSpec
from models.text_encoder.spec import OPENVINO_FILE, EncoderError

# Both backends round to bf16, differently. A logit that differs by this much moves a probability of 0.1 to 0.125.
MAX_LOGIT_DIFFERENCE = 0.25


def save_openvino(network: TeacherNetwork, folder: Path, spec: TextSpec) -> float:
    """Writes the network for OpenVINO and returns the largest difference of its logits from the original's, over pairs of random tokens.
    Raises EncoderError for a network that cannot be converted, or differs by more than MAX_LOGIT_DIFFERENCE."""
    import openvino

    network = network.float().eval().cpu()
    num_features = len(network.head.means)
    ones = torch.ones(2, 8, dtype=torch.int64)
    example = (ones, ones, torch.zeros_like(ones), torch.zeros(2, num_features))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns about branches that do not depend on the text
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
