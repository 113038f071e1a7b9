"""The recipe of a query classifier: all settings of a training other than the examples and the seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from models.query_types.tokens import QueryHashing


class Variant(StrEnum):
    """How locales share networks, in the names of arXiv 2410.07121."""

    NU = "nu"  # not: one network for each locale
    U_AG = "u_ag"  # one network for all locales, which ignores the locale
    U_AW = "u_aw"  # one network for all locales, which uses the locale


class LocaleInput(StrEnum):
    """How a U_AW network reads the locale."""

    PREFIX = "prefix"  # a token of the locale, and every word again as a word of this locale
    CONCAT = "concat"  # an embedding concatenated to the query's, before the hidden layer
    HEADS = "heads"  # an addition of each locale to the output layer


class Loss(StrEnum):
    SOFTMAX = "softmax"  # cross-entropy with equal shares of the labels
    BCE = "bce"  # each type by itself
    ASYMMETRIC = "asymmetric"  # BCE with little weight on easy negatives (Ridnik et al., 2021, arXiv 2009.14119)


ALL_LAYERS = -1


@dataclass(frozen=True, slots=True)
class EncoderTuning:
    """How a Hugging Face encoder is tuned to read queries, in place of hashed words and n-grams."""

    base: str = "minilm"  # as `models.text_encoder.hugging_face.find_encoder` takes it; in a trained model the name alone, without a path
    tuned_layers: int = ALL_LAYERS  # number of topmost layers that learn; 0: none, and queries are encoded once
    # Epochs of the head alone before layers learn, which would otherwise adapt to a random head first (Kumar et al., 2022, arXiv
    # 2202.10054).
    probe_epochs: float = 0.0
    max_tokens: int = 32
    learning_rate: float = 5e-5  # of the layers; the recipe's own is that of the head
    weight_decay: float = 0.01
    max_steps: int = 1_000_000
    precision: Literal["auto", "fp32", "bf16"] = (
        "auto"  # of training; auto: bf16 if the processor computes in it natively
    )

    def __post_init__(self) -> None:
        if self.tuned_layers < ALL_LAYERS:
            raise ValueError(f"tuned_layers must be {ALL_LAYERS} (all) or more, not {self.tuned_layers}")
        if self.probe_epochs < 0:
            raise ValueError(f"probe_epochs must be 0 or more, not {self.probe_epochs}")
        if self.max_tokens < 4 or self.max_steps < 1:
            raise ValueError(
                f"max_tokens must be 4 or more and max_steps 1 or more, not {self.max_tokens}, {self.max_steps}"
            )
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ValueError(
                f"learning_rate must be above 0 and weight_decay 0 or more, not {self.learning_rate}, {self.weight_decay}"
            )
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision must be auto, fp32 or bf16, not {self.precision!r}")


@dataclass(frozen=True, slots=True)
class TypesRecipe:
    name: str
    variant: Variant = Variant.U_AW
    locale_input: LocaleInput = LocaleInput.PREFIX
    hashing: QueryHashing = field(default_factory=QueryHashing)
    dim: int = 64
    hidden: int = 0  # width of a hidden layer; 0 is none
    locale_dim: int = 16  # of the concatenated embedding
    loss: Loss = Loss.SOFTMAX
    label_smoothing: float = 0.05
    focus: float = 4.0  # of the asymmetric loss: the exponent on negatives
    # On the locale's own vectors of words (PREFIX). Without it small locales do worse than without a locale: accuracy on unseen queries
    # 0.828 instead of 0.844 (with 0.3: 0.849, 1: 0.857, 3: 0.855; on words that differ by dialect 0.816, 0.783, 0.762, 0.705).
    # Simulated.
    locale_penalty: float = 1.0
    locale_dropout: float = 0.2  # share of the rows whose locale is hidden
    token_dropout: float = 0.1  # share of the buckets, or of the encoder's tokens
    temperature: float = 1.5  # a locale of n rows is drawn n**(1/temperature) times; 1 keeps the log's proportions
    weight_power: float = 0.25  # a row counts weight**weight_power
    epochs: float = 6.0
    batch: int = 512
    learning_rate: float = 5e-3
    holdout_share: float = 0.1  # of the rows, for early stopping and calibration
    patience: int = 3  # evaluations without improvement, after which training stops
    sampled_types: int = (
        1024  # types drawn for a step of the softmax loss where there are more than twice as many; 0 scores all
    )
    precision: float = 0.8  # required of predictions; the model abstains from less certain ones
    encoder: EncoderTuning | None = None  # None: hashed words and n-grams; otherwise hashing and dim are unused

    def __post_init__(self) -> None:
        if self.dim < 1 or self.hidden < 0 or self.locale_dim < 1:
            raise ValueError(
                f"dim and locale_dim must be 1 or more and hidden 0 or more, not {self.dim}, {self.locale_dim}, {self.hidden}"
            )
        for name in ("label_smoothing", "locale_dropout", "token_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to below 1, not {getattr(self, name)}")
        if not 0 < self.holdout_share <= 0.5:
            raise ValueError(f"holdout_share must be above 0 and at most 0.5, not {self.holdout_share}")
        if not 0 < self.precision < 1:
            raise ValueError(f"precision must be between 0 and 1, not {self.precision}")
        if self.temperature < 1:
            raise ValueError(f"temperature must be 1 or more, not {self.temperature}")
        for name in ("epochs", "learning_rate", "patience", "focus"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.batch < 2:
            raise ValueError(f"batch must be 2 or more, not {self.batch}")
        if self.variant == Variant.U_AW and self.locale_input == LocaleInput.CONCAT and not self.hidden:
            raise ValueError(
                "a concatenated locale needs a hidden layer: without one it cannot change what a word means"
            )
        if self.sampled_types < 0:
            raise ValueError(f"sampled_types must be 0 or more, not {self.sampled_types}")
        if self.encoder is not None:
            self._check_encoder(self.encoder)

    def _check_encoder(self, encoder: EncoderTuning) -> None:
        if self.variant == Variant.NU:
            raise ValueError("nu would be a whole encoder for each locale; take u_ag or u_aw, or nu without --encoder")
        if encoder.tuned_layers:
            return
        if self.variant == Variant.U_AW and self.locale_input == LocaleInput.PREFIX:
            raise ValueError(
                "an encoder of which no layer is tuned cannot learn what a prefix means; take concat or heads, or tuned_layers"
            )
        if self.token_dropout:
            raise ValueError(
                f"token_dropout must be 0 where no layer is tuned: queries are encoded once, not {self.token_dropout}"
            )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TypesRecipe:
        """Restores a recipe from its `asdict`."""
        hashing = {**values["hashing"], "ngrams": tuple(values["hashing"]["ngrams"])}
        encoder = values.get("encoder")
        return cls(
            **{
                **values,
                "variant": Variant(values["variant"]),
                "locale_input": LocaleInput(values["locale_input"]),
                "loss": Loss(values["loss"]),
                "hashing": QueryHashing(**hashing),
                "encoder": None if encoder is None else EncoderTuning(**encoder),
            }
        )


STARTER = TypesRecipe("starter")
SMALL = TypesRecipe("small", hashing=QueryHashing(bits=18), dim=128, epochs=10)
# Millions of distinct queries: four times the rows keep their words and n-grams apart as small's keep those of a quarter as many. The
# table takes 540 MB, mapped (2**21 rows of 128 float16, own and shared words). Larger batches cost the same a row and use more cores.
FULL = TypesRecipe("full", hashing=QueryHashing(bits=20), dim=128, epochs=10, batch=2048)
RECIPES = {recipe.name: recipe for recipe in (STARTER, SMALL, FULL)}

# With a Hugging Face encoder: a head on frozen vectors; the upper half of MiniLM's layers, for a CPU; all layers, for a GPU.
ENCODER_STARTER = TypesRecipe(
    "starter",
    locale_input=LocaleInput.CONCAT,
    hidden=256,
    locale_dim=32,
    token_dropout=0.0,
    epochs=20,
    batch=256,
    learning_rate=2e-3,
    encoder=EncoderTuning(tuned_layers=0),
)
ENCODER_SMALL = TypesRecipe(
    "small",
    hidden=256,
    epochs=3,
    batch=64,
    learning_rate=2e-3,
    encoder=EncoderTuning(tuned_layers=3, probe_epochs=20, learning_rate=2e-4, max_steps=300),
)
ENCODER_FULL = TypesRecipe(
    "full",
    hidden=256,
    epochs=10,
    batch=256,
    learning_rate=2e-3,
    encoder=EncoderTuning(probe_epochs=5, learning_rate=1e-4),
)
ENCODER_RECIPES = {recipe.name: recipe for recipe in (ENCODER_STARTER, ENCODER_SMALL, ENCODER_FULL)}
