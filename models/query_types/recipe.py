"""All that decides what a query-type model becomes, beside its examples and its seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from models.query_types.tokens import QueryHashing


class Variant(StrEnum):
    """Who shares a network, as arXiv 2410.07121 names them."""

    NU = "nu"  # nobody: one network per locale
    U_AG = "u_ag"  # all locales, and the network does not know which it is asked in
    U_AW = "u_aw"  # all locales, and it does


class LocaleInput(StrEnum):
    """How a U_AW network learns of the locale."""

    PREFIX = "prefix"  # a token of its own, and every word again as a word of this locale
    CONCAT = "concat"  # an embedding beside the query's, before the hidden layer
    HEADS = "heads"  # what each locale adds to the output layer


class Loss(StrEnum):
    SOFTMAX = "softmax"  # cross-entropy with the labels' even shares
    BCE = "bce"  # each type for itself
    ASYMMETRIC = "asymmetric"  # BCE that hardly counts easy negatives (Ridnik et al., 2021, arXiv 2009.14119)


ALL_LAYERS = -1


@dataclass(frozen=True, slots=True)
class EncoderTuning:
    """How a Hugging Face encoder becomes the encoder of queries, in place of hashed words and n-grams."""

    base: str = "minilm"  # as `models.text_encoder.hugging_face.find_encoder` takes it; in a trained model the name alone, without a path
    tuned_layers: int = ALL_LAYERS  # the topmost that learn; 0: none, each query is encoded once, before training
    # Of the head alone, on vectors as they are, before layers learn: else these spend their first steps on a head drawn at random (Kumar et
    # al., 2022, arXiv 2202.10054).
    probe_epochs: float = 0.0
    max_tokens: int = 32
    learning_rate: float = 5e-5  # of the layers; the recipe's own is that of what stands on them
    weight_decay: float = 0.01
    max_steps: int = 1_000_000
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of training; auto: bf16 where it is native

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
    # On what words mean in a locale beside what they mean anywhere (PREFIX): without it poor locales do worse than without a locale
    # (.828 against .844 of unseen queries right; 0.3: .849, 1: .857, 3: .855; of dialect traps .816, .783, .762, .705). Simulated.
    locale_penalty: float = 1.0
    locale_dropout: float = 0.2  # of the rows: answered without knowing the locale
    token_dropout: float = 0.1  # of the buckets, or of the encoder's tokens
    temperature: float = 1.5  # a locale of n rows is drawn n**(1/temperature) times; 1 draws as asked
    weight_power: float = 0.25  # a row counts weight**weight_power
    epochs: float = 6.0
    batch: int = 512
    learning_rate: float = 5e-3
    holdout_share: float = 0.1  # of the rows, to stop early and to calibrate
    patience: int = 3  # looks at the held-out rows without a gain, after which training stops
    sampled_types: int = (
        1024  # types drawn for a step of the softmax loss where there are more than twice as many; 0 scores all
    )
    precision: float = 0.8  # that predictions must have; what is less certain is abstained from
    encoder: EncoderTuning | None = None  # None: hashed words and n-grams; otherwise hashing and dim say nothing

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
        """From what `asdict` made of a recipe."""
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
RECIPES = {recipe.name: recipe for recipe in (STARTER, SMALL)}

# With a Hugging Face encoder: a head on vectors as they are; the upper half of MiniLM's layers, on a CPU; all, on a GPU.
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
