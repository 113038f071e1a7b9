"""The verb that compares rankers on a simulated store and writes two pages: one for whoever decides, one with everything."""

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
from models.studies.ranking.boosted import GRADED_TREES, PURCHASE_TREES
from models.studies.ranking.end_to_end import end_to_end_finding, end_to_end_sections, whole_searches
from models.studies.ranking.goals import goals, goals_section
from models.studies.ranking.learned import (
    IMPERSONAL,
    MULTI_TASK,
    KeptChances,
    Variant,
    answer_of,
    variants_of,
)
from models.studies.ranking.missing import FEATURES_ALONE, missing_section, taught_truth
from models.studies.ranking.page_metrics import Answer
from models.studies.ranking.page_summary import GRADED, Ranked
from models.studies.ranking.pages import PageSplit, RankingPages, read_pages
from models.studies.ranking.plain import FROZEN, RETRIEVAL, frozen_answer, plain_answers
from models.studies.ranking.position_bias import position_bias, position_section
from models.studies.ranking.sections import ORACLE, ORACLES, page_sections
from models.studies.ranking.served import SERVED, served_ranker
from models.studies.ranking.sparse import SHARES, sparse_curve, sparse_section, tree_answer
from models.studies.ranking.taught import Taught, TeacherPlan, taught_rankers, taught_section
from models.studies.ranking.truth import StoreTruth
from models.text_encoder.spec import EncoderError

DETAILS = "details"


@dataclass(frozen=True, slots=True)
class RankingPlan:
    """What to evaluate, and how much. `teacher` None: none is trained."""

    recipe: RankerRecipe = STARTER
    teacher: TeacherPlan | None = field(default_factory=TeacherPlan)
    max_test: int = 6_000  # pages
    max_searches: int = 6_000  # over the whole catalogue
    shares: tuple[float, ...] = SHARES  # of the purchase labels
    draws: int = 2  # of the labels, where they are few
    frozen_pages: int = 1_000  # of the test pages that MiniLM, as it came, is asked; 0: none
    seed: int = 0

    def quick(self) -> RankingPlan:
        """Minutes less, and figures less certain: fewer pages, steps of the curve and epochs, no frozen encoder and no teacher."""
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
    bundle: Bundle, store: Path, out: Path, progress: Progress, *, plan: RankingPlan = RankingPlan(), command: str = ""
) -> Path:
    """Writes report.html and report.json into `out`, all tables into `out/details`, and returns the path of the first.

    `bundle` has the unified model that learned from the simulated store in `store`; a ranker that it has is not asked, since it may have
    learned from the pages that are asked here: the recipe is trained anew on earlier ones. What was trained stays in `out/work`; the same
    call goes on where it was interrupted. Raises BundleError, LogError, TruthError.
    """
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    kept = KeptChances(work, progress)
    split = PageSplit(max_train=plan.recipe.max_pages, max_test=plan.max_test, seed=plan.seed)
    pages = read_pages(bundle, store, split, work, progress)
    truth = StoreTruth.read(store, bundle.products(), pages.since_ms)
    notes: list[str] = []
    variants = variants_of(plan.recipe)
    answers = _answers(bundle, pages, truth, variants, plan, kept, notes)
    ranker = served_ranker(bundle, store, pages, plan.recipe, work, progress, plan.seed)
    answers[SERVED] = Answer.of_chances(ranker.probabilities(pages.test_rows.features))
    ranked = Ranked(pages.test_rows, pages.units, answers, plan.seed)
    curve = sparse_curve(pages, variants, kept, plan.seed, shares=plan.shares, draws=plan.draws)
    bias = position_bias(
        pages,
        truth.of_pages(pages.train),
        truth.of_pages(pages.test),
        plan.recipe,
        kept,
        plan.seed,
        truth.log.parameters.look_exponent,
    )
    truths = taught_truth(pages, truth, kept, plan.seed)
    taught = _taught(bundle, pages, ranked, plan, kept, work, notes)
    searches = whole_searches(bundle, pages, truth, ranker, progress, max_searches=plan.max_searches, seed=plan.seed)
    progress("draw intervals", 0, None)
    reached = goals(ranked, ORACLE, curve, taught, plan.shares)
    finding = end_to_end_finding(searches)
    facts = _facts(bundle, pages, plan, command, notes)
    details: list[Section] = [
        *page_sections(ranked, pages.segments),
        sparse_section(curve, plan.shares),
        position_section(bias),
        missing_section(ranked, truths, ORACLE),
        *([taught_section(taught)] if taught is not None else []),
    ]
    progress("write the report", 0, None)
    write_sections(out / DETAILS, facts, _details_finding(ranked, truths), details, METHOD)
    first = dataclasses.replace(facts, notes=(*notes, f"All tables are in {DETAILS}/{HTML_FILE}."), recipe={})
    return write_sections(out, first, finding, [*end_to_end_sections(searches), goals_section(reached)], METHOD)


def _answers(
    bundle: Bundle,
    pages: RankingPages,
    truth: StoreTruth,
    variants: Sequence[Variant],
    plan: RankingPlan,
    kept: KeptChances,
    notes: list[str],
) -> dict[str, Answer]:
    known, anyone = (truth.of_pages(pages.test, knows_shopper=knows) for knows in (True, False))
    answers = dict(zip(ORACLES, (Answer.of_chances(known), Answer.of_chances(anyone)), strict=True))
    answers |= plain_answers(bundle, pages, kept)
    if plan.frozen_pages:
        try:
            answers[FROZEN] = frozen_answer(bundle, pages, kept, kept.folder, plan.frozen_pages)
        except EncoderError as error:
            notes.append(f"{FROZEN}, was left out: {error}.")
    for variant in variants:
        answers[variant.name] = answer_of(kept, variant, pages.train_rows, pages.test_rows.features, plan.seed)
    for name in (GRADED_TREES, PURCHASE_TREES):
        answers[name] = tree_answer(name, pages.train_rows, plan.recipe.holdout_share, pages.test_rows, kept, plan.seed)
    return answers


def _taught(
    bundle: Bundle,
    pages: RankingPages,
    ranked: Ranked,
    plan: RankingPlan,
    kept: KeptChances,
    work: Path,
    notes: list[str],
) -> Taught | None:
    if plan.teacher is None:
        notes.append("No teacher was trained.")
        return None
    try:
        return taught_rankers(bundle, pages, ranked, plan.recipe, plan.teacher, kept, work, plan.seed)
    except (EncoderError, ImportError) as error:
        notes.append(f"No teacher was trained: {error}.")
        return None


def _details_finding(ranked: Ranked, truths: Mapping[str, Answer]) -> str:
    ours, retrieval, oracle = (ranked.mean(name, "purchase") for name in (MULTI_TASK, RETRIEVAL, ORACLE))
    share, plain = ranked.share(MULTI_TASK, ORACLE, GRADED), ranked.difference(MULTI_TASK, IMPERSONAL, "purchase")
    ceiling = ranked.with_answers(truths).share(FEATURES_ALONE, ORACLE, GRADED)
    return (
        f"Over {ranked.rows.num_pages:,} later result pages {MULTI_TASK} orders purchases with NDCG@10 {ours.value:.3f}, the retrieval "
        f"score with {retrieval.value:.3f} and the oracle, who knows what shoppers want, with {oracle.value:.3f}. Personal features are "
        f"worth {plain.value:+.3f} ({plain.low:+.3f} to {plain.high:+.3f}). Of the oracle's graded NDCG of the whole page it reaches "
        f"{share.value:.1%}; what is taught the true chances instead of clicks, from the same features, reaches {ceiling.value:.1%}."
    )


def _facts(bundle: Bundle, pages: RankingPages, plan: RankingPlan, command: str, notes: Sequence[str]) -> RunFacts:
    def labels(of: str) -> str:
        shown = pages.train if of == "train" else pages.test
        clicks, carts, purchases = (int(count) for count in shown.labels.sum(axis=0))
        return f"{shown.num_pages:,} pages, {clicks:,} clicks, {carts:,} carts, {purchases:,} purchases"

    return RunFacts.of_this_run(
        "The ranker: click, cart and purchase learned together",
        simulated=True,
        command=command,
        data={
            "catalogue": bundle.manifest.name,
            "products": bundle.manifest.products,
            "learned from": labels("train"),
            "measured on": labels("test"),
            "test shoppers": len(set(pages.units.tolist())),
        },
        recipe={"ranker": asdict(plan.recipe), "teacher": asdict(plan.teacher) if plan.teacher is not None else None},
        seeds={"training, pages and intervals": plan.seed},
        notes=notes,
    )


METHOD = (
    "The pages are later than the training window of the unified model; rankers learned from the earlier of them and are measured on the "
    "later. The classifier of queries learned from what came before all of them. Products of equal score stand in an order drawn by lot. "
    "NDCG@10, MRR and MAP are means over the pages that have what is asked for; area under the ROC curve, log-loss and calibration error "
    "(15 bins of equal width) are of all shown products. The oracle orders by the simulation's own chances; of anonymous searches it knows "
    "the mean over shoppers alone. Logged labels owe something to the place at which a product stood, which no order here is told. "
    "Intervals draw shoppers, of anonymous ones sessions: 1,000 resamples for means, 200 for area and calibration; differences are paired "
    "by page. Differences are many: of twenty, one would leave 0 by chance."
)
