"""The specification of a trained teacher, and the protocol of what runs its network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from models.arrays import Floats
from models.errors import InputError
from models.ranking.recipe import Transfer
from models.ranking.teacher.pair_tokens import PairBatch
from models.ranking.teacher.probabilities import Calibration

Pooling = Literal["cls", "mean"]

TEACHER_FILE = "teacher.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class HeadSizes:
    """Sizes of the layers on top of the encoder."""

    features: int = 128  # hidden units of the network that reads the features
    bottom: int = 128  # the layer that joins text and features, shared by all tasks
    experts: int = 4  # 1 is a plain shared bottom without gates
    expert: int = 64
    tower: int = 32
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("features", "bottom", "experts", "expert", "tower"):
            if getattr(self, name) < 1:
                raise ValueError(f"head: {name} must be 1 or more, not {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"head: dropout must be 0 to below 1, not {self.dropout}")


class TeacherError(InputError):
    """A teacher cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSpec:
    """Everything about a teacher except its weights."""

    features: tuple[str, ...]  # names, in the order of the columns
    transfer: Transfer
    pooling: Pooling
    head: HeadSizes
    calibration: Calibration
    facts: dict[str, Any]  # base, recipe, seed, data, losses, entropies of the gates: for reports only

    def as_json(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "features": list(self.features),
            "transfer": self.transfer,
            "pooling": self.pooling,
            "head": {name: getattr(self.head, name) for name in HeadSizes.__slots__},
            "calibration": {"scales": list(self.calibration.scales), "shifts": list(self.calibration.shifts)},
            "facts": self.facts,
        }

    @classmethod
    def load(cls, folder: Path) -> TeacherSpec:
        """Reads TEACHER_FILE. Raises TeacherError for a folder without it and for another format."""
        try:
            values = json.loads((folder / TEACHER_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TeacherError(f"{folder} is no teacher: its {TEACHER_FILE} cannot be read ({error})") from None
        if values.get("format_version") != FORMAT_VERSION:
            raise TeacherError(
                f"{folder}: format_version is {values.get('format_version')}, this Aisle reads {FORMAT_VERSION}; train it again"
            )
        calibration = values["calibration"]
        return cls(
            features=tuple(values["features"]),
            transfer=Transfer(values["transfer"]),
            pooling=values["pooling"],
            head=HeadSizes(**values["head"]),
            calibration=Calibration(tuple(calibration["scales"]), tuple(calibration["shifts"])),
            facts=values["facts"],
        )

    def check_features(self, features: Sequence[str]) -> None:
        """Raises TeacherError, which lists the difference, unless the teacher was trained on these features in this order."""
        if tuple(features) != self.features:
            differ = sorted(set(features) ^ set(self.features)) or ["their order"]
            raise TeacherError(
                f"the teacher was trained on other features; what differs: {', '.join(differ)}; train it again"
            )


class Network(Protocol):
    """Computes logits (pairs, tasks) of pairs and their features (pairs, features). Safe to call from several threads."""

    name: str
    max_call_tokens: int
    warm_up_pairs: tuple[int, ...]  # batch sizes that prepare it for typical calls

    def __call__(self, pairs: PairBatch, features: Floats) -> Floats: ...
