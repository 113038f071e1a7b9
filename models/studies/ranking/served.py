"""The ranker as `aisle train ranker` trains it, on logged pages and on retrieved candidates, with everything before the test pages."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from models.arrays import Progress
from models.bundles.bundle import Bundle
from models.events.event_log import open_log
from models.ranking.fit_ranker import RankerRows
from models.ranking.ranker import Ranker, RankerError
from models.ranking.recipe import RankerRecipe
from models.ranking.train_ranker import TrainingPages, ranker_rows, train_on
from models.ranking.unshown_pages import unshown_pages
from models.studies.ranking.learned import fingerprint
from models.studies.ranking.pages import RankingPages

SERVED = "multi-task, as served"


def served_ranker(
    bundle: Bundle,
    logs: Sequence[Path],
    pages: RankingPages,
    recipe: RankerRecipe,
    work: Path,
    progress: Progress,
    seed: int,
) -> Ranker:
    """Returns the trained ranker; an earlier call's is loaded from `work`."""
    key = [bundle.manifest.version, asdict(recipe), seed, fingerprint(pages.train_rows, pages.test_rows.features)]
    folder = work / f"ranker-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]}"
    try:
        return Ranker.load(folder)
    except RankerError:
        progress("retrieve unshown candidates", 0, None)
    log, unshown = open_log(logs), None
    for share, logged in ((recipe.found_pages, True), (recipe.clicked_pages, False)):
        candidates = unshown_pages(
            log,
            bundle,
            pages.learning,
            since_ms=pages.since_ms,
            until_ms=pages.test_since_ms,
            max_pages=round(share * pages.train.num_pages),
            logged=logged,
            seed=seed,
        )
        if candidates is not None:
            rows: RankerRows = ranker_rows(pages.learning, candidates, progress)
            unshown = rows if unshown is None else unshown.append(rows)
    training = TrainingPages(pages.train, pages.train_rows, unshown, pages.query_attributes, pages.click_memory, 0.0)
    trained = train_on(training, recipe, seed=seed, progress=progress)
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    trained.ranker.save(partial)
    partial.replace(folder)
    return Ranker.load(folder)
