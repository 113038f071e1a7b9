"""A trained teacher, which predicts probabilities from pairs and features: with OpenVINO on a CPU, with PyTorch on CUDA.

teacher.json          recipe, features, calibration, losses, facts of the training data
texts.json            how texts are tokenised, with tokenizer.json
openvino_model.xml    the network for a CPU, with its weights in .bin
config.json           the encoder, with network.safetensors, for PyTorch
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.arrays import Floats
from models.devices import cuda_is_usable
from models.ranking.teacher.openvino_network import OpenVinoNetwork
from models.ranking.teacher.pair_tokens import PairTokens, join_pairs, length_batches
from models.ranking.teacher.probabilities import nested_probabilities
from models.ranking.teacher.spec import Network, TeacherError, TeacherSpec
from models.unified.words import Ragged


class Teacher:
    """Predicts engagement of query-product pairs. Safe to call from several threads."""

    def __init__(self, spec: TeacherSpec, texts: PairTokens, network: Network) -> None:
        self.spec, self.texts, self.network = spec, texts, network

    @property
    def features(self) -> tuple[str, ...]:
        return self.spec.features

    @classmethod
    def load(
        cls, folder: Path, device: str = "auto", threads: int = 0, *, features: Sequence[str] | None = None
    ) -> Teacher:
        """Loads a teacher onto `device`: "auto" (CUDA if usable), "cpu" or "cuda"; `threads` 0 uses all cores.

        Raises TeacherError for a folder without a teacher, and for one that was trained on other features than the caller's `features`.
        """
        spec = TeacherSpec.load(folder)
        if features is not None:
            spec.check_features(features)
        if device == "auto":
            device = "cuda" if cuda_is_usable() else "cpu"
        network = OpenVinoNetwork(folder, threads) if device == "cpu" else _torch_network(folder, device, spec)
        return cls(spec, PairTokens.load(folder), network)

    def probabilities(self, queries: Ragged, products: Ragged, features: Floats) -> Floats:
        """Returns probabilities (rows, 3) of click, cart and purchase, with P(click) >= P(cart) >= P(purchase).

        Row r pairs the tokens of query r and of product r, made by `texts`, with the values r of `features` (rows, features). Raises
        ValueError for shapes that do not agree and for a feature that is not finite.
        """
        if features.shape != (len(products), len(self.features)):
            expected = (len(products), len(self.features))
            raise ValueError(f"features must have the shape {expected}, not {features.shape}")
        if not np.isfinite(features).all():
            at = self.features[int(np.argmin(np.isfinite(features).all(axis=0)))]
            raise ValueError(f"the feature {at} is not a finite number in every row")
        logits = np.empty((len(products), 3), np.float32)
        for rows in length_batches(queries.lengths + products.lengths, self.network.max_call_tokens):
            pairs = join_pairs(queries.take(rows), products.take(rows), self.texts.spec)
            logits[rows] = self.network(pairs, np.ascontiguousarray(features[rows], np.float32))
        return nested_probabilities(logits, self.spec.transfer, self.spec.calibration)

    def rerank(self, query: str, locale: str, products: Ragged, features: Floats) -> Floats:
        """Returns the probabilities (candidates, 3) of one search's candidates, whose tokens are `products`."""
        tokens = self.texts.queries([query], [locale])
        return self.probabilities(tokens.take(np.zeros(len(products), np.int64)), products, features)


def _torch_network(folder: Path, device: str, spec: TeacherSpec) -> Network:
    try:
        from models.ranking.teacher.torch_network import TorchNetwork
    except ImportError as error:
        raise TeacherError(f"device '{device}' needs {error.name}: pip install 'aisle[gpu]'") from error
    if not cuda_is_usable() and device.startswith("cuda"):
        raise TeacherError(f"device '{device}': this process sees no CUDA device; use 'auto' or 'cpu'")
    return TorchNetwork(folder, device, spec)
