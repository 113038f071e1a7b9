"""Shards in this process: a merge and the shards that it asks, without Ray; and many different searches for them."""

from __future__ import annotations

import dataclasses
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
from serving.compute.retrieval import (
    Candidates,
    EncodedQuery,
    Query,
    Retrieved,
    SearchItem,
    StudentScores,
    Subject,
)
from serving.compute.retriever import RetrieverItem, RetrieverResult
from serving.compute.shard_items import ShardItem
from serving.compute.shard_merge import Answers
from serving.compute.value_order import SortBy

TOLERANCE = 2e-5  # the last bits of a score depend on what is multiplied together


class LocalShards:
    """Fulfils what a retriever does, over shards in this process."""

    def __init__(self, catalogue: Catalogue, count: int) -> None:
        cut_shards(catalogue.bundle, count)
        self.merge_catalogue = catalogue
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


def differences(one: Retrieved, other: Retrieved) -> list[str]:
    """Returns what differs in two results, but for the places of products whose scores are equal within TOLERANCE."""
    a, b = one.candidates, other.candidates
    facts = ("num_matching", "num_considered", "sorted", "num_rows", "sequence", "coverage", "facets")
    found = [
        f"{name}: {getattr(one, name)} and {getattr(other, name)}"
        for name in facts
        if getattr(one, name) != getattr(other, name)
    ]
    if len(a.rows) != len(b.rows):
        return [*found, f"{len(a.rows)} and {len(b.rows)} candidates"]
    if not np.allclose(a.scores, b.scores, atol=TOLERANCE):
        found.append("scores by place")
    found += _evidence(a, b)
    if a.rows != b.rows:
        by_value = one.sorted or not any(a.scores)
        return [*found, "order of values"] if by_value else found
    if (a.matched, a.holds_words, a.groups, a.readings) != (b.matched, b.holds_words, b.groups, b.readings):
        found.append(f"{a.matched, a.holds_words, a.groups} and {b.matched, b.holds_words, b.groups}")
    for name in ("vector_ranks", "lexical_ranks", "click_ranks"):  # equals of a leg may change places
        if not np.allclose(getattr(a, name), getattr(b, name), atol=1):
            found.append(name)
    return found + _scores(one.scores, other.scores)


def _evidence(a: Candidates, b: Candidates) -> list[str]:
    """Returns what differs of the products, wherever they are."""
    place, found = {row: at for at, row in enumerate(b.rows)}, []
    missing = [at for at, row in enumerate(a.rows) if row not in place]
    if any(abs(a.scores[at] - b.scores[-1]) > TOLERANCE for at in missing):  # of equals at the end any may be there
        found.append(f"rows {[a.rows[at] for at in missing]} are missing")
    mine = [at for at, row in enumerate(a.rows) if row in place]
    theirs = [place[a.rows[at]] for at in mine]
    names = ("similarities", "identifier_boosts", "type_boosts", "lexical_boosts", "coverages", "click_boosts")
    for name in (*names, "feature_boosts"):
        values = [np.array(getattr(one, name))[at] for one, at in ((a, mine), (b, theirs))]
        if mine and not np.allclose(*values, atol=TOLERANCE):
            found.append(name)
    return found


def _scores(a: StudentScores, b: StudentScores) -> list[str]:
    """Returns what differs in the student's scores of the same candidates."""
    if not len(a) and not len(b) and a.failure == b.failure:
        return []
    if (len(a), a.failure, a.features is None) != (len(b), b.failure, b.features is None):
        return [f"scored {len(a)} and {len(b)}: {a.failure} {b.failure}"]
    found = []
    if not np.allclose(a.chances, b.chances, atol=1e-4):
        found.append("chances")
    if a.by_blend != b.by_blend and not np.allclose(a.blends[a.by_blend], a.blends[b.by_blend], rtol=1e-3, atol=1e-4):
        found.append("order by blend")
    if a.features is not None and not np.allclose(a.features, np.array(b.features), atol=1e-3, equal_nan=True):
        found.append("features")
    return found


def searches(bundle: Bundle, vectors: Floats | None, count: int, *, ranks: bool, seed: int = 0) -> Iterator[SearchItem]:
    """Yields different searches of a bundle's products. `vectors` (products, dim) are those of queries, None where words are encoded."""
    draw = _Draw(bundle, vectors, seed)
    for _ in range(count):
        yield draw.search(ranks=ranks)


class _Draw:
    """Draws searches around the products of a bundle."""

    def __init__(self, bundle: Bundle, vectors: Floats | None, seed: int) -> None:
        self._table, self._vectors, self._dim = bundle.products(), vectors, bundle.manifest.dim
        self._boosts = bundle.manifest.boosts
        self._rng = np.random.default_rng(seed)
        columns = [column for column in bundle.attributes().values() if column.num_values]
        self._keywords = [column.name for column in columns if column.holds_words]
        self._numbers = [column.name for column in columns if not column.holds_words]

    def search(self, *, ranks: bool) -> SearchItem:
        row, kind = int(self._rng.integers(len(self._table))), self._rng.random()
        fields: dict[str, Any] = {"k": self._one([5, 24, 120, 200, 300, 1000])}
        if self._chance(0.5):
            fields["filter"] = self._filter(row)
        if self._chance(0.4):
            fields["facets"] = self._facets()
        if self._chance(0.2) and self._keywords:
            fields["group_by"] = self._one(self._keywords)
        if kind < 0.4:
            if self._chance(0.8):
                by = self._one(["price", *self._numbers, *self._boosts])
                fields["sort"] = SortBy(by, descending=self._chance(0.5))
        elif ranks and self._chance(0.7):
            fields |= {"depth": self._one([10, 100, 200]), "asked_weight": 6.0, "keeps_features": self._chance(0.3)}
        if kind < 0.2:
            return SearchItem(subject=Subject(query=Query("")), **fields)
        fields |= self._of_query(row)
        item = SearchItem(subject=self._subject(row), **fields)
        if not self._chance(0.15):
            return item
        rows = self._rng.integers(len(self._table), size=2).tolist()
        others = tuple(SearchItem(subject=self._subject(other), **fields) for other in rows)
        return dataclasses.replace(item, others=others)

    def _of_query(self, row: int) -> dict[str, Any]:
        """Returns what only a search with a query may say."""
        fields: dict[str, Any] = {}
        if self._chance(0.2) and self._boosts:
            fields["boosts"] = tuple(self._rng.random(len(self._boosts)).round(2).tolist())
        if self._chance(0.3):
            types = (self._table.string("category", row), 0.4), (self._table.string("category", 0), 0.2)
            fields |= {"type_boosts": types, "only_types": self._chance(0.3)}
        if self._chance(0.1):
            fields["words_only"] = True
        if self._chance(0.1):
            fields["lexical_weight"] = 0.0
        if self._chance(0.15):
            fields["min_similarity"] = 0.2
        return fields

    def _subject(self, row: int) -> Subject:
        product = self._table.product(row)
        words, category = product.title.split(), product.category.split(" > ")[-1]
        named = " ".join(product.attributes.get(name, "") for name in self._some(self._keywords, 2))
        forms = (
            " ".join(self._some(words, 3)),
            category,
            f"{self._one(words)} {category}",
            product.id,
            product.title,
            f"{product.brand} {category}",
            f"{named} {category}",
        )
        text = self._one(forms).strip() or "thing"
        if self._vectors is not None:
            vector = np.asarray(self._vectors[row], np.float32)
            return Subject(query=EncodedQuery(text, "en-US", vector=vector))
        shopper = self._rng.standard_normal(self._dim).astype(np.float32) if self._chance(0.3) else None
        return Subject(query=Query(text, "en-US"), shopper=shopper)

    def _filter(self, row: int) -> ProductFilter:
        product, fields = self._table.product(row), dict[str, Any]()
        if self._chance(0.3):
            fields["brands"] = (product.brand, self._table.string("brand", 0))
        if self._chance(0.4):
            fields["categories"] = (product.category.split(" > ")[0],)
        if self._chance(0.3):
            fields["max_price_minor"] = (product.price_minor or 1000) * 2
        fields["in_stock_only"] = self._chance(0.3)
        if self._keywords and (text := product.attributes.get(name := self._one(self._keywords), "")):
            fields["attributes"] = (AttributeClause(name, (text,)),) if self._chance(0.3) else ()
        if self._chance(0.1):
            fields["excluded_words"] = (self._one(product.title.split()),)
        if self._chance(0.15):
            fields["before_row"] = int(self._rng.integers(1, len(self._table) + 1))
        return ProductFilter(**fields)

    def _facets(self) -> tuple[FacetQuestion, ...]:
        def question(name: str) -> FacetQuestion:
            ranges = ((None, 5000.0), (5000.0, None)) if name == "price" and self._chance(0.5) else ()
            return FacetQuestion(name, int(self._rng.integers(1, 30)), ranges)

        return tuple(map(question, self._some(["brand", "category", "price", *self._keywords, *self._numbers], 3)))

    def _chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)

    def _one(self, values: Sequence[Any]) -> Any:
        return values[int(self._rng.integers(len(values)))]

    def _some(self, values: Sequence[Any], most: int) -> list[Any]:
        return [self._one(values) for _ in range(int(self._rng.integers(1, most + 1)))] if values else []


def batches(items: Iterator[SearchItem], size: int) -> Iterator[list[SearchItem]]:
    return iter(lambda: list(itertools.islice(items, size)), [])


def retrieved(result: RetrieverResult | Exception) -> Retrieved:
    assert isinstance(result, Retrieved), result
    return result
