"""What each stage of `train all` makes, on the events up to a given time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import Progress
from models.bundles.build import build_bundle
from models.bundles.bundle import Bundle
from models.events.event_log import EventLog, open_log
from models.query_types.add_to_bundle import add_types
from models.query_types.labels import label_log
from models.query_types.train_types import train_types
from models.ranking.distil import distil_ranker, train_teacher_on
from models.ranking.train_ranker import TrainedRanker, TrainingPages, read_pages, train_on
from models.text_tuning.train_text_encoder import train_text_encoder
from models.train_all.recipe import TEXT_STAGES, LoopRecipe
from models.train_all.shop import Shop
from models.unified.embed_products import UnifiedEmbedding
from models.unified.update import Update


@dataclass(frozen=True, kw_only=True)
class Makers:
    """Makes the folders of the stages from one shop. Times are in ms; events before `until_ms` are learned from."""

    shop: Shop
    recipe: LoopRecipe
    seed: int
    device: str

    @cached_property
    def log(self) -> EventLog:
        """The events of all logs."""
        return open_log(self.shop.logs)

    @property
    def end_ms(self) -> int:
        """A time after all events."""
        return int(self.log.time_ms[-1]) + 1

    def text(self, until_ms: int, out: Path, progress: Progress) -> dict[str, Any]:
        trained = train_text_encoder(
            self.shop.source,
            self.shop.logs,
            out,
            self.recipe.text,
            TEXT_STAGES,
            self.recipe.base,
            self.seed,
            progress,
            before_ms=until_ms,
            device=self.device,
        )
        return {"pairs": trained.pairs.pairs}

    def unified(
        self,
        until_ms: int,
        training: list[dict[str, Any]],
        out: Path,
        progress: Progress,
        *,
        update: Update | None = None,
    ) -> None:
        """Builds a bundle with the unified model; `training` is the plan that its manifest shows."""
        embedding = UnifiedEmbedding(
            self.shop.logs, self.recipe.unified, self.seed, self.device, until_ms=until_ms, update=update
        )
        learned = int(np.searchsorted(self.log.time_ms, until_ms))
        facts: Mapping[str, Any] = {"catalogue": {"training": training, "learned_events": learned}}
        build_bundle(self.shop.source, self.shop.bundle, out, progress, embedding=embedding, facts=facts)

    def types(self, unified: Path, until_ms: int, out: Path, progress: Progress) -> dict[str, Any]:
        bundle = Bundle(unified)
        category_of = bundle.products().category_by_id()
        progress("read the log", 0, None)
        until = datetime.fromtimestamp(until_ms / 1000, UTC)
        labelled = label_log(list(self.shop.logs), category_of, until=until)
        model = train_types(labelled.examples, self.recipe.types, seed=self.seed, progress=progress)
        add_types(bundle, model, out)
        return {"queries": len(labelled.examples)}

    def pages(self, bundle: Bundle, until_ms: int, progress: Progress) -> TrainingPages:
        """Reads the pages of teacher and ranker: those after the events that the bundle's retrieval has learned from, whose clicks would
        be in their own features otherwise."""
        return read_pages(bundle, self.log, self.recipe.ranker, seed=self.seed, progress=progress, until_ms=until_ms)

    def teacher(self, bundle: Bundle, pages: TrainingPages, base: str, out: Path, progress: Progress) -> None:
        recipe = self.recipe.teacher
        train_teacher_on(bundle, pages, out, recipe, base, seed=self.seed, progress=progress, device=self.device)

    def ranker(self, bundle: Bundle, pages: TrainingPages, teacher: Path | None, progress: Progress) -> TrainedRanker:
        """Trains a ranker on pages with the features of `bundle`, and on what the teacher says of them."""
        recipe = self.recipe.ranker
        if teacher is None:
            return train_on(pages, recipe, seed=self.seed, progress=progress)
        return distil_ranker(bundle, pages, teacher, recipe, seed=self.seed, progress=progress)
