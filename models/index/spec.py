"""The parameters with which a vector index is built and searched."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["exact", "ivf"]
Device = Literal["auto", "cpu", "cuda"]

# FAISS reads float16 vectors with SIMD in steps of 16 columns: one query over 20,000 vectors took 0.5 ms at 256 and 272 columns, 5.4 ms
# at 260.
COLUMN_STEP = 16


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """Parameters of an index. `num_lists`, `margin`, `k_factor` and `seed` apply to "ivf" alone."""

    kind: Kind = "exact"
    num_lists: int = 0
    margin: float = 0.25  # a list is read if its centroid's cosine is at most this far below the nearest centroid's
    k_factor: float = 4.0  # candidates refined for each requested neighbour
    seed: int = 0
    num_static: int = 0  # last columns of the vectors, which hold static features and are not part of the unit vector

    def __post_init__(self) -> None:
        if self.kind not in ("exact", "ivf"):
            raise ValueError(f'the index is of kind "{self.kind}", this Aisle reads "exact" and "ivf"')
        if self.margin <= 0 or self.k_factor < 1:
            raise ValueError(
                f"margin is {self.margin} and must be above 0, k_factor is {self.k_factor} and must be 1 or more"
            )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> IndexSpec:
        return cls(**values)


def num_columns(dim: int, num_features: int) -> int:
    """Returns the columns of vectors of `dim` dimensions with static features, padded to a width that FAISS reads fast."""
    return dim if not num_features else -(-(dim + num_features) // COLUMN_STEP) * COLUMN_STEP
