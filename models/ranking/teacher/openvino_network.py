"""The teacher's network on a CPU."""

from __future__ import annotations

from pathlib import Path

from models.arrays import Floats
from models.ranking.teacher.pair_tokens import PairBatch
from models.text_encoder.openvino_session import OpenVinoSession
from models.text_encoder.spec import OPENVINO_FILE

MAX_CALL_TOKENS = 2048  # padded, about 50 pairs; bounds the memory of activations


class OpenVinoNetwork:
    """Runs the network in OpenVINO, in bf16 where the processor computes in it. Safe to call from several threads."""

    max_call_tokens = MAX_CALL_TOKENS
    warm_up_pairs: tuple[int, ...] = (8, 8)

    def __init__(self, folder: Path, threads: int = 0) -> None:
        self._session = OpenVinoSession(folder / OPENVINO_FILE, threads)
        self.name = self._session.name

    def __call__(self, pairs: PairBatch, features: Floats) -> Floats:
        return self._session(pairs.ids, pairs.mask, pairs.segments, features)
