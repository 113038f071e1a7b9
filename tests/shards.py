"""Shards in this process: a merge and the shards that it asks, without Ray; and many different searches for them."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from models.arrays import Floats
from models.bundles.bundle import Bundle
from models.shards import cut_shards, open_shard, shards_of
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.stages import open_shard_merge, open_shard_retriever
from serving.compute.facets import FacetQuestion
from serving.compute.filter_masks import AttributeClause, ProductFilter
from serving.compute.retrieval import EncodedQuery, Query, Retrieved, ScoredCandidates, SearchItem, Subject
from serving.compute.retriever import RetrieverItem, RetrieverResult
from serving.compute.shard_items import ShardItem
from serving.compute.shard_merge import Answers
from serving.compute.value_order import SortBy

TOLERANCE = 2e-5  # the last bits of a score depend on what is multiplied together


class LocalShards:
    """Fulfils what a retriever does, over shards in this process."""

    def __init__(self, catalogue: Catalogue, count: int) -> None:
        cut_shards(catalogue.bundle, count)
        self.merge = open_shard_merge(catalogue, count)
        self.catalogues = [Catalogue.open(open_shard(catalogue.bundle, shard), shard) for shard in shards_of(count)]
        self.retrievers = [open_shard_retriever(one, threads=1) for one in self.catalogues]
        self.up = [True] * count
        self.num_asked: list[int] = []  # of each step

    def compute(self, items: Sequence[RetrieverItem]) -> list[RetrieverResult | Exception]:
        steps = self.merge.steps(items, self.up)
        try:
            asked = next(steps)
            while True:
                self.num_asked.append(sum(map(len, asked)))
                asked = steps.send(self._answers(asked))
        except StopIteration as end:
            results: list[RetrieverResult | Exception] = end.value
            return results

    def _answers(self, asked: Sequence[Sequence[ShardItem]]) -> Answers:
        def answer(number: int, items: Sequence[ShardItem]) -> Any:
            if not items or not self.up[number]:
                return None
            sent = pickle.loads(pickle.dumps(items))  # noqa: S301 - as between processes
            return pickle.loads(pickle.dumps(self.retrievers[number].compute(sent)))  # noqa: S301

        return [answer(number, items) for number, items in enumerate(asked)]


def differences(one: Retrieved, other: Retrieved, *, ranks: bool = True) -> list[str]:
    """Returns what differs in two results, but for the order of products whose scores are equal within TOLERANCE."""
    found = []
    facts = ("num_matching", "num_considered", "sorted", "num_rows", "sequence", "coverage")
    found += [
        f"{name}: {getattr(one, name)} and {getattr(other, name)}"
        for name in facts
        if getattr(one, name) != getattr(other, name)
    ]
    for first, second in zip(one.facets, other.facets, strict=True):
        if first != second:
            found.append(f"facets: {first} and {second}")
    a, b = one.candidates, other.candidates
    if len(a.rows) != len(b.rows):
        return [*found, f"{len(a.rows)} and {len(b.rows)} candidates"]
    moved = [at for at, pair in enumerate(zip(a.rows, b.rows, strict=True)) if pair[0] != pair[1]]
    if any(abs(a.scores[at] - b.scores[at]) > TOLERANCE for at in range(len(a.rows))):
        found.append("scores")
    if moved and (one.sorted or not any(a.scores)):
        found.append(f"order of values from place {moved[0]}")
    place = {row: at for at, row in enumerate(b.rows)}
    for at, row in enumerate(a.rows):
        there = place.get(row)
        if there is None:
            if abs(a.scores[at] - b.scores[-1]) > TOLERANCE:
                found.append(f"row {row} is missing")
            continue
        for name in (
            "scores", "similarities", "identifier_boosts", "type_boosts", "lexical_boosts", "coverages", "click_boosts",
        ):  # fmt: skip
            if abs(getattr(a, name)[at] - getattr(b, name)[there]) > TOLERANCE:
                found.append(f"{name} of row {row}")
        if ranks and not moved:
            names = ("vector_ranks", "lexical_ranks", "click_ranks")
            found += [
                f"{name} of row {row}" for name in names if abs(getattr(a, name)[at] - getattr(b, name)[there]) > 1
            ]
        if a.readings and a.readings[at] != b.readings[there]:
            found.append(f"reading of row {row}")
        if not np.allclose(a.feature_boosts[at], b.feature_boosts[there], atol=TOLERANCE):
            found.append(f"feature boosts of row {row}")
    if not moved and (a.matched, a.holds_words, a.groups) != (b.matched, b.holds_words, b.groups):
        found.append(f"matched, groups: {a.matched, a.holds_words, a.groups} and {b.matched, b.holds_words, b.groups}")
    if len(one.scores) != len(other.scores) or one.scores.failure != other.scores.failure:
        found.append(f"scored {len(one.scores)} and {len(other.scores)} {one.scores.failure} {other.scores.failure}")
    elif len(one.scores) and not moved:
        if not np.allclose(one.scores.chances, other.scores.chances, atol=1e-4):
            found.append("chances")
        blends = one.scores.blends
        if not np.allclose(blends[one.scores.by_blend], blends[other.scores.by_blend], rtol=1e-3, atol=1e-4) and (
            one.scores.by_blend != other.scores.by_blend
        ):
            found.append("order by blend")
        if (one.scores.features is None) != (other.scores.features is None):
            found.append("features")
        elif one.scores.features is not None and other.scores.features is not None:
            if not np.allclose(one.scores.features, other.scores.features, atol=1e-3, equal_nan=True):
                found.append("features")
    return found


def searches(bundle: Bundle, vectors: Floats | None, count: int, *, ranks: bool, seed: int = 0) -> Iterator[SearchItem]:
    """Yields different searches of a bundle's products. `vectors` (products, dim) are those of queries, None where words are encoded."""
    rng = np.random.default_rng(seed)
    table, attributes, boosts = bundle.products(), bundle.attributes(), bundle.manifest.boosts
    keywords = [name for name, column in attributes.items() if column.holds_words and column.num_values]
    numbers = [name for name, column in attributes.items() if not column.holds_words and column.num_values]

    def some(values: Sequence[Any], most: int = 1) -> tuple[Any, ...]:
        return tuple(
            values[at]
            for at in rng.choice(len(values), min(len(values), int(rng.integers(1, most + 1))), replace=False)
        )

    def query_of(row: int) -> Subject:
        product = table.product(row)
        words = product.title.split()
        category = product.category.split(" > ")[-1]
        text = [
            " ".join(some(words, 3)), category, f"{some(words)[0]} {category}", product.id, product.title,
            f"{product.brand} {category}", " ".join(product.attributes.get(name, "") for name in some(keywords, 2)) + " " + category,
        ][int(rng.integers(7))].strip() or category or "thing"  # fmt: skip
        query = Query(text, "en-US")
        if vectors is not None:
            query = EncodedQuery(text, "en-US", vector=np.asarray(vectors[row], np.float32))
        shopper = None
        if vectors is None and rng.random() < 0.3:
            shopper = rng.standard_normal(bundle.manifest.dim).astype(np.float32)
        return Subject(query=query, shopper=shopper)

    def filter_of(row: int) -> ProductFilter:
        product, fields = table.product(row), dict[str, Any]()
        if rng.random() < 0.3:
            fields["brands"] = (product.brand, *some([table.string("brand", 0)]))
        if rng.random() < 0.4:
            fields["categories"] = (product.category.split(" > ")[0],)
        if rng.random() < 0.3:
            fields["max_price_minor"] = (product.price_minor or 1000) * 2
        if rng.random() < 0.3:
            fields["in_stock_only"] = True
        if rng.random() < 0.3 and keywords:
            name = some(keywords)[0]
            if text := product.attributes.get(name, ""):
                fields["attributes"] = (AttributeClause(name, (text,)),)
        if rng.random() < 0.1:
            fields["excluded_words"] = some(product.title.split())
        if rng.random() < 0.15:
            fields["before_row"] = int(rng.integers(1, len(table) + 1))
        return ProductFilter(**fields)

    def facets() -> tuple[FacetQuestion, ...]:
        names = ["brand", "category", "price", *keywords, *numbers]
        found = []
        for name in some(names, 3):
            ranges = ((None, 5000.0), (5000.0, None)) if name == "price" and rng.random() < 0.5 else ()
            found.append(FacetQuestion(name, int(rng.integers(1, 30)), ranges))
        return tuple(found)

    for _ in range(count):
        row = int(rng.integers(len(table)))
        kind = rng.random()
        fields: dict[str, Any] = {"k": int(some([5, 24, 120, 200, 300, 1000])[0])}
        subject = query_of(row)
        if rng.random() < 0.5:
            fields["filter"] = filter_of(row)
        if rng.random() < 0.4:
            fields["facets"] = facets()
        if rng.random() < 0.2 and keywords:
            fields["group_by"] = some(keywords)[0]
        if kind < 0.2:
            subject = Subject(query=Query(""))
        if kind < 0.4:
            if rng.random() < 0.8:
                fields["sort"] = SortBy(some(["price", *numbers, *boosts])[0], bool(rng.random() < 0.5))
        elif ranks and rng.random() < 0.7:
            fields |= {
                "depth": int(some([10, 100, 200])[0]),
                "asked_weight": 6.0,
                "keeps_features": bool(rng.random() < 0.3),
            }
        if kind >= 0.2:
            if rng.random() < 0.2 and boosts:
                fields["boosts"] = tuple(rng.random(len(boosts)).round(2).tolist())
            if rng.random() < 0.3:
                category = table.string("category", row)
                fields["type_boosts"] = ((category, 0.4), (table.string("category", 0), 0.2))
                fields["only_types"] = bool(rng.random() < 0.3)
            if rng.random() < 0.1:
                fields["words_only"] = True
            if rng.random() < 0.1:
                fields["lexical_weight"] = 0.0
            if rng.random() < 0.15:
                fields["min_similarity"] = 0.2
        item = SearchItem(subject=subject, **fields)
        if kind >= 0.2 and rng.random() < 0.15:
            others = tuple(SearchItem(subject=query_of(int(rng.integers(len(table)))), **fields) for _ in range(2))
            item = SearchItem(subject=subject, **fields, others=others)
        yield item


def batches(items: Iterator[SearchItem], size: int) -> Iterator[list[SearchItem]]:
    return iter(lambda: list(itertools.islice(items, size)), [])


def retrieved(result: RetrieverResult | Exception) -> Retrieved:
    assert isinstance(result, Retrieved), result
    return result


def scored(result: RetrieverResult | Exception) -> ScoredCandidates:
    assert isinstance(result, ScoredCandidates), result
    return result
