"""Measures the effect of query types on a search: boosting by predicted types or filtering by them, also where the classifier is wrong.

Products are ranked in memory by the bundle's own vectors, as the service does with an exact index. The test is searches that began after
everything that the bundle's retrieval learned from; the classifier is trained on what came before. A hit is good if it has the true type;
including the product that the shopper engaged with is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Codes, Doubles, Floats, Ints, Progress
from models.bundles.bundle import Bundle
from models.evaluation.bootstrap import Interval, mean_interval
from models.evaluation.learned_until import check_later, retrieval_learned_until, utc
from models.evaluation.page import Section, Table, write_sections
from models.evaluation.run_facts import RunFacts
from models.events.errors import LogError
from models.events.event_log import EventLog, open_log
from models.events.kinds import CLICK
from models.query_types.labels import label_log
from models.query_types.recipe import STARTER, TypesRecipe
from models.query_types.train_types import train_types
from models.query_types.type_model import TypeModel
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import LightTower
from models.unified.shopping_log import UNKNOWN, ShoppingLog

WEIGHTS = (0.0, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
FILTER = "filter"
TRAIN_SHARE = 0.8  # of the time, at the least: the classifier needs clicks
TOP, DEPTH = 10, 24
MAX_TYPES = 3
_BLOCK = 256


@dataclass(frozen=True, slots=True, eq=False)
class TestSearches:
    """Searches after the training window, each with the product that the shopper engaged with."""

    queries: list[str]
    locales: list[str]
    product: Ints  # (searches,) rows of the catalogue

    def __len__(self) -> int:
        return len(self.queries)


def evaluate_type_use(
    bundle: Bundle,
    logs: Sequence[Path],
    out: Path,
    progress: Progress,
    *,
    simulated: bool,
    recipe: TypesRecipe = STARTER,
    max_searches: int = 1_500,
    command: str = "",
    seed: int = 0,
) -> Path:
    """Writes report.json and report.html into `out` and returns the path of the HTML file.

    `bundle` holds the unified model; `logs` are of its catalogue, as `open_log` opens them. Repeats up to `max_searches` searches of the
    bundle's first locale, of other locales of its language, and of other languages. Raises BundleError, ExamplesError, and LogError if no
    search began after what the bundle learned from.
    """
    tower = LightTower(UNIFIED_PART.open(bundle))
    vectors = np.asarray(bundle.unit_vectors(), np.float32)
    table = bundle.products()
    codes, categories = table.distinct("category")
    progress("train the query classifier", 0, None)
    log = open_log(logs)
    since_ms = measured_from(log, retrieval_learned_until(bundle))
    until = datetime.fromtimestamp(since_ms / 1000, UTC)
    model = train_types(label_log(logs, table.category_by_id(), until=until).examples, recipe, seed=seed)
    events = ShoppingLog.from_log(log, [table.id(row) for row in range(len(table))])
    outcomes: dict[str, dict[str, _Outcome]] = {}
    for group, searches in later_searches(events, since_ms, bundle.manifest.locales[0], max_searches, seed).items():
        progress(f"search in {group}", 0, None)
        outcomes[group] = _search(searches, model, tower, vectors, codes, categories)
    facts = RunFacts.of_this_run(
        "Effect of query types on search",
        simulated=simulated,
        command=command,
        data={
            "bundle": f"{bundle.manifest.name}, version {bundle.manifest.version}",
            "searches from": utc(since_ms),
            "searches": {
                group: len(next(iter(by_weight.values())).right_type) for group, by_weight in outcomes.items()
            },
        },
        recipe={"top": TOP, "depth": DEPTH, "train_share": TRAIN_SHARE},
        seeds={"training, searches and intervals": seed},
    )
    return write_sections(out, facts, _finding(outcomes), _sections(outcomes, seed), _METHOD)


def measured_from(log: EventLog, learned_until_ms: int) -> int:
    """Returns the time (ms since 1970) from which searches are measured: after TRAIN_SHARE of the log's time, and after all that the bundle
    learned from. Raises LogError if the log ends before it."""
    check_later(log, learned_until_ms)
    first, last = int(log.time_ms[0]), int(log.time_ms[-1])
    return max(int(first + TRAIN_SHARE * (last - first)), learned_until_ms)


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    """By search: the share of the first TOP hits with the engaged product's type, whether DEPTH hits include it, and the prediction."""

    right_type: Doubles
    includes_product: Doubles
    prediction: npt.NDArray[np.int8]  # a position in PREDICTIONS


PREDICTIONS = ("abstained", "wrong", "right")


def _search(
    searches: TestSearches,
    model: TypeModel,
    tower: LightTower,
    vectors: Floats,
    codes: Codes,
    categories: Sequence[str],
) -> dict[str, _Outcome]:
    """Repeats the searches with each boost weight, and with FILTER, which keeps only predicted types and boosts by the largest weight."""
    names = [f"{weight:g}" for weight in WEIGHTS] + [FILTER]
    parts: dict[str, list[tuple[Doubles, Bools]]] = {name: [] for name in names}
    predicted: list[npt.NDArray[np.int8]] = []
    code_of = {name: code for code, name in enumerate(categories)}
    for start in range(0, len(searches), _BLOCK):
        block = slice(start, start + _BLOCK)
        texts, locales, product = searches.queries[block], searches.locales[block], searches.product[block]
        scores = tower.encode_queries(list(zip(texts, locales, strict=True))) @ vectors.T  # (block, products)
        probabilities = np.zeros((len(texts), len(categories)), np.float32)
        predictions = model.classify(texts, locales, MAX_TYPES)
        for row, prediction in enumerate(predictions):
            for name, probability in () if prediction.abstained else prediction.types:
                probabilities[row, code_of[name]] = probability
        product_types = codes[product]
        best = probabilities.argmax(axis=1)
        predicted.append(
            np.where(probabilities.max(axis=1) == 0, 0, np.where(best == product_types, 2, 1)).astype(np.int8)
        )
        of_product = probabilities[:, codes]
        for name in names:
            weight = WEIGHTS[-1] if name == FILTER else float(name)
            boosted = scores + np.float32(weight) * of_product
            if name == FILTER:
                boosted = np.where((of_product > 0) | (probabilities.max(axis=1) == 0)[:, None], boosted, -9.0)
            parts[name].append(_judge(boosted, product_types, product, codes))
    return {
        name: _Outcome(
            np.concatenate([right for right, _ in blocks]),
            np.concatenate([hit for _, hit in blocks]).astype(np.float64),
            np.concatenate(predicted),
        )
        for name, blocks in parts.items()
    }


def _judge(scores: Floats, product_types: Codes, product: Ints, codes: Codes) -> tuple[Doubles, Bools]:
    top = np.argpartition(-scores, DEPTH, axis=1)[:, :DEPTH]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    top = np.take_along_axis(top, order, axis=1)
    return (codes[top[:, :TOP]] == product_types[:, None]).mean(axis=1), (top == product[:, None]).any(axis=1)


def later_searches(
    events: ShoppingLog, since_ms: int, main_locale: str, max_searches: int, seed: int
) -> dict[str, TestSearches]:
    """Returns the searches that began at `since_ms` or later with the first product that each led to, by group of locales; `max_searches`
    of each group at random. Raises LogError if there is none."""
    engaged = (events.kind >= CLICK) & (events.query > 0) & (events.product != UNKNOWN)
    rows = np.flatnonzero(engaged & (events.searched_ms >= since_ms))
    rows = rows[np.sort(np.unique(events.search[rows], return_index=True)[1])]
    if not len(rows):
        raise LogError(
            f"no search from {utc(since_ms)} on led to a product of the bundle: nothing is left to measure it on"
        )
    language = main_locale.partition("-")[0]
    is_main = np.array([locale == main_locale for locale in events.locales], np.bool_)[events.locale[rows]]
    is_near = np.array([locale.partition("-")[0] == language for locale in events.locales], np.bool_)[
        events.locale[rows]
    ]
    groups = {main_locale: is_main, f"other {language}": is_near & ~is_main, "other languages": ~is_near}
    rng = np.random.default_rng(seed)
    drawn = {
        group: rows[of_group][np.sort(rng.permutation(int(of_group.sum()))[:max_searches])]
        for group, of_group in groups.items()
    }
    return {
        group: TestSearches(
            [events.queries[query] for query in events.query[at].tolist()],
            [events.locales[locale] for locale in events.locale[at].tolist()],
            events.product[at].astype(np.int64),
        )
        for group, at in drawn.items()
        if len(at)
    }


def _sections(outcomes: Mapping[str, Mapping[str, _Outcome]], seed: int) -> list[Section]:
    def interval(values: Doubles) -> Interval | None:
        return mean_interval(values, seed=seed) if len(values) else None

    def table(caption: str, values: Mapping[str, Doubles]) -> tuple[str, list[Interval | None]]:
        return caption, [interval(searches) for searches in values.values()]

    sections = []
    for group, by_weight in outcomes.items():
        prediction = next(iter(by_weight.values())).prediction
        right = [table("all", {name: outcome.right_type for name, outcome in by_weight.items()})]
        includes = [table("all", {name: outcome.includes_product for name, outcome in by_weight.items()})]
        for code, name in enumerate(PREDICTIONS):
            rows = prediction == code
            label = f"classifier {name} ({int(rows.sum())})"
            right.append(table(label, {weight: outcome.right_type[rows] for weight, outcome in by_weight.items()}))
            includes.append(
                table(label, {weight: outcome.includes_product[rows] for weight, outcome in by_weight.items()})
            )
        sections.append(
            Section(
                f"Searches in {group}",
                f"{len(prediction):,} searches after the training window, by boost weight.",
                tables=[
                    Table(
                        f"Share of the first {TOP} hits with the engaged product's type",
                        "searches",
                        list(by_weight),
                        right,
                    ),
                    Table(
                        f"Share of searches with the engaged product among the first {DEPTH} hits",
                        "searches",
                        list(by_weight),
                        includes,
                    ),
                ],
            )
        )
    return sections


def _finding(outcomes: Mapping[str, Mapping[str, _Outcome]]) -> str:
    return " ".join(
        f"{group}: share of the first {TOP} hits with the engaged product's type "
        + ", ".join(f"{by_weight[name].right_type.mean():.3f} at {name}" for name in ("0", "0.3", "1", FILTER))
        + f"; share of searches with the product among the first {DEPTH} "
        + ", ".join(f"{by_weight[name].includes_product.mean():.3f}" for name in ("0", "0.3", "1", FILTER))
        + "."
        for group, by_weight in outcomes.items()
    )


_METHOD = (
    "The searches began after all events that the bundle's retrieval learned from, and after 80 % of the time of the log; the classifier "
    "was trained on the events before them. A search is judged by the first product that it led to. Shoppers sometimes click by mistake, "
    "so no weight can reach 1."
)
