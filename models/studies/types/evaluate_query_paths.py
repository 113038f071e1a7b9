"""The verb that measures on real queries whether a matching model knows which category paths fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from models.arrays import Bools, Doubles, Ints, Progress
from models.evaluation.bootstrap import Interval, statistic_intervals
from models.evaluation.page import Cell, Section, Table, write_sections
from models.evaluation.plots import groups_plot
from models.evaluation.run_facts import RunFacts
from models.query_types.match_paths import (
    MatchRecipe,
    Priors,
    QueryPaths,
    learn_dictionary,
    shared_rows,
    train_matcher,
)
from models.studies.types.query_paths import JudgedQueries, folds_by_query, read_query_paths
from models.studies.types.taxonomy import CATEGORIES, read_taxonomy_paths
from models.studies.types.type_tables import STATISTIC_RESAMPLES, string_units

MODEL, NO_DICTIONARY = "matcher", "matcher without dictionary"
PRIOR, OVERLAP, BM25 = "share that fits, by path", "n-gram overlap", "BM25"
METRICS = ("AUC", "F1", "macro F1", "calibration error")
_BINS = 10


@dataclass(frozen=True, slots=True)
class QueryPathsPlan:
    recipe: MatchRecipe = field(default_factory=MatchRecipe)
    num_folds: int = 5
    num_resamples: int = STATISTIC_RESAMPLES
    dictionary: Path | None = None  # folder of the taxonomy; None: none is learned from
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class PairScores:
    """What each model said of every pair; no model learned from the query of a pair that it scored."""

    by_model: Mapping[str, Doubles]  # model -> (pairs,)
    folds: Ints  # (pairs,)


def evaluate_query_paths(
    data_file: Path, out: Path, progress: Progress, *, plan: QueryPathsPlan = QueryPathsPlan(), command: str = ""
) -> Path:
    """Writes report.json and report.html into `out` and returns the path of the latter. Queries and judgements are real.

    Raises QueryPathsError, and TaxonomyError for a dictionary that cannot be read.
    """
    judged = read_query_paths(data_file)
    entries = read_taxonomy_paths(plan.dictionary, languages=set(judged.languages)) if plan.dictionary else []
    scored = _score(judged.pairs, entries, plan, progress)
    progress("draw intervals", 0, None)
    sections, finding = _report(judged, scored, plan.num_resamples, plan.seed)
    facts = RunFacts.of_this_run(
        "Which category paths fit real queries",
        simulated=False,
        command=command,
        data={
            "pairs": f"{len(judged.pairs):,}, of which {int(judged.pairs.fits.sum()):,} fit",
            "queries": len(set(judged.pairs.queries)),
            "paths": len(set(judged.pairs.paths)),
            "left out": f"{judged.num_repeated} repeated, {judged.num_disputed} judged both ways",
            "dictionary": f"{len(entries):,} names of {CATEGORIES}" if entries else "none",
        },
        recipe=asdict(plan.recipe),
        seeds={"training and intervals": plan.seed},
    )
    return write_sections(out, facts, finding, sections, _method(plan))


def _score(
    pairs: QueryPaths, entries: Sequence[tuple[str, tuple[str, ...]]], plan: QueryPathsPlan, progress: Progress
) -> PairScores:
    folds = folds_by_query(list(pairs.queries), plan.num_folds)
    start = learn_dictionary(entries, plan.recipe, seed=plan.seed, progress=progress) if entries else None
    found = {MODEL: np.empty(len(pairs)), PRIOR: np.empty(len(pairs))}
    if start is not None:
        found[NO_DICTIONARY] = np.empty(len(pairs))
    for fold in range(plan.num_folds):
        progress("train and ask", fold, plan.num_folds)
        known, asked = pairs.take(folds != fold), pairs.take(folds == fold)
        for name, table in ((MODEL, start), (NO_DICTIONARY, None)):
            if name in found:
                model = train_matcher(known, plan.recipe, start=table, seed=plan.seed)
                found[name][folds == fold] = model.probabilities(asked.queries, asked.paths)
        found[PRIOR][folds == fold] = Priors.count(known).features(asked.paths)[:, 0]
    found[OVERLAP] = shared_rows(pairs.queries, pairs.paths, plan.recipe)
    found[BM25] = _bm25(pairs, plan.recipe)
    order = [name for name in (MODEL, NO_DICTIONARY, PRIOR, OVERLAP, BM25) if name in found]
    return PairScores({name: found[name] for name in order}, folds)


def _bm25(pairs: QueryPaths, recipe: MatchRecipe) -> Doubles:
    """(pairs,) BM25 of the path among all paths, by words and their n-grams."""
    import bm25s

    def tokens(text: str) -> list[str]:
        return [str(row) for token in recipe.hashing.tokens(text) for row in recipe.hashing.buckets(token)]

    paths = list(dict.fromkeys(pairs.paths))
    number = {path: at for at, path in enumerate(paths)}
    index = bm25s.BM25()
    index.index([tokens(" ".join(path)) for path in paths], show_progress=False)
    scores = [
        index.get_scores(known)[number[path]]
        if (known := [one for one in tokens(query) if one in index.vocab_dict])
        else 0.0
        for query, path in zip(pairs.queries, pairs.paths, strict=True)
    ]
    return np.array(scores, np.float64)


def _report(judged: JudgedQueries, scored: PairScores, num_resamples: int, seed: int) -> tuple[list[Section], str]:
    fits = judged.pairs.fits.astype(np.float64)
    units = string_units(judged.pairs.queries)
    languages = np.array(judged.languages)
    rows_of = {name: np.flatnonzero(languages == name) for name in sorted(set(judged.languages))}
    overall = _measure(scored, fits, units, np.arange(len(fits)), num_resamples, seed)
    by_language = {name: _measure(scored, fits, units, rows, num_resamples, seed) for name, rows in rows_of.items()}
    others = [name for name in scored.by_model if name != MODEL]
    sections = [
        Section(
            "All pairs",
            "F1 is of the pairs that fit, macro F1 the mean of that and the F1 of those that do not. Yes to every pair has the F1 of the "
            "last row and tells nothing.",
            plots=[
                groups_plot(
                    {metric: {name: one[metric] for name, one in overall.items()} for metric in METRICS[:3]}, ""
                )
            ],
            tables=[
                _table(overall, "Every pair scored once, out of fold", fits),
                Table(
                    f"{MODEL} minus each, on the same pairs; bold where the 95 % interval does not hold 0",
                    "minus",
                    METRICS[:3],
                    [(name, _differences(scored, fits, units, name, num_resamples, seed)) for name in others],
                    signed=True,
                ),
            ],
        ),
        Section(
            "By language of the query",
            plots=[groups_plot({name: _only(one, "AUC") for name, one in by_language.items()}, "AUC")],
            tables=[
                Table(
                    metric,
                    "language",
                    ("pairs", "share that fits", *scored.by_model),
                    [
                        (name, [len(rows_of[name]), float(fits[rows_of[name]].mean()), *_only(one, metric).values()])
                        for name, one in by_language.items()
                    ],
                )
                for metric in METRICS[:3]
            ],
        ),
    ]
    finding = "AUC over real pairs: " + ", ".join(
        f"{name} {one['AUC'].value:.3f} [{one['AUC'].low:.3f}, {one['AUC'].high:.3f}]" for name, one in overall.items()
    )
    return sections, finding


def _measure(
    scored: PairScores, fits: Doubles, units: Ints, rows: Ints, num_resamples: int, seed: int
) -> dict[str, dict[str, Interval]]:
    """model -> metric, over these rows."""
    found = {}
    for name in scored.by_model:
        statistic = _statistic(scored, fits, name, rows)
        figures = statistic_intervals(statistic, units[rows], num_resamples=num_resamples, seed=seed)
        found[name] = dict(zip(METRICS, figures, strict=True))
    return found


def _differences(
    scored: PairScores, fits: Doubles, units: Ints, other: str, num_resamples: int, seed: int
) -> list[Interval]:
    rows = np.arange(len(fits))
    ours, theirs = _statistic(scored, fits, MODEL, rows), _statistic(scored, fits, other, rows)
    figures = statistic_intervals(
        lambda weights: ours(weights) - theirs(weights), units, num_resamples=num_resamples, seed=seed
    )
    return figures[:3]


def _statistic(scored: PairScores, fits: Doubles, name: str, rows: Ints) -> Callable[[Doubles], Doubles]:
    """METRICS as a function of how often each of the rows counts."""
    scores = scored.by_model[name]
    says = [(scores >= thresholds[scored.folds])[rows] for thresholds in best_thresholds(scores, fits, scored.folds)]
    right, mine = fits[rows], scores[rows]
    is_probability = name not in (OVERLAP, BM25)

    def statistic(weights: Doubles) -> Doubles:
        kept = weights > 0
        if len(np.unique(right[kept])) < 2:
            return np.full(len(METRICS), np.nan)
        truth, counted = right[kept], weights[kept]
        return np.array(
            [
                roc_auc_score(truth, mine[kept], sample_weight=counted),
                f1(truth, says[0][kept], counted),
                (f1(truth, says[1][kept], counted) + f1(1 - truth, ~says[1][kept], counted)) / 2,
                _calibration_error(truth, mine[kept], counted) if is_probability else np.nan,
            ]
        )

    return statistic


def f1(wanted: Doubles, said: Bools, weights: Doubles) -> float:
    """scikit-learn's `f1_score`, in a tenth of its time: every interval needs hundreds."""
    both = float((weights * wanted * said).sum())
    either = float((weights * (wanted + said)).sum())
    return 2 * both / either if either else 0.0


def best_thresholds(scores: Doubles, fits: Doubles, folds: Ints) -> tuple[Doubles, Doubles]:
    """(folds,) twice: the threshold from which a score says yes that has the best F1, and the best macro F1, on the *other* folds."""
    best = np.empty((2, int(folds.max()) + 1))
    for fold in range(best.shape[1]):
        others = folds != fold
        order = np.argsort(-scores[others], kind="stable")
        ranked, truth = scores[others][order], fits[others][order]
        found = np.cumsum(truth)
        said = np.arange(1, len(truth) + 1)
        yes, no = found[-1], len(truth) - found[-1]
        of_yes = 2 * found / (said + yes)
        missed = yes - found  # said to be no, and wrongly
        of_no = 2 * (len(truth) - said - missed) / np.maximum(len(truth) - said + no, 1)
        is_last = np.append(ranked[1:] != ranked[:-1], True)
        for at, worth in enumerate((of_yes, (of_yes + of_no) / 2)):
            best[at, fold] = ranked[np.argmax(np.where(is_last, worth, -1))]
    return best[0], best[1]


def _calibration_error(fits: Doubles, scores: Doubles, weights: Doubles) -> float:
    """Over bins of even width, as the share that fits is wanted at each probability."""
    bins = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    gaps = np.bincount(bins, weights * (scores - fits), _BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def _only(by_model: Mapping[str, Mapping[str, Interval]], metric: str) -> dict[str, Interval]:
    return {name: one[metric] for name, one in by_model.items()}


def _table(overall: Mapping[str, Mapping[str, Interval]], caption: str, fits: Doubles) -> Table:
    share = float(fits.mean())
    f1 = 2 * share / (1 + share)
    rows: list[tuple[str, Sequence[Cell]]] = [
        (name, [one[metric] for metric in METRICS]) for name, one in overall.items()
    ]
    return Table(caption, "model", METRICS, [*rows, ("yes to every pair", [0.5, f1, f1 / 2, None])])


def _method(plan: QueryPathsPlan) -> str:
    return (
        f"Pairs are divided into {plan.num_folds} folds by a hash of the query, so that no model scores a query that it learned "
        "from; paths recur. The threshold of F1, and that of macro F1, is the best on the other folds. Calibration error has "
        f"{_BINS} bins of even width. Paths are in English in every language, so an overlap of letters tells of English queries "
        f"and of names alone. Intervals are percentiles of {plan.num_resamples} bootstrap resamples of queries."
    )
