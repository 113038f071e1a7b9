"""Trains the bundle that is shipped: the measured one again, by the same recipe, on all events.

Retrieval and types learn from the whole log. The ranker does not learn from pages with the features of that retrieval: it knows their
clicks, and would look better than it is on any later page. It learns with the features of the measured retrieval, from all the pages that
came after the events of that one, and is put on the refitted retrieval, to which later pages are as new as those were to the measured one.
Its click memory, what it knows of the words of queries, and the products' popularity are those of the whole log.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.arrays import Progress
from models.bundles.bundle import Bundle
from models.bundles.extend import link_bundle
from models.bundles.resumable_stages import ResumableStages
from models.needs.matrix import RANKER, REFIT, TYPES
from models.needs.plan import Plan
from models.ranking.add_to_bundle import add_ranker
from models.ranking.feature_names import FEATURES
from models.train_all.stages import Makers

REFIT_UNIFIED, REFIT_TYPES, REFIT_RANKER = f"{REFIT}-unified", f"{REFIT}-types", f"{REFIT}-ranker"
REFIT_STAGES = (REFIT_UNIFIED, REFIT_TYPES, REFIT_RANKER, REFIT)


@dataclass(frozen=True, slots=True)
class Measured:
    """The measured bundle, and what it was made of."""

    bundle: Bundle
    retrieval: Bundle  # without a ranker
    teacher: Path | None
    key: str  # of the last stage: a hash of all that it was made from


def refit(after: Measured, make: Makers, plan: Plan, stages: ResumableStages, inputs: list[Any]) -> Bundle:
    """Returns the bundle of the last of REFIT_STAGES, each of which is kept. `inputs` are what all stages depend on."""
    recipe, run, key_of = make.recipe, stages.run, stages.key_of
    training = plan.to_json()
    folder = run(
        REFIT_UNIFIED,
        [inputs, asdict(recipe.unified), asdict(make.shop.bundle), training],
        lambda out, tell: make.unified(make.end_ms, training, out, tell),
    )
    last = REFIT_UNIFIED
    if plan.trains(TYPES):
        untyped = folder
        folder = run(
            REFIT_TYPES,
            [inputs, key_of(last), asdict(recipe.types)],
            lambda out, tell: make.types(untyped, make.end_ms, out, tell),
        )
        last = REFIT_TYPES
    if plan.trains(RANKER):
        typed = Bundle(folder)
        folder = run(
            REFIT_RANKER,
            [after.key, key_of(last), asdict(recipe.ranker), FEATURES],
            lambda out, tell: _ranker(after, typed, make, out, tell),
        )
        last = REFIT_RANKER
    made, version = Bundle(folder), after.bundle.manifest.version
    return Bundle(
        run(REFIT, [key_of(last), version], lambda out, _: link_bundle(made, out, catalogue={"measured": version}))
    )


def _ranker(after: Measured, refitted: Bundle, make: Makers, out: Path, progress: Progress) -> dict[str, Any]:
    pages = make.pages(after.retrieval, None, progress)
    trained = make.ranker(after.retrieval, pages, after.teacher, progress)
    ranker = trained.ranker.with_tables(make.query_attributes(refitted), pages.click_memory)
    add_ranker(refitted, ranker, out, report=trained.report, teacher=after.teacher)
    return {"pages": trained.report["pages"]}
