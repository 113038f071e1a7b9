"""Compares rankers on later result pages and writes two reports: a short one for decision makers and one with every table.

On a simulated store the oracle is one of the rankers, and what needs the simulation's truth is measured too: position bias, the gap to the
oracle, expected purchases."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from models.arrays import Progress
from models.bundles.bundle import Bundle
from models.evaluation.page import HTML_FILE, Section, write_sections
from models.evaluation.run_facts import RunFacts
from models.ranking.recipe import STARTER, RankerRecipe
from models.sample_store import LogParameters, SharedParameters
from models.studies.ranking.boosted import GRADED_TREES, PURCHASE_TREES
from models.studies.ranking.distillation import Distilled, TeacherPlan, distil_rankers, distillation_section
from models.studies.ranking.end_to_end import end_to_end_finding, end_to_end_sections, whole_searches
from models.studies.ranking.goals import check_goals, goals_section
from models.studies.ranking.learned import (
    IMPERSONAL,
    MULTI_TASK,
    ScoreCache,
    Variant,
    variant_scores,
    variants_of,
)
from models.studies.ranking.oracle_gap import FEATURES_ALONE, oracle_gap_section, truth_trained_scores
from models.studies.ranking.page_metrics import RankerScores
from models.studies.ranking.page_summary import GRADED, Ranked
from models.studies.ranking.pages import PageSplit, RankingPages, read_pages
from models.studies.ranking.position_bias import position_bias, position_section
from models.studies.ranking.sections import ORACLE, ORACLES, page_sections
from models.studies.ranking.served import SERVED, served_ranker
from models.studies.ranking.sparse import SHARES, sparse_curve, sparse_section, tree_scores
from models.studies.ranking.truth import StoreTruth
from models.studies.ranking.untrained import FROZEN, RETRIEVAL, frozen_scores, untrained_scores
from models.text_encoder.spec import EncoderError

DETAILS = "details"


@dataclass(frozen=True, slots=True)
class RankingPlan:
    """What to evaluate, and how much. `teacher` None: no teacher is trained."""

    recipe: RankerRecipe = STARTER
    teacher: TeacherPlan | None = field(default_factory=TeacherPlan)
    max_test: int = 6_000  # pages
    max_searches: int = 6_000  # over the whole catalogue
    shares: tuple[float, ...] = SHARES  # of the purchase labels
    draws: int = 2  # samples of the labels at each small share
    frozen_pages: int = 1_000  # test pages that the untuned MiniLM ranks; 0: none
    seed: int = 0

    def quick(self) -> RankingPlan:
        """Returns a plan that saves minutes for wider intervals: fewer pages, shares and epochs, no frozen encoder, no teacher."""
        recipe = dataclasses.replace(
            self.recipe, epochs=min(self.recipe.epochs, 8.0), max_pages=min(self.recipe.max_pages, 2_000)
        )
        return dataclasses.replace(
            self,
            recipe=recipe,
            teacher=None,
            max_test=1_500,
            max_searches=600,
            shares=(0.1, 1.0),
            draws=1,
            frozen_pages=0,
        )


def evaluate_ranking(
    bundle: Bundle,
    logs: Sequence[Path],
    out: Path,
    progress: Progress,
    *,
    truth_of: Path | None = None,
    plan: RankingPlan = RankingPlan(),
    command: str = "",
) -> Path:
    """Writes report.html and report.json into `out`, all tables into `out/details`, and returns the path of the first.

    `bundle` needs a unified model of the shop of `logs`; pages are those of the first. `truth_of` is the simulated store that wrote it.
    The bundle's own ranker is not used, because it may have been trained on the test pages: the recipe is trained again on earlier pages.
    Trained models stay in `out/work`, so an interrupted call can be repeated and resumes. Raises BundleError, LogError, TruthError.
    """
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    cache = ScoreCache(work, progress)
    split = PageSplit(max_train=plan.recipe.max_pages, max_test=plan.max_test, seed=plan.seed)
    pages = read_pages(bundle, logs, split, work, progress)
    truth = StoreTruth.read(truth_of, bundle.products(), pages.since_ms) if truth_of else None
    notes = [] if truth else [WITHOUT_TRUTH]
    variants = variants_of(plan.recipe)
    rankers = _ranker_scores(bundle, pages, truth, variants, plan, cache, notes)
    ranker = served_ranker(bundle, logs, pages, plan.recipe, work, progress, plan.seed)
    rankers[SERVED] = RankerScores.from_probabilities(ranker.probabilities(pages.test_rows.features))
    ranked = Ranked(pages.test_rows, pages.units, rankers, plan.seed)
    curve = sparse_curve(pages, variants, cache, plan.seed, shares=plan.shares, draws=plan.draws)
    by_truth, truths = _sections_of_truth(pages, ranked, truth, cache, plan) if truth else ([], {})
    taught = _taught(bundle, pages, ranked, plan, cache, work, notes)
    searches = whole_searches(bundle, pages, truth, ranker, progress, max_searches=plan.max_searches, seed=plan.seed)
    progress("draw intervals", 0, None)
    goals = check_goals(ranked, ORACLE, curve, taught, plan.shares)
    finding = end_to_end_finding(searches)
    facts = _facts(bundle, pages, plan, command, notes, simulated=truth is not None)
    details: list[Section] = [
        *page_sections(ranked, pages.segments),
        sparse_section(curve, plan.shares),
        *by_truth,
        *([distillation_section(taught)] if taught is not None else []),
    ]
    progress("write the report", 0, None)
    write_sections(out / DETAILS, facts, _details_finding(ranked, truths), details, METHOD)
    first = dataclasses.replace(facts, notes=(*notes, f"All tables are in {DETAILS}/{HTML_FILE}."), recipe={})
    return write_sections(out, first, finding, [*end_to_end_sections(searches), goals_section(goals)], METHOD)


def _sections_of_truth(
    pages: RankingPages, ranked: Ranked, truth: StoreTruth, cache: ScoreCache, plan: RankingPlan
) -> tuple[list[Section], Mapping[str, RankerScores]]:
    """Returns the sections on position bias and on the gap to the oracle, and the rankers that learned from the truth."""
    bias = position_bias(
        pages,
        truth.for_pages(pages.train),
        truth.for_pages(pages.test),
        plan.recipe,
        cache,
        plan.seed,
        _look_exponent(truth.log.parameters),
    )
    truths = truth_trained_scores(pages, truth, cache, plan.seed)
    return [position_section(bias), oracle_gap_section(ranked, truths, ORACLE)], truths


def _ranker_scores(
    bundle: Bundle,
    pages: RankingPages,
    truth: StoreTruth | None,
    variants: Sequence[Variant],
    plan: RankingPlan,
    cache: ScoreCache,
    notes: list[str],
) -> dict[str, RankerScores]:
    rankers: dict[str, RankerScores] = {}
    if truth is not None:
        for name, knows in zip(ORACLES, (True, False), strict=True):
            rankers[name] = RankerScores.from_probabilities(truth.for_pages(pages.test, knows_shopper=knows))
    rankers |= untrained_scores(bundle, pages, cache)
    if plan.frozen_pages:
        try:
            rankers[FROZEN] = frozen_scores(bundle, pages, cache, cache.folder, plan.frozen_pages)
        except EncoderError as error:
            notes.append(f"{FROZEN}, was left out: {error}.")
    for variant in variants:
        rankers[variant.name] = variant_scores(cache, variant, pages.train_rows, pages.test_rows.features, plan.seed)
    for name in (GRADED_TREES, PURCHASE_TREES):
        rankers[name] = tree_scores(
            name, pages.train_rows, plan.recipe.holdout_share, pages.test_rows, cache, plan.seed
        )
    return rankers


def _taught(
    bundle: Bundle,
    pages: RankingPages,
    ranked: Ranked,
    plan: RankingPlan,
    cache: ScoreCache,
    work: Path,
    notes: list[str],
) -> Distilled | None:
    if plan.teacher is None:
        notes.append("No teacher was trained.")
        return None
    try:
        return distil_rankers(bundle, pages, ranked, plan.recipe, plan.teacher, cache, work, plan.seed)
    except (EncoderError, ImportError) as error:
        notes.append(f"No teacher was trained: {error}.")
        return None


def _details_finding(ranked: Ranked, truths: Mapping[str, RankerScores]) -> str:
    ours, retrieval = (ranked.mean(name, "purchase") for name in (MULTI_TASK, RETRIEVAL))
    plain = ranked.difference(MULTI_TASK, IMPERSONAL, "purchase")
    found = (
        f"On {ranked.rows.num_pages:,} later result pages, NDCG@10 of purchases is {ours.value:.3f} for {MULTI_TASK} and "
        f"{retrieval.value:.3f} for the retrieval score. Personal features contribute {plain.value:+.3f} ({plain.low:+.3f} to "
        f"{plain.high:+.3f})."
    )
    if ORACLE not in ranked.scores:
        return found
    share, oracle = ranked.share(MULTI_TASK, ORACLE, GRADED), ranked.mean(ORACLE, "purchase")
    ceiling = ranked.with_rankers(truths).share(FEATURES_ALONE, ORACLE, GRADED)
    return (
        f"{found} The oracle, which knows what shoppers want, has {oracle.value:.3f}. {MULTI_TASK} reaches {share.value:.1%} of the "
        "oracle's graded NDCG of the whole page; the same features trained on the true probabilities instead of clicks reach "
        f"{ceiling.value:.1%}."
    )


def _look_exponent(parameters: SharedParameters) -> float:
    """Returns how fast examination falls with the place. Other families than "additive" have no such exponent; the study then draws its
    clicks as "additive" does by default."""
    return (parameters if isinstance(parameters, LogParameters) else LogParameters()).look_exponent


def _facts(
    bundle: Bundle, pages: RankingPages, plan: RankingPlan, command: str, notes: Sequence[str], *, simulated: bool
) -> RunFacts:
    def labels(of: str) -> str:
        shown = pages.train if of == "train" else pages.test
        clicks, carts, purchases = (int(count) for count in shown.labels.sum(axis=0))
        return f"{shown.num_pages:,} pages, {clicks:,} clicks, {carts:,} carts, {purchases:,} purchases"

    return RunFacts.of_this_run(
        "The multi-task ranker: click, cart and purchase",
        simulated=simulated,
        command=command,
        data={
            "catalogue": bundle.manifest.name,
            "products": bundle.manifest.products,
            "trained on": labels("train"),
            "measured on": labels("test"),
            "test shoppers": len(set(pages.units.tolist())),
        },
        recipe={"ranker": asdict(plan.recipe), "teacher": asdict(plan.teacher) if plan.teacher is not None else None},
        seeds={"training, pages and intervals": plan.seed},
        notes=notes,
    )


WITHOUT_TRUTH = (
    "The log is no simulation's: left out are the oracles and the gap to them, position bias, and expected purchases, which need the truth "
    "behind the clicks."
)
METHOD = (
    "All pages are later than the training window of the unified model and of the query classifier. Rankers were trained on the earlier "
    "pages and are measured on the later ones. Products of equal score are ordered at random. NDCG@10, MRR and MAP are means over the "
    "pages that have a positive label. Area under the ROC curve, log-loss and calibration error (15 bins of equal width) are over all "
    "shown products. The oracle of a simulated store orders by the simulation's own probabilities; for anonymous searches it knows only "
    "their mean over shoppers. Logged labels are biased by the place of the product, which no ranker sees. Intervals resample shoppers, "
    "and sessions of anonymous ones: 1,000 resamples for means, 200 for area and calibration. Differences are paired by page. There are "
    "many of them: even without any effect, about one in twenty intervals would exclude 0 by chance."
)
