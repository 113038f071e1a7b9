"""What it does to a search that its query's types are boosted, or filtered by, also where the classifier is wrong.

Everything is ranked in memory by the bundle's own vectors, as the service would with an exact index. The classifier learns from the first
part of the logs; what was searched after it is asked. Good is a hit of the type that was truly wanted, and better the very product that
the shopper engaged with.
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
class AskedSearches:
    """Searches after the cut, each with a product that was engaged with."""

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
    """Writes report.json and report.html into `out` and returns the path of the latter. All engagement is simulated.

    `bundle` holds the unified model of the simulated store in `store`; `max_searches` of the main locale, of other locales of its language
    and of other languages are asked, each. Raises BundleError, OSError, ExamplesError.
    """
    tower = LightTower(UNIFIED_PART.open(bundle))
    vectors = np.asarray(bundle.unit_vectors(), np.float32)
    table = bundle.products()
    codes, categories = table.distinct("category")
    progress("learn types", 0, None)
    logs = [store / EVENTS, store / STOREFRONTS]
    cut = _cut(store / EVENTS)
    labelled = label_log(logs, category_of(store), until=cut)
    model = train_types(labelled.examples, recipe, seed=seed)
    row_of = {table.id(row): row for row in range(len(table))}
    cells: dict[str, dict[str, _Seen]] = {}
    for group, asked in _groups(logs, cut, row_of, max_searches, seed).items():
        progress(f"ask {group}", 0, None)
        cells[group] = _ask(asked, model, tower, vectors, codes, categories)
    facts = RunFacts.of_this_run(
        "Types of queries in a search",
        simulated=True,
        command=command,
        data={"searches": {group: len(next(iter(seen.values())).right_type) for group, seen in cells.items()}},
        recipe={"top": TOP, "depth": DEPTH, "train_share": TRAIN_SHARE},
        seeds={"training, searches and intervals": seed},
    )
    return write_sections(out, facts, _finding(cells), _sections(cells, seed), _METHOD)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """By search: share of the first TOP of the engaged product's type, whether the product is among DEPTH, and what was predicted."""

    right_type: Doubles
    found: Doubles
    told: npt.NDArray[np.int8]  # 0 abstained, 1 wrong, 2 right


TOLD = ("abstained", "wrong", "right")


def _ask(
    asked: AskedSearches,
    model: TypeModel,
    tower: LightTower,
    vectors: Floats,
    codes: Codes,
    categories: Sequence[str],
) -> dict[str, _Seen]:
    """By weight, and by FILTER with the boost of the largest weight."""
    names = [f"{weight:g}" for weight in WEIGHTS] + [FILTER]
    parts: dict[str, list[tuple[Doubles, Bools]]] = {name: [] for name in names}
    told: list[npt.NDArray[np.int8]] = []
    code_of = {name: code for code, name in enumerate(categories)}
    for start in range(0, len(asked), _BLOCK):
        block = slice(start, start + _BLOCK)
        texts, locales, product = asked.queries[block], asked.locales[block], asked.product[block]
        scores = tower.encode_queries(list(zip(texts, locales, strict=True))) @ vectors.T  # (block, products)
        chances = np.zeros((len(texts), len(categories)), np.float32)
        predictions = model.classify(texts, locales, MAX_TYPES)
        for row, one in enumerate(predictions):
            for name, chance in () if one.abstained else one.types:
                chances[row, code_of[name]] = chance
        wanted = codes[product]
        best = chances.argmax(axis=1)
        told.append(np.where(chances.max(axis=1) == 0, 0, np.where(best == wanted, 2, 1)).astype(np.int8))
        of_product = chances[:, codes]
        for name in names:
            weight = WEIGHTS[-1] if name == FILTER else float(name)
            boosted = scores + np.float32(weight) * of_product
            if name == FILTER:
                boosted = np.where((of_product > 0) | (chances.max(axis=1) == 0)[:, None], boosted, -9.0)
            parts[name].append(_judge(boosted, wanted, product, codes))
    return {
        name: _Seen(
            np.concatenate([right for right, _ in found]),
            np.concatenate([hit for _, hit in found]).astype(np.float64),
            np.concatenate(told),
        )
        for name, found in parts.items()
    }


def _judge(scores: Floats, wanted: Codes, product: Ints, codes: Codes) -> tuple[Doubles, Bools]:
    top = np.argpartition(-scores, DEPTH, axis=1)[:, :DEPTH]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    top = np.take_along_axis(top, order, axis=1)
    return (codes[top[:, :TOP]] == wanted[:, None]).mean(axis=1), (top == product[:, None]).any(axis=1)


def _groups(
    logs: Sequence[Path], cut: datetime, row_of: Mapping[str, int], max_searches: int, seed: int
) -> dict[str, AskedSearches]:
    """The first product that each search after the cut led to, by whose words the search is in."""
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
        group: [found[at] for at in np.sort(rng.permutation(len(found))[:max_searches]).tolist()]
        for group, found in rows.items()
    }
    return {
        group: AskedSearches(
            [q for q, _, _ in found], [where for _, where, _ in found], np.array([p for _, _, p in found])
        )
        for group, found in drawn.items()
        if found
    }


def _cut(events: Path) -> datetime:
    times = pq.read_table(events, columns=["time"])["time"].cast(pa.int64())
    first, last = pc.min(times).as_py(), pc.max(times).as_py()
    return datetime.fromtimestamp((first + TRAIN_SHARE * (last - first)) / 1000, UTC)


def _sections(cells: Mapping[str, Mapping[str, _Seen]], seed: int) -> list[Section]:
    def interval(values: Doubles) -> Interval | None:
        return mean_interval(values, seed=seed) if len(values) else None

    def table(caption: str, values: Mapping[str, Doubles]) -> tuple[str, list[Interval | None]]:
        return caption, [interval(one) for one in values.values()]

    sections = []
    for group, seen in cells.items():
        told = next(iter(seen.values())).told
        right = [table("all", {name: one.right_type for name, one in seen.items()})]
        found = [table("all", {name: one.found for name, one in seen.items()})]
        for code, name in enumerate(TOLD):
            of = told == code
            label = f"classifier {name} ({int(of.sum())})"
            right.append(table(label, {weight: one.right_type[of] for weight, one in seen.items()}))
            found.append(table(label, {weight: one.found[of] for weight, one in seen.items()}))
        sections.append(
            Section(
                f"Searches in {group}",
                f"{len(told):,} searches after the cut, by the boost's weight.",
                tables=[
                    Table(
                        f"Share of the first {TOP} that are of the engaged product's type",
                        "searches",
                        list(seen),
                        right,
                    ),
                    Table(f"Engaged product among the first {DEPTH}", "searches", list(seen), found),
                ],
            )
        )
    return sections


def _finding(cells: Mapping[str, Mapping[str, _Seen]]) -> str:
    return " ".join(
        f"{group}: of the first {TOP}, "
        + ", ".join(f"{seen[name].right_type.mean():.3f} at {name}" for name in ("0", "0.3", "1", FILTER))
        + f" are of the type; the product is among {DEPTH} in "
        + ", ".join(f"{seen[name].found.mean():.3f}" for name in ("0", "0.3", "1", FILTER))
        + "."
        for group, seen in cells.items()
    )


_METHOD = (
    "The classifier learned from the first 80 % of the time; the retrieval model from all of the main locale's log, so that its "
    "searches are known to it with every weight alike. A search is judged by the first product that it led to, which shoppers of the "
    "simulation click by mistake now and then: no weight can reach 1."
)
