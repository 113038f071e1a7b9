"""The recipe of a unified model: all settings of a training other than the data and the seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from models.unified.history import HistoryBlocks
from models.unified.words import WordHashing

TextBlock = Literal["none", "frozen", "tuned"]


@dataclass(frozen=True, slots=True)
class ProductBlocks:
    """The blocks of the product tower."""

    text: TextBlock = "frozen"  # the encoder of query generation; "tuned" trains it further
    graph: bool = True
    ngrams: bool = True
    ids: bool = True
    scalars: bool = True
    locale: bool = True

    def __post_init__(self) -> None:
        if self.text == "none" and not any((self.graph, self.ngrams, self.ids, self.scalars, self.locale)):
            raise ValueError("the product tower needs at least one block")


@dataclass(frozen=True, slots=True)
class TowerSizes:
    dim: int = 256
    prefixes: tuple[int, ...] = (64, 128, 256)  # Matryoshka: each prefix is a vector of its own
    token_dim: int = 128
    id_bits: int = 17  # 2**id_bits rows of the table of ids
    id_dim: int = 32
    locale_dim: int = 8
    product_hidden: int = 384
    query_hidden: int = 256
    mix_hidden: int = 256
    most_taste: float = 0.5  # maximum length of the taste added to the query's unit vector
    heads: int = 4  # of the shopper's attention
    readouts: int = 4  # read-out tokens of the shopper tower

    def __post_init__(self) -> None:
        if not self.prefixes or self.prefixes[-1] != self.dim or list(self.prefixes) != sorted(set(self.prefixes)):
            raise ValueError(f"prefixes must ascend to dim {self.dim}, not {self.prefixes}")
        if self.most_taste <= 0:
            raise ValueError(f"most_taste must be above 0, not {self.most_taste}")
        if self.token_dim % self.heads:
            raise ValueError(f"token_dim {self.token_dim} must be a multiple of heads {self.heads}")


@dataclass(frozen=True, slots=True)
class LossWeights:
    """The weights of the losses; 0 leaves a loss out."""

    softmax: float = 1.0
    hinge: float = 0.3
    triplet: float = 0.0

    def __post_init__(self) -> None:
        if min(self.softmax, self.hinge, self.triplet) < 0 or not max(self.softmax, self.hinge, self.triplet):
            raise ValueError(f"loss weights must be 0 or more and one of them more than 0, not {self}")


@dataclass(frozen=True, slots=True)
class HingeTargets:
    """Cosines relative to the learned pruning threshold."""

    purchase: float = 0.40
    cart: float = 0.35
    click: float = 0.30
    impression: float = 0.10  # shown and not clicked: relevant, but below a click
    negative: float = -0.10


@dataclass(frozen=True, slots=True)
class NegativeMix:
    """The number of negatives by source, and the weights at the end of the schedule (see `schedule`)."""

    uniform: int = 512  # drawn from the catalogue for each batch
    uniform_kin: int = 64  # drawn from each category with an example in the batch
    uniform_weight: float = 1.0
    in_batch_weight: float = 1.0
    kin: int = 64  # examples of one category that are batched together; 1 draws each by itself
    hardest_in_batch: int = 16  # per row, for the hinge and the triplet
    dynamic_weight: float = 0.0  # of hard negatives that the model itself ranks high; 0 mines none
    dynamic_per_row: int = 1
    dynamic_refreshes: int = 2
    dynamic_pool: int = 16_384  # products that are ranked when they are mined
    warm_up_share: float = 0.1  # of the steps, with uniform negatives only
    full_share: float = 0.5  # of the steps, after which the weights above apply; linear between the two

    def __post_init__(self) -> None:
        if self.uniform < 1 or self.uniform_kin < 0:
            raise ValueError(
                f"uniform must be 1 or more and uniform_kin 0 or more, not {self.uniform}, {self.uniform_kin}"
            )
        if not 0 <= self.warm_up_share <= self.full_share <= 1:
            raise ValueError(
                f"0 <= warm_up_share <= full_share <= 1 must hold, not {self.warm_up_share}, {self.full_share}"
            )


@dataclass(frozen=True, slots=True)
class QueryGeneration:
    """Pre-training of the text block: a small encoder and decoder learn to generate the query from the product's text."""

    dim: int = 128
    layers: int = 1
    heads: int = 4
    wide: int = 2  # width of the feed-forward layer, in multiples of `dim`
    vocabulary: int = 8_192  # most frequent words; the rest share hashed rows
    max_product_words: int = 16
    max_query_words: int = 6
    steps: int = 200
    batch: int = 128
    learning_rate: float = 1e-3


@dataclass(frozen=True, slots=True)
class UnifiedRecipe:
    name: str
    epochs: float = 4.0
    max_steps: int | None = None
    batch: int = 1024
    learning_rate: float = 2e-3
    hashing: WordHashing = field(default_factory=WordHashing)
    sizes: TowerSizes = field(default_factory=TowerSizes)
    products: ProductBlocks = field(default_factory=ProductBlocks)
    history: HistoryBlocks = field(default_factory=HistoryBlocks)
    losses: LossWeights = field(default_factory=LossWeights)
    hinge: HingeTargets = field(default_factory=HingeTargets)
    negatives: NegativeMix = field(default_factory=NegativeMix)
    query_generation: QueryGeneration = field(default_factory=QueryGeneration)
    graph_dim: int = 64
    folds: int = 4  # of the searches: the signals of each fold's examples come from the other folds
    kind_weights: tuple[float, float, float, float] = (0.0, 1.0, 1.5, 2.0)  # impression, click, cart, purchase
    impressions_per_positive: float = 0.1  # shown and not clicked, for the hinge
    train_share: float = 0.85  # of the log's events; later ones are for evaluation
    history_dropout: float = 0.2  # share of the rows that are treated as anonymous
    item_dropout: float = 0.3  # share of the history tokens: a shopper must not be recognised by unique items
    weight_decay: float = 0.0
    signal_dropout: float = 0.25  # share of the products that are treated as new
    # Days in which an event loses half its weight, as an example and in the signals, back from the end of the training window; 0: never.
    half_life_days: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.train_share < 1:
            raise ValueError(f"train_share must be between 0 and 1, not {self.train_share}")
        if self.half_life_days < 0:
            raise ValueError(f"half_life_days must be 0 or more, not {self.half_life_days}")
        if self.folds < 2:
            raise ValueError(f"folds must be 2 or more, not {self.folds}")
        if self.batch < 2 or self.epochs <= 0:
            raise ValueError(f"batch must be 2 or more and epochs above 0, not {self.batch}, {self.epochs}")


# Twelve times over its examples, a log of en-US with 500,000 events takes 727 steps; with its 26 other locales 4,053, and the purchases of
# Online Retail 3,990: they would take many minutes.
STARTER = UnifiedRecipe(
    "starter",
    epochs=12,
    max_steps=2_000,
    batch=512,
    query_generation=QueryGeneration(dim=64, heads=2, steps=80, batch=128),
    sizes=TowerSizes(token_dim=96, product_hidden=256),
    history=HistoryBlocks(4, 12, 12, 4),
)
SMALL = UnifiedRecipe("small")
FULL = UnifiedRecipe(
    "full",
    epochs=10,
    batch=4096,
    learning_rate=1e-3,
    hashing=WordHashing(bits=20),
    sizes=TowerSizes(token_dim=256, id_bits=20, product_hidden=1024, query_hidden=512, mix_hidden=512),
    products=ProductBlocks(text="tuned"),
    history=HistoryBlocks(8, 32, 32, 24),
    negatives=NegativeMix(uniform=8192, dynamic_weight=0.5, dynamic_refreshes=10, dynamic_pool=200_000),
    query_generation=QueryGeneration(
        dim=384,
        layers=4,
        heads=6,
        wide=4,
        vocabulary=32_768,
        max_product_words=64,
        max_query_words=12,
        steps=20_000,
        batch=512,
    ),
    graph_dim=128,
)
RECIPES = {recipe.name: recipe for recipe in (STARTER, SMALL, FULL)}
