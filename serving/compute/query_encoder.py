"""The compute of the encoder stage where the unified model serves, and its light tower, which all stages of a process share."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from models.arrays import Floats
from models.bundles.bundle import Bundle
from models.text_encoder.spec import Text
from models.unified.bundle_part import UNIFIED_PART
from models.unified.history import MAX_QUERY_WORDS
from models.unified.light_tower import LightTower

MAX_BATCH_WORDS = 64 * MAX_QUERY_WORDS


@functools.lru_cache(maxsize=2)
def light_tower(bundle_folder: Path) -> LightTower:
    """Returns the bundle's light tower, one for the whole process: its table of words is tens of megabytes."""
    return LightTower(UNIFIED_PART.open(Bundle(bundle_folder)))


class LightQueryEncoder:
    max_batch_cost = MAX_BATCH_WORDS
    backend = "numpy cpu fp32"

    def __init__(self, bundle_folder: Path) -> None:
        self._tower = light_tower(bundle_folder)

    def warm_up(self) -> None:
        self.compute([Text("a"), Text("b")])

    def compute(self, items: Sequence[Text]) -> Sequence[Floats | Exception]:
        return list(self._tower.encode_queries([(item.text, item.locale) for item in items]))
