"""Judgements of the simulated store: what a query truly asks for is known, so that every product can be judged for it.

A product is *Exact* for a query when it is of the wanted type and has all that the query asks for, *Partial* when it is of the type alone,
and *Irrelevant* otherwise; a text that stands for several intents takes the best. Queries are those asked after the training window. A
query or product is *seen* when it is in the training pairs; a query that is not, but is one of them but for its form or a letter, is
*near* and counts as neither.

Pairs are judged as shops do: of what was shown for the query after the window, and, since a search engine shows little that is wrong, of
products drawn from the whole catalogue.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.arrays import Codes, Ints
from models.evaluation.buckets import Bucket, frequency_codes
from models.sample_store import SimulatedLog as Simulation
from models.studies.text_encoder.judged_set import JudgedSet, JudgedSetError, Pool, Protocol
from models.studies.text_encoder.wording import near_duplicates
from models.text_tuning.pairs import ClickPairs
from models.text_tuning.query_keys import plain_key
from models.unified.shopping_log import ShoppingLog

SEEN, FREQUENCY = "seen", "how often asked"
EXACT, PARTIAL, IRRELEVANT = range(3)
GAINS = {"Exact": 1.0, "Partial": 0.5, "Irrelevant": 0.0}

NEGATIVES = (
    "Positives are Exact products that were shown for the query after the window; negatives are products that were shown for it then and "
    "are not Exact, and as many products drawn evenly from the catalogue as there are positives, Exact ones left out. Of each kind at "
    "most {each} a query and side (seen or unseen products)."
)


@dataclass(frozen=True, slots=True)
class Judgements:
    """Two sets of the same queries and products: all judgements, for rankings; a sample of pairs, both kinds about as many."""

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
    """`log` is what `simulation` wrote, its rows of products the numbers of the store, and `training` the pairs made of it before
    `before_ms`. `products` are texts, by row.

    Of seen, near and unseen queries a third of `max_queries` each is drawn, more where another kind has fewer. Raises JudgedSetError
    where no query was asked after the window.
    """
    if len(products) != simulation.assortment.num_products or log.num_products != len(products):
        raise JudgedSetError(
            f"the simulation has {simulation.assortment.num_products:,} products, the log {log.num_products:,}, and texts are of "
            f"{len(products):,}"
        )
    rng = np.random.default_rng([seed, 0xE7])
    asked = _Asked.of(log, before_ms)
    seen = _seen_queries(asked.keys, asked.texts, training)
    chosen = _drawn_evenly(seen, max_queries, rng)
    texts = [asked.texts[at] for at in chosen.tolist()]
    grades = _grades(simulation, [asked.keys[at] for at in chosen.tolist()])
    side = np.ones(len(products), np.int32)
    side[training.product] = 0
    protocol = Protocol(
        GAINS,
        ("Exact",),
        Pool.CATALOGUE,
        split="queries asked after the training window",
        text="title, brand, category, description",
        source="Simulated: judged by what the simulation wrote the query for.",
    )
    ranking = JudgedSet.from_judgements(
        "simulated store",
        protocol,
        texts,
        products,
        _graded(grades),
        query_buckets={
            SEEN: Bucket(("seen", "near", "unseen"), seen[chosen]),
            FREQUENCY: Bucket(("head", "torso", "tail", "not asked"), _frequency(log, before_ms, asked.keys)[chosen]),
        },
        product_buckets={SEEN: Bucket(("seen", "unseen"), side)},
        is_simulated=True,
    )
    shown = [asked.shown[at] for at in chosen.tolist()]
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
class _Asked:
    """The queries of searches after the window."""

    keys: list[str]  # `plain_key`s, each once
    texts: list[str]  # as typed first
    shown: list[Ints]  # the distinct products that searches for each led to

    @classmethod
    def of(cls, log: ShoppingLog, before_ms: int) -> _Asked:
        events = np.flatnonzero((log.searched_ms >= before_ms) & (log.query > 0) & (log.product >= 0))
        found: dict[str, list[int]] = {}  # key -> number, first query code
        of_code: dict[int, int] = {}
        for code in dict.fromkeys(log.query[events].tolist()):
            key = plain_key(log.queries[code])
            if key:
                of_code[code] = found.setdefault(key, [len(found), code])[0]
        if not found:
            raise JudgedSetError(
                "no query was asked after the training window; a longer log or a smaller share to train on is needed"
            )
        number = np.array([of_code.get(code, -1) for code in log.query[events].tolist()], np.int64)
        kept = number >= 0
        distinct = np.unique(number[kept] * log.num_products + log.product[events][kept])
        numbers, shown = np.divmod(distinct, log.num_products)
        starts = np.searchsorted(numbers, np.arange(len(found) + 1))
        return cls(
            list(found),
            [log.queries[code] for _, code in found.values()],
            [shown[start:stop] for start, stop in itertools.pairwise(starts.tolist())],
        )


def _seen_queries(keys: Sequence[str], texts: Sequence[str], training: ClickPairs) -> Codes:
    """(queries,) 0 seen, 1 near, 2 unseen."""
    known = [training.queries[at] for at in np.unique(training.query).tolist()]
    is_seen = np.isin(np.array(keys), np.array([plain_key(query) for query in known]))
    codes = np.where(is_seen, 0, 2).astype(np.int32)
    rest = np.flatnonzero(~is_seen)
    near = near_duplicates([texts[at] for at in rest.tolist()], known)
    codes[rest[near]] = 1
    return codes


def _frequency(log: ShoppingLog, before_ms: int, keys: Sequence[str]) -> Codes:
    """(queries,) 0 head, 1 torso, 2 tail by the share of the searches of the window, 3 not asked within it."""
    events = np.flatnonzero((log.searched_ms < before_ms) & (log.query > 0))
    _, first = np.unique(log.search[events], return_index=True)
    counts: dict[str, int] = defaultdict(int)
    for code, count in enumerate(np.bincount(log.query[events][first], minlength=len(log.queries)).tolist()):
        counts[plain_key(log.queries[code])] += count
    code_of = dict(zip(counts, frequency_codes(np.array([*counts.values()], np.int64)).tolist(), strict=True))
    return np.array([code_of.get(key, 3) for key in keys], np.int32)


def _drawn_evenly(codes: Codes, max_queries: int, rng: np.random.Generator) -> Ints:
    """Queries (n,), ascending: as many of each code as there is room for, the room that one leaves going to the next."""
    groups = sorted((np.flatnonzero(codes == code) for code in np.unique(codes)), key=len)
    chosen: list[Ints] = []
    room = max_queries
    for left, group in zip(range(len(groups), 0, -1), groups, strict=True):
        taken = min(len(group), room // left)
        chosen.append(rng.choice(group, taken, replace=False))
        room -= taken
    return np.sort(np.concatenate(chosen))


def _grades(simulation: Simulation, keys: Sequence[str]) -> list[npt.NDArray[np.int8]]:
    """Of each query the grade of every product (products,)."""
    intents_of: dict[str, list[int]] = defaultdict(list)
    for intent, text in enumerate(simulation.intents.texts):
        intents_of[plain_key(text)].append(intent)
    types, every = simulation.assortment.latents.type, np.arange(simulation.assortment.num_products)
    found = []
    for key in keys:
        if key not in intents_of:
            raise JudgedSetError(f"the simulation knows no query {key!r}; it is another log's")
        intents = np.array(intents_of[key])[:, None]
        is_exact = (simulation.engagement.relevance(intents, every[None, :]) == 0).any(axis=0)
        is_type = np.isin(types, simulation.intents.types[intents[:, 0]])
        found.append(np.where(is_exact, EXACT, np.where(is_type, PARTIAL, IRRELEVANT)).astype(np.int8))
    return found


def _graded(grades: Sequence[npt.NDArray[np.int8]]) -> tuple[Ints, Ints, Codes]:
    """Query rows, product rows and labels of what is not irrelevant."""
    rows = [np.flatnonzero(one < IRRELEVANT) for one in grades]
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
    """See NEGATIVES."""
    queries: list[int] = []
    products: list[int] = []
    for query, (of_query, seen_by_shoppers) in enumerate(zip(grades, shown, strict=True)):
        for code in (0, 1):
            here = seen_by_shoppers[side[seen_by_shoppers] == code]
            is_exact = of_query[here] == EXACT
            right, near = _some(here[is_exact], each, rng), _some(here[~is_exact], each, rng)
            far = _some(np.flatnonzero((side == code) & (of_query != EXACT)), max(1, len(right)), rng)
            drawn = np.concatenate([right, near, far])
            queries += [query] * len(drawn)
            products += drawn.tolist()
    rows = (np.array(queries, np.int64), np.array(products, np.int64))
    return *rows, np.array([grades[query][product] for query, product in zip(*rows, strict=True)], np.int32)


def _some(of: Ints, count: int, rng: np.random.Generator) -> Ints:
    return rng.choice(of, min(count, len(of)), replace=False) if len(of) else of
