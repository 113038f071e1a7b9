"""The recipe of masked-language modelling, which text encoders and teachers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class MlmStage:
    """Continued masked-language modelling: 80 % of the chosen tokens become [MASK], 10 % another token, 10 % stay."""

    steps: int
    batch: int = 64  # texts
    learning_rate: float = 5e-5
    masked: float = 0.15  # of the tokens
    query_share: float = 0.3  # of the texts
    max_tokens: int = 48

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise ValueError(f"mlm: steps and batch must be 1 or more, not {self.steps}, {self.batch}")
        if not 0 < self.masked < 1:
            raise ValueError(f"mlm: masked must be between 0 and 1, not {self.masked}")
        if not 0 <= self.query_share <= 1:
            raise ValueError(f"mlm: query_share must be 0 to 1, not {self.query_share}")
