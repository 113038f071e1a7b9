"""The compute of the encoder stage where a text encoder serves: texts to unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.arrays import Floats
from models.bundles.bundle import Bundle
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text

# Padded tokens of one batch. On two cores the time per query is level from 128 tokens on (0.54 to 0.65 ms), so a larger batch only makes
# the next one wait; a GPU needs far more to be busy.
CPU_BATCH_TOKENS = 384
CUDA_BATCH_TOKENS = 16_384


class TextStageEncoder:
    def __init__(self, bundle_folder: Path, device: str, threads: int, max_batch_tokens: int) -> None:
        self._encoder = TextEncoder(TEXT_ENCODER_PART.open(Bundle(bundle_folder)), device, threads)
        self.max_batch_cost = max_batch_tokens
        self.backend = self._encoder.backend.name

    def warm_up(self) -> None:
        self._encoder.warm_up(self.max_batch_cost)

    def compute(self, items: Sequence[Text]) -> Sequence[Floats | Exception]:
        return list(self._encoder.encode(items))
