"""Measures on real queries how well a matching model predicts which category paths fit."""

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
from models.query_types.match_paths import Dictionary, Priors, QueryPaths, shared_rows, train_matcher
from models.query_types.path_table import MatchRecipe
from models.studies.types.query_paths import JudgedQueries, folds_by_query, read_query_paths
from models.studies.types.taxonomy import CATEGORIES, read_taxonomy_paths
from models.studies.types.type_tables import STATISTIC_RESAMPLES, string_units

MODEL, NO_DICTIONARY = "matcher", "matcher without dictionary"
PRIOR, OVERLAP, BM25 = "base rate of the path", "n-gram overlap", "BM25"
METRICS = ("AUC", "F1", "macro F1", "calibration error")
_BINS = 10


@dataclass(frozen=True, slots=True)
class QueryPathsPlan:
    recipe: MatchRecipe = field(default_factory=MatchRecipe)
    num_folds: int = 5
    num_resamples: int = STATISTIC_RESAMPLES
    dictionary: Path | None = None  # folder of the taxonomy, to pretrain on; None: no pretraining
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class PairScores:
    """Out-of-fold scores of every pair: no model was trained on the query of a pair that it scores."""

    by_model: Mapping[str, Doubles]  # model -> (pairs,)
    folds: Ints  # (pairs,)


def evaluate_query_paths(
    data_file: Path, out: Path, progress: Progress, *, plan: QueryPathsPlan = QueryPathsPlan(), command: str = ""
) -> Path:
    """Writes report.json and report.html into `out` and returns the path of the HTML file. Queries and judgements are real.

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
            "left out": f"{judged.num_repeated} duplicates, {judged.num_disputed} with contradicting judgements",
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
    learned = Dictionary.learn(entries, plan.recipe, seed=plan.seed, progress=progress) if entries else None
    scores = {MODEL: np.empty(len(pairs)), PRIOR: np.empty(len(pairs))}
    if learned is not None:
        scores[NO_DICTIONARY] = np.empty(len(pairs))
    for fold in range(plan.num_folds):
        progress("train and score", fold, plan.num_folds)
        training, test = pairs.take(folds != fold), pairs.take(folds == fold)
        for name, dictionary in ((MODEL, learned), (NO_DICTIONARY, None)):
            if name in scores:
                model = train_matcher(training, plan.recipe, dictionary=dictionary, seed=plan.seed)
                scores[name][folds == fold] = model.probabilities(test.queries, test.paths)
        scores[PRIOR][folds == fold] = Priors.count(training).features(test.paths)[:, 0]
    scores[OVERLAP] = shared_rows(pairs.queries, pairs.paths, plan.recipe)
    scores[BM25] = _bm25(pairs, plan.recipe)
    order = [name for name in (MODEL, NO_DICTIONARY, PRIOR, OVERLAP, BM25) if name in scores]
    return PairScores({name: scores[name] for name in order}, folds)


def _bm25(pairs: QueryPaths, recipe: MatchRecipe) -> Doubles:
    """Returns (pairs,) the BM25 score of the path for the query, over words and their n-grams."""
    import bm25s

    def tokens(text: str) -> list[str]:
        return [str(row) for token in recipe.hashing.tokens(text) for row in recipe.hashing.buckets(token)]

    paths = list(dict.fromkeys(pairs.paths))
    number = {path: at for at, path in enumerate(paths)}
    index = bm25s.BM25()
    index.index([tokens(" ".join(path)) for path in paths], show_progress=False)
    scores = [
        index.get_scores(indexed)[number[path]]
        if (indexed := [token for token in tokens(query) if token in index.vocab_dict])
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
            "F1 is for fitting pairs; macro F1 is the mean of the F1 of fitting and of unfitting pairs. The last row is the trivial "
            "classifier that answers yes to every pair.",
            plots=[
                groups_plot(
                    {metric: {name: one[metric] for name, one in overall.items()} for metric in METRICS[:3]}, ""
                )
            ],
            tables=[
                _table(overall, "Every pair scored once, out of fold", fits),
                Table(
                    f"{MODEL} minus each other model, on the same pairs; bold where the 95 % interval excludes 0",
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
                    ("pairs", "share that fit", *scored.by_model),
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
    """Returns model -> metric over these rows."""
    measured = {}
    for name in scored.by_model:
        statistic = _statistic(scored, fits, name, rows)
        figures = statistic_intervals(statistic, units[rows], num_resamples=num_resamples, seed=seed)
        measured[name] = dict(zip(METRICS, figures, strict=True))
    return measured


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
    """Returns a function from the weights of the rows to METRICS."""
    scores = scored.by_model[name]
    predicted = [
        (scores >= thresholds[scored.folds])[rows] for thresholds in best_thresholds(scores, fits, scored.folds)
    ]
    labels, row_scores = fits[rows], scores[rows]
    is_probability = name not in (OVERLAP, BM25)

    def statistic(weights: Doubles) -> Doubles:
        kept = weights > 0
        if len(np.unique(labels[kept])) < 2:
            return np.full(len(METRICS), np.nan)
        truth, counted = labels[kept], weights[kept]
        return np.array(
            [
                roc_auc_score(truth, row_scores[kept], sample_weight=counted),
                f1(truth, predicted[0][kept], counted),
                (f1(truth, predicted[1][kept], counted) + f1(1 - truth, ~predicted[1][kept], counted)) / 2,
                _calibration_error(truth, row_scores[kept], counted) if is_probability else np.nan,
            ]
        )

    return statistic


def f1(labels: Doubles, predicted: Bools, weights: Doubles) -> float:
    """Returns scikit-learn's `f1_score` in a tenth of its time, because every interval needs hundreds."""
    both = float((weights * labels * predicted).sum())
    either = float((weights * (labels + predicted)).sum())
    return 2 * both / either if either else 0.0


def best_thresholds(scores: Doubles, fits: Doubles, folds: Ints) -> tuple[Doubles, Doubles]:
    """Returns (folds,) twice: the thresholds with the best F1 and with the best macro F1 on the *other* folds."""
    best = np.empty((2, int(folds.max()) + 1))
    for fold in range(best.shape[1]):
        others = folds != fold
        order = np.argsort(-scores[others], kind="stable")
        ranked, truth = scores[others][order], fits[others][order]
        true_positives = np.cumsum(truth)
        predicted = np.arange(1, len(truth) + 1)
        positives, negatives = true_positives[-1], len(truth) - true_positives[-1]
        f1_positive = 2 * true_positives / (predicted + positives)
        missed = positives - true_positives
        f1_negative = 2 * (len(truth) - predicted - missed) / np.maximum(len(truth) - predicted + negatives, 1)
        is_last = np.append(ranked[1:] != ranked[:-1], True)
        for at, quality in enumerate((f1_positive, (f1_positive + f1_negative) / 2)):
            best[at, fold] = ranked[np.argmax(np.where(is_last, quality, -1))]
    return best[0], best[1]


def _calibration_error(fits: Doubles, scores: Doubles, weights: Doubles) -> float:
    """Returns the expected calibration error over bins of equal width, so that every probability range counts."""
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
        f"Pairs are divided into {plan.num_folds} folds by a hash of the query, so that no model scores a query that it was trained "
        "on; paths recur across folds. The thresholds of F1 and of macro F1 are those that are best on the other folds. Calibration "
        f"error has {_BINS} bins of equal width. Paths are in English whatever the language of the query, so n-gram overlap only works for "
        "English queries and for proper names. "
        f"Intervals are percentiles of {plan.num_resamples} bootstrap resamples of queries."
    )
