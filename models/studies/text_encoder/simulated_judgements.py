"""Judgements of the simulated store: the simulation knows the intent of each query, so every product can be judged.

A product is *Exact* for a query if it has the intended type and everything that the query asks for, *Partial* if it only has the type, and
*Irrelevant* otherwise; a text that stands for several intents takes the best judgement. Queries are those searched for after the training
window. A query or product is *seen* if it is in the training pairs. An unseen query that differs from a seen one only in its form or by one
letter is *near*, and counts as neither.

Pairs are sampled as shops do: from the products shown for the query after the window and, because a search engine shows few irrelevant
products, from the whole catalogue.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.arrays import Codes, Ints
from models.evaluation.buckets import FREQUENCIES, Bucket, frequency_codes
from models.sample_store import SimulatedLog as Simulation
from models.studies.text_encoder.judged_set import JudgedSet, JudgedSetError, Pool, Protocol
from models.studies.text_encoder.wording import near_duplicates
from models.text_tuning.pairs import ClickPairs
from models.text_tuning.query_keys import plain_key
from models.unified.shopping_log import ShoppingLog

SEEN, FREQUENCY = "seen", "query frequency"
EXACT, PARTIAL, IRRELEVANT = range(3)
GAINS = {"Exact": 1.0, "Partial": 0.5, "Irrelevant": 0.0}

NEGATIVES = (
    "Positives are Exact products that were shown for the query after the training window. Negatives are other products that were shown "
    "for it then, and as many random catalogue products that are not Exact as there are positives. There are at most {each} of each kind "
    "per query and side (seen or unseen products)."
)


@dataclass(frozen=True, slots=True)
class Judgements:
    """Two judged sets of the same queries and products: all judgements for rankings, and a balanced sample of pairs."""

    ranking: JudgedSet
    pairs: JudgedSet


def judge_simulation(
    simulation: Simulation,
    log: ShoppingLog,
    training: ClickPairs,
    before_ms: int,
    products: Sequence[str],
    *,
    max_queries: int = 1_500,
    max_pairs: int = 6,
    seed: int = 0,
) -> Judgements:
    """Judges the products for queries after the training window, which ends at `before_ms`.

    `log` is the log that `simulation` wrote, with the store's product numbers as rows; `training` are its click pairs before `before_ms`;
    `products` are texts, by row. Samples a third of `max_queries` each from seen, near and unseen queries, and more where another group has
    fewer. Raises JudgedSetError if there is no query after the window.
    """
    if len(products) != simulation.assortment.num_products or log.num_products != len(products):
        raise JudgedSetError(
            f"the simulation has {simulation.assortment.num_products:,} products, the log {log.num_products:,}, and there are "
            f"{len(products):,} product texts"
        )
    rng = np.random.default_rng([seed, 0xE7])
    later = _LaterQueries.after(log, before_ms)
    seen = _seen_queries(later.keys, later.texts, training)
    chosen = _drawn_evenly(seen, max_queries, rng)
    texts = [later.texts[at] for at in chosen.tolist()]
    grades = _grades(simulation, [later.keys[at] for at in chosen.tolist()])
    side = np.ones(len(products), np.int32)
    side[training.product] = 0
    protocol = Protocol(
        GAINS,
        ("Exact",),
        Pool.CATALOGUE,
        split="queries after the training window",
        text="title, brand, category, description",
        source="Simulated: judged by the intent from which the simulation wrote the query.",
    )
    ranking = JudgedSet.from_judgements(
        "simulated store",
        protocol,
        texts,
        products,
        _graded(grades),
        query_buckets={
            SEEN: Bucket(("seen", "near", "unseen"), seen[chosen]),
            FREQUENCY: Bucket(FREQUENCIES, _frequency(log, before_ms, later.keys)[chosen]),
        },
        product_buckets={SEEN: Bucket(("seen", "unseen"), side)},
        is_simulated=True,
    )
    shown = [later.shown[at] for at in chosen.tolist()]
    judged = _drawn_pairs(grades, shown, side, max_pairs, rng)
    pairs = JudgedSet.from_judgements(
        "simulated store, pairs",
        replace(protocol, pool=Pool.JUDGED, source=NEGATIVES.format(each=max_pairs)),
        texts,
        products,
        judged,
        query_buckets=ranking.query_buckets,
        product_buckets=ranking.product_buckets,
        is_simulated=True,
    )
    return Judgements(ranking, pairs)


@dataclass(frozen=True, slots=True, eq=False)
class _LaterQueries:
    """The queries of searches after the training window."""

    keys: list[str]  # distinct `plain_key`s
    texts: list[str]  # the first spelling
    shown: list[Ints]  # distinct products with events after a search for each query

    @classmethod
    def after(cls, log: ShoppingLog, before_ms: int) -> _LaterQueries:
        events = np.flatnonzero((log.searched_ms >= before_ms) & (log.query > 0) & (log.product >= 0))
        numbered: dict[str, list[int]] = {}  # key -> number, first query code
        number_of: dict[int, int] = {}
        for code in dict.fromkeys(log.query[events].tolist()):
            key = plain_key(log.queries[code])
            if key:
                number_of[code] = numbered.setdefault(key, [len(numbered), code])[0]
        if not numbered:
            raise JudgedSetError(
                "there is no query after the training window: use a longer log or a smaller training share"
            )
        number = np.array([number_of.get(code, -1) for code in log.query[events].tolist()], np.int64)
        kept = number >= 0
        distinct = np.unique(number[kept] * log.num_products + log.product[events][kept])
        numbers, shown = np.divmod(distinct, log.num_products)
        starts = np.searchsorted(numbers, np.arange(len(numbered) + 1))
        return cls(
            list(numbered),
            [log.queries[code] for _, code in numbered.values()],
            [shown[start:stop] for start, stop in itertools.pairwise(starts.tolist())],
        )


def _seen_queries(keys: Sequence[str], texts: Sequence[str], training: ClickPairs) -> Codes:
    """Returns (queries,) 0 seen, 1 near, 2 unseen."""
    trained = [training.queries[at] for at in np.unique(training.query).tolist()]
    is_seen = np.isin(np.array(keys), np.array([plain_key(query) for query in trained]))
    codes = np.where(is_seen, 0, 2).astype(np.int32)
    rest = np.flatnonzero(~is_seen)
    near = near_duplicates([texts[at] for at in rest.tolist()], trained)
    codes[rest[near]] = 1
    return codes


def _frequency(log: ShoppingLog, before_ms: int, keys: Sequence[str]) -> Codes:
    """Returns (queries,) positions in FREQUENCIES by the searches of the training window."""
    events = np.flatnonzero((log.searched_ms < before_ms) & (log.query > 0))
    _, first = np.unique(log.search[events], return_index=True)
    counts: dict[str, int] = defaultdict(int)
    for code, count in enumerate(np.bincount(log.query[events][first], minlength=len(log.queries)).tolist()):
        counts[plain_key(log.queries[code])] += count
    code_of = dict(zip(counts, frequency_codes(np.array([*counts.values()], np.int64)).tolist(), strict=True))
    return np.array([code_of.get(key, FREQUENCIES.index("unseen")) for key in keys], np.int32)


def _drawn_evenly(codes: Codes, max_queries: int, rng: np.random.Generator) -> Ints:
    """Samples about equally many queries of each code (n,), ascending; other groups fill what a small group leaves."""
    groups = sorted((np.flatnonzero(codes == code) for code in np.unique(codes)), key=len)
    chosen: list[Ints] = []
    room = max_queries
    for left, group in zip(range(len(groups), 0, -1), groups, strict=True):
        taken = min(len(group), room // left)
        chosen.append(rng.choice(group, taken, replace=False))
        room -= taken
    return np.sort(np.concatenate(chosen))


def _grades(simulation: Simulation, keys: Sequence[str]) -> list[npt.NDArray[np.int8]]:
    """Returns the grade of every product (products,) for each query."""
    intents_of: dict[str, list[int]] = defaultdict(list)
    for intent, text in enumerate(simulation.intents.texts):
        intents_of[plain_key(text)].append(intent)
    types, every = simulation.assortment.latents.type, np.arange(simulation.assortment.num_products)
    grades = []
    for key in keys:
        if key not in intents_of:
            raise JudgedSetError(f"the simulation has no query {key!r}; it belongs to another log")
        intents = np.array(intents_of[key])[:, None]
        is_exact = (simulation.family.engagement.relevance(intents, every[None, :]) == 0).any(axis=0)
        is_type = np.isin(types, simulation.intents.types[intents[:, 0]])
        grades.append(np.where(is_exact, EXACT, np.where(is_type, PARTIAL, IRRELEVANT)).astype(np.int8))
    return grades


def _graded(grades: Sequence[npt.NDArray[np.int8]]) -> tuple[Ints, Ints, Codes]:
    """Returns query rows, product rows and labels of all judgements that are not irrelevant."""
    rows = [np.flatnonzero(of_query < IRRELEVANT) for of_query in grades]
    queries = np.repeat(np.arange(len(grades)), [len(one) for one in rows])
    labels = np.concatenate([one[at] for one, at in zip(grades, rows, strict=True)]).astype(np.int32)
    return queries, np.concatenate(rows), labels


def _drawn_pairs(
    grades: Sequence[npt.NDArray[np.int8]],
    shown: Sequence[Ints],
    side: Codes,
    each: int,
    rng: np.random.Generator,
) -> tuple[Ints, Ints, Codes]:
    """Samples pairs as NEGATIVES describes; returns query rows, product rows and labels."""
    queries: list[int] = []
    products: list[int] = []
    for query, (of_query, shown_products) in enumerate(zip(grades, shown, strict=True)):
        for code in (0, 1):
            here = shown_products[side[shown_products] == code]
            is_exact = of_query[here] == EXACT
            right, near = _sample(here[is_exact], each, rng), _sample(here[~is_exact], each, rng)
            far = _sample(np.flatnonzero((side == code) & (of_query != EXACT)), max(1, len(right)), rng)
            drawn = np.concatenate([right, near, far])
            queries += [query] * len(drawn)
            products += drawn.tolist()
    rows = (np.array(queries, np.int64), np.array(products, np.int64))
    return *rows, np.array([grades[query][product] for query, product in zip(*rows, strict=True)], np.int32)


def _sample(of: Ints, count: int, rng: np.random.Generator) -> Ints:
    return rng.choice(of, min(count, len(of)), replace=False) if len(of) else of
