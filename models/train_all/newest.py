"""Teaches a bundle the events that came after its training: the refit of `train all`, and `train all --update`.

    unified   starts from the bundle's model: words, price bands and text block stay, the weights move a few steps on the new events and on
              as many older ones; popularity and graph are counted anew, and every product of the catalogue gets its vector
    types     trained again on the whole log
    ranker    kept, on the new retrieval; its click memory and what it knows of the words of queries are counted anew
    teacher   kept

The ranker does not learn from the new pages: with the features of a retrieval that knows their clicks it would look better than it is on
any later page. docs/training.md compares this with training anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.arrays import Progress
from models.bundles.bundle import Bundle
from models.bundles.extend import link_bundle
from models.bundles.resumable_stages import ResumableStages
from models.ranking.add_to_bundle import add_ranker
from models.ranking.bundle_part import RANKER_PART
from models.ranking.click_history import ClickHistory
from models.ranking.feature_names import FEATURES
from models.ranking.learn_query_attributes import learn_query_attributes
from models.ranking.parse_log import parse_log
from models.ranking.product_columns import ProductColumns
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.train_all.stages import Makers
from models.unified.bundle_part import UNIFIED_PART
from models.unified.update import Update


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """What learns, and what is new to it. The keys are hashes of all that its retrieval, and all of it, were made from."""

    name: str  # of the last stage, and before that of the others
    start: Bundle
    since_ms: int  # the retrieval of `start` has learned from what came before
    retrieval_key: str
    key: str
    trains_types: bool
    training: list[dict[str, Any]]  # stages that the manifest shows
    facts: Mapping[str, Any]  # of the manifest's catalogue

    @property
    def stages(self) -> tuple[str, ...]:
        return (*(f"{self.name}-{part}" for part in ("unified", "types", "ranker")), self.name)


def learn_newest(newest: Newest, make: Makers, stages: ResumableStages, inputs: list[Any]) -> Bundle:
    """Returns the bundle of the last stage, each of which is kept. `inputs` are the data and the seed.

    Files that stay the same are links to those of `newest.start`.
    """
    start, recipe, run, key_of = newest.start, make.recipe, stages.run, stages.key_of
    unified, types, ranker, last = newest.stages
    update = Update(UNIFIED_PART.open(start), newest.since_ms)
    folder = run(
        unified,
        [inputs, newest.retrieval_key, asdict(recipe.unified), asdict(make.shop.bundle), newest.training],
        lambda out, tell: make.unified(make.end_ms, newest.training, out, tell, update=update),
    )
    made = unified
    if newest.trains_types:
        untyped = folder
        folder = run(
            types,
            [key_of(made), asdict(recipe.types)],
            lambda out, tell: make.types(untyped, make.end_ms, out, tell),
        )
        made = types
    if RANKER_PART.is_in(start):
        typed = Bundle(folder)
        inputs = [key_of(made), newest.key, FEATURES]
        folder = run(ranker, inputs, lambda out, tell: _keep_ranker(start, typed, make, out, tell))
        made = ranker
    learned, facts = Bundle(folder), dict(newest.facts)
    return Bundle(
        run(last, [key_of(made), facts], lambda out, _: link_bundle(learned, out, catalogue=facts, same_as=start))
    )


def _keep_ranker(start: Bundle, learned: Bundle, make: Makers, out: Path, progress: Progress) -> None:
    """Puts the ranker of `start`, with the counts of the whole log, on the retrieval of `learned`."""
    progress("count clicks", 0, None)
    table = learned.products()
    log = parse_log(make.log, table)
    memory = ClickHistory.from_events(log.events).memory(table, make.end_ms)
    asked = learn_query_attributes(log, table, ProductColumns.from_bundle(learned), until_ms=make.end_ms)
    facts = start.manifest.ranker
    report = {**facts, "clicks_until_ms": make.end_ms, "holdout_calibration_error": facts.get("calibration_error", {})}
    teacher = TEACHER_PART.open(start) if TEACHER_PART.is_in(start) else None
    ranker = RANKER_PART.open(start).with_tables(asked, memory)
    add_ranker(learned, ranker, out, report=report, teacher=teacher)
