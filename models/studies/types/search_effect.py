"""Measures the effect of query types on a search: boosting by predicted types or filtering by them, also where the classifier is wrong.

Products are ranked in memory by the bundle's own vectors, as the service does with an exact index. The classifier is trained on the first
part of the logs; later searches are the test. A hit is good if it has the true type; including the product that the shopper engaged with
is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.arrays import Bools, Codes, Doubles, Floats, Ints, Progress
from models.bundles.bundle import Bundle
from models.evaluation.bootstrap import Interval, mean_interval
from models.evaluation.page import Section, Table, write_sections
from models.evaluation.run_facts import RunFacts
from models.query_types.labels import label_log
from models.query_types.recipe import STARTER, TypesRecipe
from models.query_types.train_types import train_types
from models.query_types.type_model import TypeModel
from models.sample_store import EVENTS, MAIN_LOCALE, STOREFRONTS
from models.studies.types.store_queries import category_of
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import LightTower

WEIGHTS = (0.0, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
FILTER = "filter"
TRAIN_SHARE = 0.8  # of the time
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
    store: Path,
    out: Path,
    progress: Progress,
    *,
    recipe: TypesRecipe = STARTER,
    max_searches: int = 1_500,
    command: str = "",
    seed: int = 0,
) -> Path:
    """Writes report.json and report.html into `out` and returns the path of the HTML file. All engagement is simulated.

    `bundle` holds the unified model of the simulated store in `store`. Repeats up to `max_searches` searches of the main locale, of other
    locales of its language, and of other languages. Raises BundleError, OSError, ExamplesError.
    """
    tower = LightTower(UNIFIED_PART.open(bundle))
    vectors = np.asarray(bundle.unit_vectors(), np.float32)
    table = bundle.products()
    codes, categories = table.distinct("category")
    progress("train the query classifier", 0, None)
    logs = [store / EVENTS, store / STOREFRONTS]
    cut = _cut(store / EVENTS)
    labelled = label_log(logs, category_of(store), until=cut)
    model = train_types(labelled.examples, recipe, seed=seed)
    row_of = {table.id(row): row for row in range(len(table))}
    outcomes: dict[str, dict[str, _Outcome]] = {}
    for group, searches in _groups(logs, cut, row_of, max_searches, seed).items():
        progress(f"search in {group}", 0, None)
        outcomes[group] = _search(searches, model, tower, vectors, codes, categories)
    facts = RunFacts.of_this_run(
        "Effect of query types on search",
        simulated=True,
        command=command,
        data={
            "searches": {group: len(next(iter(by_weight.values())).right_type) for group, by_weight in outcomes.items()}
        },
        recipe={"top": TOP, "depth": DEPTH, "train_share": TRAIN_SHARE},
        seeds={"training, searches and intervals": seed},
    )
    return write_sections(out, facts, _finding(outcomes), _sections(outcomes, seed), _METHOD)


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


def _groups(
    logs: Sequence[Path], cut: datetime, row_of: Mapping[str, int], max_searches: int, seed: int
) -> dict[str, TestSearches]:
    """Returns the searches after `cut` with the first product that each led to, by group of locales."""
    language = MAIN_LOCALE.partition("-")[0]
    tables = [pq.read_table(path, filters=[("time", ">=", cut)]) for path in logs]
    table = pa.concat_tables([each.select(["session_id", "locale", "kind", "product_id", "query"]) for each in tables])
    table = table.filter(
        pc.and_(pc.not_equal(table["kind"].cast(pa.string()), "impression"), pc.not_equal(table["query"], ""))
    )
    rows: dict[str, list[tuple[str, str, int]]] = {MAIN_LOCALE: [], f"other {language}": [], "other languages": []}
    seen: set[tuple[str, str]] = set()
    for session, locale, product, query in zip(
        *(table[name].to_pylist() for name in ("session_id", "locale", "product_id", "query")), strict=True
    ):
        if (session, query) in seen or product not in row_of:
            continue
        seen.add((session, query))
        is_near = locale.partition("-")[0] == language
        group = MAIN_LOCALE if locale == MAIN_LOCALE else f"other {language}" if is_near else "other languages"
        rows[group].append((query, locale, row_of[product]))
    rng = np.random.default_rng(seed)
    drawn = {
        group: [pairs[at] for at in np.sort(rng.permutation(len(pairs))[:max_searches]).tolist()]
        for group, pairs in rows.items()
    }
    return {
        group: TestSearches(
            [query for query, _, _ in pairs],
            [locale for _, locale, _ in pairs],
            np.array([product for _, _, product in pairs]),
        )
        for group, pairs in drawn.items()
        if pairs
    }


def _cut(events: Path) -> datetime:
    times = pq.read_table(events, columns=["time"])["time"].cast(pa.int64())
    first, last = pc.min(times).as_py(), pc.max(times).as_py()
    return datetime.fromtimestamp((first + TRAIN_SHARE * (last - first)) / 1000, UTC)


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
    "The classifier was trained on the first 80 % of the time, the retrieval model on the whole log of the main locale: retrieval has seen "
    "these searches, equally at every weight. A search is judged by the first product that it led to. Simulated shoppers sometimes click "
    "by mistake, so no weight can reach 1."
)
