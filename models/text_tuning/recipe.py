"""The recipe of a tuned text encoder: all settings of a training other than the base, the data and the seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from models.text_tuning.mlm_recipe import MlmStage, Precision
from models.text_tuning.pairs import PairRules
from models.text_tuning.product_texts import TextFields

NegativeSource = Literal["bm25", "encoder"]


class Stage(StrEnum):
    """The training stages, in order. A pre-trained sentence encoder already has general similarity, which is therefore no stage."""

    MLM = "mlm"  # masked words of catalogue texts and queries
    CLICK = "click"  # queries and the products that they led to


class Variant(StrEnum):
    """The encoders that the paper compares."""

    RAW = "raw"  # a language model that was never trained for similarity, mean-pooled
    GENERAL = "general"  # a sentence encoder without tuning
    MLM = "mlm"
    CLICK = "click"
    MLM_CLICK = "mlm+click"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages to train; none for "raw" and "general", which are bases."""
        return tuple(stage for stage in Stage if stage in self.value.split("+"))


@dataclass(frozen=True, slots=True)
class HardNegatives:
    """Products near the query that nobody clicked for it, mined once before the stage."""

    source: NegativeSource = "encoder"
    each: int = 1  # drawn for each pair of a batch
    nearest: int = 30  # candidates that they are drawn from
    pool: int = 5_000  # clicked products that are searched
    # A negative that scores above this share of the mean score of the query's clicked products is taken for a positive. Only for "encoder",
    # since BM25 scores have no common scale.
    ceiling: float = 0.95

    def __post_init__(self) -> None:
        if self.source not in ("bm25", "encoder"):
            raise ValueError(f"hard negatives come from bm25 or encoder, not {self.source!r}")
        if not 1 <= self.each <= self.nearest:
            raise ValueError(f"each must be 1 to nearest {self.nearest}, not {self.each}")


@dataclass(frozen=True, slots=True)
class ClickStage:
    """Softmax of each pair's product against the products of the other pairs in the batch."""

    epochs: float = 1.0  # draws, in multiples of the number of pairs
    max_steps: int = 1_000_000
    batch: int = 64  # pairs
    learning_rate: float = 1e-4
    temperature: float = 0.05
    both_ways: bool = False  # also a softmax of each product over the batch's queries
    prefixes: tuple[int, ...] = ()  # Matryoshka: prefixes that are trained in addition to the full vectors
    hard: HardNegatives | None = None
    max_query_tokens: int = 32
    max_product_tokens: int = 48
    chunk: int = 64  # texts of similar length encoded together
    # Gradients by chunk (Gao et al., 2021, GradCache): memory for one chunk whatever the batch, at a third more compute.
    cached: bool = False

    def __post_init__(self) -> None:
        if self.batch < 2 or self.epochs <= 0 or self.max_steps < 1 or self.chunk < 1:
            raise ValueError(
                "click: batch must be 2 or more, epochs above 0, max_steps and chunk 1 or more, not "
                f"{self.batch}, {self.epochs}, {self.max_steps}, {self.chunk}"
            )
        if not self.temperature > 0:
            raise ValueError(f"click: temperature must be above 0, not {self.temperature}")
        if list(self.prefixes) != sorted(set(self.prefixes)) or any(prefix < 1 for prefix in self.prefixes):
            raise ValueError(f"click: prefixes must ascend from 1, not {self.prefixes}")

    def steps(self, num_pairs: int) -> int:
        return max(1, min(self.max_steps, round(self.epochs * num_pairs / self.batch)))


@dataclass(frozen=True, slots=True)
class TextRecipe:
    """`precision` "auto" is bf16 if the processor computes in it natively: with AMX a step takes 0.57 s instead of 1.37 s."""

    name: str
    pairs: PairRules = field(default_factory=PairRules)
    fields: TextFields = field(default_factory=TextFields)
    mlm: MlmStage = field(default_factory=lambda: MlmStage(steps=100))
    click: ClickStage = field(default_factory=ClickStage)
    precision: Precision = "auto"
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision must be auto, fp32 or bf16, not {self.precision!r}")


STARTER = TextRecipe(
    "starter", mlm=MlmStage(steps=40, max_tokens=32), click=ClickStage(max_steps=90, max_product_tokens=32)
)
SMALL = TextRecipe("small", mlm=MlmStage(steps=120), click=ClickStage(max_steps=400))
FULL = TextRecipe(
    "full",
    mlm=MlmStage(steps=5_000, batch=256, max_tokens=128),
    click=ClickStage(epochs=5, batch=1024, learning_rate=5e-5, max_product_tokens=128, max_query_tokens=64, chunk=256),
)
RECIPES = {recipe.name: recipe for recipe in (STARTER, SMALL, FULL)}
