"""Every setting of a teacher's training. Base, bundle, impressions and seed determine the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.ranking.recipe import Transfer, Weighting
from models.ranking.teacher.fields import Field
from models.ranking.teacher.spec import HeadSizes, Pooling
from models.text_tuning.mlm_recipe import MlmStage, Precision

SHORT_FIELDS = (Field("title", 18), Field("brand", 5), Field("category", 5), Field("price_minor", 1))
LONG_FIELDS = (Field("title", 32), Field("brand", 6), Field("category", 8), Field("price_minor", 1))


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts that the teacher reads. Fields that the catalogue lacks are left out. Which attributes are read follows from the catalogue:
    those whose values tell its products apart, see `models.products.attributes.informative`."""

    fields: tuple[Field, ...] = SHORT_FIELDS
    max_query_tokens: int = 16
    attributes: int = 4  # of the catalogue, at most
    attribute_tokens: int = 3
    prose_tokens: int = 0  # of the attribute with the most prose, such as a description; 0: none is read

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError("texts: fields may not be empty")
        if not 1 <= self.max_query_tokens <= 128:
            raise ValueError(f"texts: max_query_tokens must be 1 to 128, not {self.max_query_tokens}")
        if self.attributes < 0 or self.attribute_tokens < 1 or self.prose_tokens < 0:
            raise ValueError(
                "texts: attributes and prose_tokens must be 0 or more and attribute_tokens 1 or more, not "
                f"{self.attributes}, {self.prose_tokens}, {self.attribute_tokens}"
            )


@dataclass(frozen=True, slots=True)
class PageSample:
    """Which pages and rows the text stage learns from. The sample is stratified by pages with a purchase, with another engagement and with
    none; a page gives all engaged products and a few others. Importance weights undo the sampling, so that predictions stay calibrated."""

    pages: int | None = 4_000  # None: all
    bought_share: float = 0.45  # of the pages, if the log has that many
    engaged_share: float = 0.35
    others: int | None = 4  # unengaged products of a page; None: all

    def __post_init__(self) -> None:
        if (self.pages is not None and self.pages < 8) or (self.others is not None and self.others < 1):
            raise ValueError(f"sample: pages must be 8 or more and others 1 or more, not {self.pages}, {self.others}")
        if min(self.bought_share, self.engaged_share) < 0 or self.bought_share + self.engaged_share >= 1:
            raise ValueError(
                "sample: bought_share and engaged_share must be 0 or more and below 1 together, not "
                f"{self.bought_share}, {self.engaged_share}"
            )


@dataclass(frozen=True, slots=True)
class Objective:
    """The training loss: a weighted sum over tasks."""

    weighting: Weighting = Weighting.FIXED
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)  # click, cart, purchase
    pointwise: float = 1.0  # weight of the log-loss of every row
    listwise: float = 0.5  # weight of the softmax loss over each page

    def __post_init__(self) -> None:
        if min(*self.weights, self.pointwise, self.listwise) < 0 or not max(self.weights):
            raise ValueError(f"objective: weights must be 0 or more and one of them more than 0, not {self}")
        if not max(self.pointwise, self.listwise):
            raise ValueError("objective: pointwise or listwise must be more than 0")


@dataclass(frozen=True, slots=True)
class FeatureStage:
    """The head learns from features alone, on all pages, at a fraction of the text stage's cost. The text then only adds what features
    lack."""

    max_steps: int = 300
    pages: int = 64  # of a batch
    learning_rate: float = 2e-3
    epochs: float = 10.0  # of all pages, at most

    def __post_init__(self) -> None:
        if self.max_steps < 0 or self.pages < 1 or self.epochs <= 0:
            raise ValueError(
                "features: max_steps must be 0 or more, pages 1 or more and epochs above 0, not "
                f"{self.max_steps}, {self.pages}, {self.epochs}"
            )

    def steps(self, num_pages: int) -> int:
        return min(self.max_steps, max(1, round(self.epochs * num_pages / self.pages)))


@dataclass(frozen=True, slots=True)
class TextStage:
    """Encoder and head learn together from text and features."""

    epochs: float = 1.0  # of the sampled pages
    max_steps: int = 1_000_000
    pages: int = 12  # of a batch
    learning_rate: float = 1e-4  # of the encoder
    head_rate: float = 1e-3
    chunk: int = 32  # pairs of similar length that are encoded together

    def __post_init__(self) -> None:
        if self.epochs <= 0 or self.max_steps < 1 or self.pages < 1 or self.chunk < 1:
            raise ValueError(
                "text: epochs must be above 0, max_steps, pages and chunk 1 or more, not "
                f"{self.epochs}, {self.max_steps}, {self.pages}, {self.chunk}"
            )

    def steps(self, num_pages: int) -> int:
        return max(1, min(self.max_steps, round(self.epochs * num_pages / self.pages)))


@dataclass(frozen=True, slots=True)
class TeacherRecipe:
    """A teacher's recipe. `precision` "auto" is bf16 on processors that compute in it."""

    name: str
    texts: Texts = field(default_factory=Texts)
    layers: int | None = None  # kept of the base's encoder, evenly spread; None: all
    mlm: MlmStage | None = None  # None: the base keeps its general language
    sample: PageSample = field(default_factory=PageSample)
    head: HeadSizes = field(default_factory=HeadSizes)
    pooling: Pooling = "mean"
    transfer: Transfer = Transfer.CHAIN
    objective: Objective = field(default_factory=Objective)
    features: FeatureStage = field(default_factory=FeatureStage)
    text: TextStage = field(default_factory=TextStage)
    use_features: bool = True  # False: text alone
    use_text: bool = True  # False: features alone, a baseline
    use_position: bool = True  # an input in training only, so that position bias is not learned as relevance
    holdout_share: float = 0.1  # of the pages, for calibration
    weight_decay: float = 0.01
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.layers is not None and self.layers < 1:
            raise ValueError(f"layers must be 1 or more, not {self.layers}")
        if not 0 < self.holdout_share < 0.5:
            raise ValueError(f"holdout_share must be above 0 and below 0.5, not {self.holdout_share}")
        if self.pooling not in ("cls", "mean"):
            raise ValueError(f"pooling must be cls or mean, not {self.pooling!r}")
        if not (self.use_features or self.use_text):
            raise ValueError("use_features or use_text must be true")


STARTER = TeacherRecipe("starter", layers=2, sample=PageSample(pages=1_500), text=TextStage(pages=16))
# No stage "mlm": 120 steps took three minutes, its loss stayed at 6.6, and the teacher did not improve.
SMALL = TeacherRecipe("small", sample=PageSample(pages=4_000))
FULL = TeacherRecipe(
    "full",
    texts=Texts(LONG_FIELDS, 32, attributes=8, attribute_tokens=6, prose_tokens=64),
    mlm=MlmStage(steps=5_000, batch=256, max_tokens=128),
    sample=PageSample(pages=None, others=None),
    head=HeadSizes(features=256, bottom=256, experts=8, expert=128, tower=64),
    features=FeatureStage(max_steps=5_000, pages=512),
    text=TextStage(epochs=2.0, pages=32, learning_rate=5e-5, head_rate=5e-4, chunk=256),
)
RECIPES = {recipe.name: recipe for recipe in (STARTER, SMALL, FULL)}
