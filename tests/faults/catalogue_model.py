"""The living catalogue against a dictionary: seeded random changes, questions, restarts and new generations, and what a dictionary of the
products with an exact search over it says to each.

Everything but the encoder is real: messages, log, follower, structures, retriever. A failing sequence is shrunk to the few operations that
it takes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aisle.v1 import catalogue_pb2, product_pb2
from models.arrays import Floats
from models.bundles.bundle import Bundle
from models.products.attributes.parse import read_value
from models.products.attributes.spec import AttributeType
from models.products.product import Product
from models.products.spelling import Speller
from serving.catalogue.change import Change, ChangeBatch, Delete, Offer, Upsert
from serving.catalogue.follower import Follower
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.open_log import open_log
from serving.catalogue.stages import open_retriever
from serving.cli import generations
from serving.compute.facets import FacetCounts, FacetQuestion, Scope
from serving.compute.filter_masks import NO_FILTER, PATH_SEPARATOR, AttributeClause, ProductFilter
from serving.compute.pool import LEVELS
from serving.compute.retrieval import EncodedQuery, Query, Retrieved, SearchItem, Subject
from serving.compute.value_order import MAX_OTHERS, SortBy
from serving.config import CatalogueConfig
from serving.gateway.messages.catalogue import CatalogueMessages, ChangeCall
from tests.faults.small_shop import (
    BRANDS,
    PATHS,
    SPECS,
    TITLE_WORDS,
    build_shop,
    new_product,
    vector_of,
    vectors_of,
    with_lists,
)

NUM_BASE = 120
MOST = 400  # products; above, more are deleted than come
ALL = 1000  # candidates: more than there are products
EPSILON = 1e-5
TYPES = {spec.name: (spec.type, spec.unit) for spec in SPECS} | {"mpn": (AttributeType.KEYWORD, "")}


class Shelf:
    """The reference: the living products in the order of their rows."""

    def __init__(self, products: Sequence[Product]) -> None:
        self.products = {product.id: product for product in products}
        self.rows = {product.id: row for row, product in enumerate(products)}
        self.num_rows = len(products)
        self.gone: dict[str, None] = {}  # ids that are not in the catalogue, and were
        self.sequence = 0

    def renumber(self) -> None:
        """Begins a generation: the rows are the living products in their order."""
        self.rows = {product_id: row for row, product_id in enumerate(self.products)}
        self.num_rows = len(self.rows)

    def change(self, change: Change) -> None:
        old = self.products.get(change.product_id)
        match change:
            case Upsert(product):
                if old != product:
                    self._put(product)
            case Delete(product_id):
                if old is not None:
                    del self.products[product_id], self.rows[product_id]
                    self.gone[product_id] = None
            case Offer() if old is not None:
                product = change.of(old)
                if product.attributes != old.attributes:
                    self._put(product)
                else:
                    self.products[old.id] = product
        self.sequence += 1

    def _put(self, product: Product) -> None:
        self.products.pop(product.id, None)
        self.rows.pop(product.id, None)
        self.gone.pop(product.id, None)
        self.products[product.id], self.rows[product.id] = product, self.num_rows
        self.num_rows += 1

    def passing(self, wanted: ProductFilter) -> list[Product]:
        rows = self.rows
        limit = self.num_rows if wanted.before_row is None else wanted.before_row
        return [p for p in self.products.values() if rows[p.id] < limit and passes(p, wanted)]


def values_of(product: Product, name: str) -> list[Any]:
    """Returns the values of "brand", "category", "price" or an attribute, as they are filtered and counted: words without case."""
    if name == "brand":
        return [product.brand.casefold()] if product.brand else []
    if name == "category":
        paths = [path for path in (product.category, *product.other_categories) if path]
        steps = [path.split(PATH_SEPARATOR) for path in paths]
        forms = (PATH_SEPARATOR.join(path[: n + 1]).casefold() for path in steps for n in range(len(path)))
        return list(dict.fromkeys(forms))
    if name == "price":
        return [] if product.price_minor is None else [float(product.price_minor)]
    text = product.attributes.get(name, "")
    items = product.lists.get(name, (text,) if text else ())
    values = [value for item in items for value in read_value(item, *TYPES[name])]
    return list(dict.fromkeys(value.casefold() if isinstance(value, str) else float(value) for value in values))


def passes(product: Product, wanted: ProductFilter) -> bool:
    clauses = [
        *([AttributeClause("brand", wanted.brands)] if wanted.brands else []),
        *([AttributeClause("category", wanted.categories)] if wanted.categories else []),
        *wanted.attributes,
    ]
    low, high = wanted.min_price_minor, wanted.max_price_minor
    if low is not None or high is not None:
        clauses.append(AttributeClause("price", (), low, high))
    return (
        (product.in_stock or not wanted.in_stock_only)
        and not any(word in product.title.split() for word in wanted.excluded_words)
        and all(_passes_clause(values_of(product, clause.name), clause) for clause in clauses)
    )


def _passes_clause(values: Sequence[Any], clause: AttributeClause) -> bool:
    if clause.keywords:
        return bool({keyword.casefold() for keyword in clause.keywords} & set(values))
    low, high = clause.low, clause.high
    return any((low is None or value >= low) and (high is None or value <= high) for value in values)


def counted(question: FacetQuestion, products: Sequence[Product], scope: Scope) -> FacetCounts:
    """Returns what a facet says of some products."""
    counts = Counter(value for product in products for value in values_of(product, question.name))
    kind = AttributeType.NUMBER if question.name == "price" else TYPES.get(question.name, (AttributeType.KEYWORD,))[0]
    are_words = kind in (AttributeType.KEYWORD, AttributeType.KEYWORDS)
    bounds = None
    if not are_words and kind is not AttributeType.BOOL and counts:
        bounds = (min(counts), max(counts))
    values: tuple[tuple[Any, int], ...] = ()
    ranges: tuple[int, ...] = ()
    if question.ranges:
        clauses = [AttributeClause(question.name, (), low, high) for low, high in question.ranges]
        ranges = tuple(
            sum(count for value, count in counts.items() if _passes_clause([value], clause)) for clause in clauses
        )
    else:
        if question.text:
            counts = Counter({value: n for value, n in counts.items() if question.text.casefold() in value})
        values = tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[: question.max_values])
    return FacetCounts(
        values=values,
        ranges=ranges,
        num_values=len(counts),
        num_products=len(products),
        scope=scope,
        bounds=bounds,
    )


def without_case(counts: FacetCounts) -> FacetCounts:
    values = tuple((value.casefold() if isinstance(value, str) else value, count) for value, count in counts.values)
    return dataclasses.replace(counts, values=values)


def in_order(products: Sequence[Product], by: SortBy | None, rows: dict[str, int]) -> list[Product]:
    def key(product: Product) -> tuple[float, int]:
        values = values_of(product, by.name) if by else []
        value = min(values) if values else float("inf")
        return (-value if by and by.descending and values else value), rows[product.id]

    return sorted(products, key=key)


def grouped(ordered: Sequence[Product], members: Sequence[Product], name: str, rows: dict[str, int]) -> list[Any]:
    """Returns the id of each hit, and the value of its group, the number of others and the first of them."""
    seen: set[Any] = set()
    hits: list[Any] = []
    for product in ordered:
        values = values_of(product, name)
        if not values:
            hits.append((product.id, None))
        elif values[0] not in seen:
            seen.add(values[0])
            others = [other for other in members if values[0] in values_of(other, name) and other is not product]
            firsts = [other.id for other in in_order(others, None, rows)][:MAX_OTHERS]
            hits.append((product.id, (values[0], len(others), firsts)))
    return hits


@dataclass(frozen=True, slots=True)
class Asked:
    """A search. Without a vector it browses."""

    k: int
    filter: ProductFilter = NO_FILTER
    vector_of: str = ""  # the vector of this text
    text: str = ""
    sort: SortBy | None = None
    group_by: str = ""
    facets: tuple[FacetQuestion, ...] = ()

    @property
    def vector(self) -> Floats:
        return vector_of(self.vector_of).astype(np.float32)

    def item(self) -> SearchItem:
        query = EncodedQuery(self.text, vector=self.vector) if self.vector_of else Query("")
        sorts_query = bool(self.sort and self.vector_of)  # all that pass are sorted then, as the dictionary does
        return SearchItem(
            lexical_weight=0.0 if sorts_query else 1.0,
            min_similarity=-2.0 if sorts_query else -math.inf,
            subject=Subject(query=query),
            k=self.k,
            filter=self.filter,
            sort=self.sort,
            group_by=self.group_by,
            facets=self.facets,
        )


class Serving:
    """The catalogue as a process serves it: a bundle, and the log over it."""

    def __init__(self, folder: Path, log_path: Path, run: asyncio.Runner) -> None:
        self._run = run
        bundle = Bundle(folder)
        self.catalogue = catalogue = Catalogue.open(bundle)
        self.retriever = open_retriever(catalogue)
        self.speller = Speller.load(folder)
        catalogue.live.attach(self.speller)
        config = CatalogueConfig(path=log_path, sync="normal")
        self.messages = CatalogueMessages(catalogue.table, catalogue.masks.attributes, config, 2_000_000)
        log = open_log(config, bundle.manifest.name, bundle.manifest.line)
        assert log
        self.follower = Follower(catalogue.live, log)
        self.follower.catch_up()

    def log_changes(self, changes: Sequence[Change]) -> int:
        """Logs and applies changes; returns the sequence of the last."""
        upserted = [change.product for change in changes if isinstance(change, Upsert)]
        batch = ChangeBatch(
            changes=tuple(changes), vectors=vectors_of(upserted), encoder=self.catalogue.bundle.manifest.encoder_version
        )
        appended = self._run.run(self.follower.log.append(batch))
        self.follower.catch_up()
        return appended.last

    def search(self, searches: Sequence[Asked]) -> list[Retrieved]:
        results = self.retriever.compute([asked.item() for asked in searches])
        assert all(isinstance(result, Retrieved) for result in results), results
        return [result for result in results if isinstance(result, Retrieved)]

    def id(self, row: int) -> str:
        return self.catalogue.table.id(row)

    def close(self) -> None:
        self._run.run(self.follower.close())


class World:
    """One catalogue and its reference. `tokens` are pages that may be continued."""

    def __init__(self, base: Path, folder: Path, run: asyncio.Runner) -> None:
        shutil.copytree(base, folder / "bundle")
        self.folder, self._run = folder, run
        self.serving = self._open()
        live = self.serving.catalogue.live
        self.shelf = Shelf(list(live.products(np.arange(len(live.table)))))
        self.tokens: list[Token] = []
        self.is_checked = True

    def _open(self) -> Serving:
        return Serving(self.folder / "bundle", self.folder / "changes.db", self._run)

    def restart(self) -> None:
        self.serving.close()
        self.serving = self._open()

    def compact(self, *, drops: bool) -> None:
        log = self.serving.follower.log
        built = generations.compact(self.folder / "bundle", log, lambda *_: None)
        if drops:
            log.drop(self.shelf.sequence)
        self.restart()
        if built:
            self.shelf.renumber()
            self.tokens.clear()

    def close(self) -> None:
        self.serving.close()


@dataclass(frozen=True, slots=True)
class Token:
    """What the next page of a search needs."""

    asked: Asked
    num_rows: int
    rows: tuple[int, ...]  # of the hits so far


class Operation(Protocol):
    def run(self, world: World) -> None:
        """Raises AssertionError if the catalogue says otherwise than the reference."""


@dataclass(frozen=True, slots=True)
class Upserts:
    products: tuple[Product, ...]

    def run(self, world: World) -> None:
        messages = [_message(product) for product in self.products]
        call = world.serving.messages.read_upserts(catalogue_pb2.UpsertProductsRequest(products=messages))
        _change(world, call)


@dataclass(frozen=True, slots=True)
class Deletes:
    ids: tuple[str, ...]

    def run(self, world: World) -> None:
        call = world.serving.messages.read_deletes(catalogue_pb2.DeleteProductsRequest(product_ids=self.ids))
        _change(world, call)


@dataclass(frozen=True, slots=True)
class Offered:
    """An offer of the contract."""

    product_id: str
    price: int | None = None
    removes_price: bool = False
    in_stock: bool | None = None
    numbers: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Offers:
    offers: tuple[Offered, ...]

    def run(self, world: World) -> None:
        offers = [
            catalogue_pb2.Offer(
                product_id=offer.product_id,
                price_minor=offer.price,
                removes_price=offer.removes_price,
                in_stock=offer.in_stock,
                numbers=dict(offer.numbers),
            )
            for offer in self.offers
        ]
        call = world.serving.messages.read_offers(catalogue_pb2.UpdateOffersRequest(offers=offers))
        known = [offer for offer in self.offers if offer.product_id in world.shelf.products]
        assert [change.product_id for change in call.changes] == [offer.product_id for offer in known]
        _change(world, call)
        for offer in known:
            product = world.shelf.products[offer.product_id]
            for name, value in offer.numbers:
                assert values_of(product, name) == [value], (name, value, product.attributes)


@dataclass(frozen=True, slots=True)
class Mixed:
    """A batch of the log with changes of all kinds, of one product several times too."""

    changes: tuple[Change, ...]

    def run(self, world: World) -> None:
        _apply(world, self.changes)


@dataclass(frozen=True, slots=True)
class Ask:
    """Searches of one batch of the retriever."""

    searches: tuple[Asked, ...]

    def run(self, world: World) -> None:
        for asked, result in zip(self.searches, world.serving.search(self.searches), strict=True):
            check_answer(world, asked, result)


@dataclass(frozen=True, slots=True)
class FirstPage:
    asked: Asked

    def run(self, world: World) -> None:
        (result,) = world.serving.search([self.asked])
        check_answer(world, self.asked, result)
        world.tokens.append(Token(self.asked, result.num_rows, tuple(result.candidates.rows)))
        del world.tokens[:-8]


@dataclass(frozen=True, slots=True)
class NextPage:
    """Goes on with an earlier search, over the products that there were then."""

    number: int

    def run(self, world: World) -> None:
        if not world.tokens:
            return
        token = world.tokens[self.number % len(world.tokens)]
        wanted = dataclasses.replace(token.asked.filter, before_row=token.num_rows)
        asked = dataclasses.replace(token.asked, filter=wanted, k=token.asked.k + 10)
        (result,) = world.serving.search([asked])
        check_answer(world, asked, result)
        rows = result.candidates.rows
        # What stays keeps its place, unless offers move it. How rare a word is changes with every change.
        if not asked.sort and not asked.text and wanted.of_what_is_fixed() == wanted:
            alive = world.serving.catalogue.table.alive
            left = [row for row in token.rows if alive[row]]
            assert rows[: len(left)] == left
        world.tokens.append(Token(dataclasses.replace(token.asked, k=asked.k), token.num_rows, tuple(rows)))
        del world.tokens[:-8]


@dataclass(frozen=True, slots=True)
class LookUp:
    """Asks for products as GetProducts and Rank do."""

    ids: tuple[str, ...]

    def run(self, world: World) -> None:
        check_products(world, self.ids)


@dataclass(frozen=True, slots=True)
class Restart:
    def run(self, world: World) -> None:
        world.restart()
        if world.is_checked:
            check_all(world)


@dataclass(frozen=True, slots=True)
class Compact:
    drops: bool

    def run(self, world: World) -> None:
        world.compact(drops=self.drops)
        if world.is_checked:
            check_all(world)


def _message(product: Product) -> product_pb2.Product:
    return product_pb2.Product(
        id=product.id,
        title=product.title,
        brand=product.brand,
        category=product.category,
        price_minor=product.price_minor,
        in_stock=product.in_stock,
        attributes={
            name: text for name, text in product.attributes.items() if name not in TYPES.keys() & product.lists.keys()
        },
        other_categories=product.other_categories,
    )


def _change(world: World, call: ChangeCall) -> None:
    if call.changes:
        _apply(world, call.changes)


def _apply(world: World, changes: Sequence[Change]) -> None:
    last = world.serving.log_changes(changes)
    for change in changes:
        world.shelf.change(change)
    assert last == world.shelf.sequence == world.serving.catalogue.live.sequence
    if world.is_checked:
        check_products(world, [change.product_id for change in changes])
        check_counts(world)


def check_counts(world: World) -> None:
    """The living products, each once, in the order of their rows."""
    shelf, catalogue = world.shelf, world.serving.catalogue
    assert (len(catalogue.table), catalogue.table.num_alive) == (shelf.num_rows, len(shelf.products))
    (found,) = world.serving.search([Asked(k=ALL)])
    assert found.num_matching == len(shelf.products)
    assert list(map(world.serving.id, found.candidates.rows)) == list(shelf.products)


def check_products(world: World, ids: Sequence[str]) -> None:
    shelf, catalogue = world.shelf, world.serving.catalogue
    known = [product_id for product_id in ids if product_id in shelf.products]
    for product_id in known:
        product, row = shelf.products[product_id], catalogue.table.row_of(product_id)
        assert row == shelf.rows[product_id]
        assert catalogue.table.product(row) == product
        plain = "".join(filter(str.isalnum, product_id)).casefold()
        matches = catalogue.identifiers.find(product_id)
        assert any(match.rows.tolist() == [row] for match in matches if match.identifier == product_id), plain
        for name in ("brand", "category"):
            assert all(catalogue.masks.holds(name, value) for value in values_of(product, name))
        assert all(catalogue.masks.holds_keyword("colour", value) for value in values_of(product, "colour"))
        assert all(world.serving.speller.count(word) for word in product.title.split())
    for product_id in set(ids) - set(known):
        assert catalogue.table.row_of(product_id) is None
        assert not any(match.identifier == product_id for match in catalogue.identifiers.find(product_id))
    answer = world.serving.messages.write_products(ids)
    assert [product.id for product in answer.products] == known
    assert list(answer.unknown_product_ids) == [product_id for product_id in ids if product_id not in shelf.products]
    for message in answer.products:
        product = shelf.products[message.id]
        for name in (
            TYPES.keys() & product.lists.keys()
        ):  # their texts are written as what an upsert reads as the same values
            text, values = message.attributes.pop(name), values_of(product, name)
            if TYPES[name][0] is AttributeType.KEYWORDS or len(values) == 1:
                read = read_value(text, *TYPES[name])
                assert {value.casefold() if isinstance(value, str) else value for value in read} == set(values), text
            else:
                assert text == product.attributes[name]
        assert message == _message(product)


def check_all(world: World) -> None:
    shelf, catalogue = world.shelf, world.serving.catalogue
    check_counts(world)
    for start in range(0, len(shelf.products), 100):
        check_products(world, list(shelf.products)[start : start + 100])
    check_products(world, list(shelf.gone)[-200:])
    for name, column in catalogue.attributes.items():
        if name in TYPES and TYPES[name][0] is not AttributeType.TEXT:
            assert (column.type, column.unit) == TYPES[name]
    for name in ("brand", "category"):
        living = {value for product in shelf.products.values() for value in values_of(product, name)}
        named = {value.casefold() for value in (*BRANDS, *PATHS, "brand 3", "home > 4", "nothing") if value}
        assert {value for value in named if catalogue.masks.holds(name, value)} == named & living
    for asked in EVERY_FACET:
        (result,) = world.serving.search([asked])
        check_answer(world, asked, result)


def check_answer(world: World, asked: Asked, result: Retrieved) -> None:
    shelf, browses = world.shelf, not asked.vector_of
    matching = shelf.passing(asked.filter)
    assert result.num_matching == len(matching)
    assert result.num_rows == shelf.num_rows
    assert result.sequence == shelf.sequence
    rows = result.candidates.rows
    ids = list(map(world.serving.id, rows))
    assert len(set(ids)) == len(ids)
    assert [shelf.rows.get(product_id) for product_id in ids] == rows  # living ones, at their rows
    if browses:
        ordered = in_order(matching, asked.sort, shelf.rows)
        expected = ids_of(ordered[: asked.k])
    else:
        check_scores(world, asked, result, matching)
        best = [shelf.products[product_id] for product_id in ids]
        ordered = in_order(best, asked.sort, shelf.rows) if asked.sort else best
        expected = ids_of(ordered)
    if asked.group_by:
        wanted = grouped(ordered, matching, asked.group_by, shelf.rows)
        groups = result.candidates.groups
        seen = [(product_id, groups.get(row)) for product_id, row in zip(ids, rows, strict=True)]
        if browses:
            assert [
                (
                    product_id,
                    group and (group.value.casefold(), group.num_others, list(map(world.serving.id, group.others))),
                )
                for product_id, group in seen
            ] == wanted
    else:
        assert ids == expected
    for question, counts in zip(asked.facets, result.facets, strict=True):
        relaxed = shelf.passing(asked.filter.without(question.name))
        assert without_case(counts) == counted(question, relaxed, Scope.ALL if browses else Scope.BEST), question


def check_scores(world: World, asked: Asked, result: Retrieved, matching: Sequence[Product]) -> None:
    """The candidates are the nearest, and their similarities are exact."""
    shelf, candidates = world.shelf, result.candidates
    scores = (vectors_of(matching).astype(np.float32) @ asked.vector).tolist()
    similarities = dict(zip(ids_of(matching), scores, strict=True))
    ids = list(map(world.serving.id, candidates.rows))
    found = [similarities[product_id] for product_id in ids]
    assert np.allclose(candidates.similarities, found, atol=EPSILON)
    if asked.sort or asked.group_by:
        return
    # The best of a leg's first 200 come before all others, whatever these score together.
    order = list(zip([-score for score in candidates.scores], candidates.rows, strict=True))[: LEVELS[0]]
    assert order == sorted(order)
    assert len(ids) == min(asked.k, len(matching))
    if not asked.text:
        assert candidates.scores == candidates.similarities
        best = sorted(similarities.values(), reverse=True)[: asked.k]
        assert np.allclose(found, best, atol=EPSILON)
    elif asked.text in TITLE_WORDS:
        named = [boost > 0 for boost in candidates.lexical_boosts]
        assert named == [asked.text in shelf.products[product_id].title.split() for product_id in ids]
    elif asked.text in shelf.products and shelf.products[asked.text] in matching:
        boosts = candidates.identifier_boosts
        assert [product_id for product_id, boost in zip(ids, boosts, strict=True) if boost] == [asked.text]


def ids_of(products: Sequence[Product]) -> list[str]:
    return [product.id for product in products]


QUESTIONS = (
    *(FacetQuestion(name, 50) for name in ("brand", "category", "price", *TYPES) if name not in ("note", "released")),
    *(FacetQuestion(name, 3) for name in ("brand", "category", "price", "colour", "tags", "size", "released")),
    FacetQuestion("colour", 4, text="RED"),
    FacetQuestion("category", 4, text="sofa"),
    FacetQuestion("size", 5, ((None, 1.0), (1.0, 3.0), (2.5, None))),
    FacetQuestion("price", 5, ((None, 3.0), (2.0, 9.0))),
)
EVERY_FACET = (
    Asked(k=ALL, facets=QUESTIONS),
    Asked(k=ALL, filter=ProductFilter(in_stock_only=True, categories=("home",)), facets=QUESTIONS),
)
SORTS = ("price", "size", "weight", "released", "vegan")


@dataclass(slots=True)
class Draw:
    """Draws operations that suit what is on the shelf."""

    rng: random.Random
    num_ids: int = 0
    weights: dict[Callable[[Draw, Shelf], Operation], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.weights = {
            Draw.upserts: 16,
            Draw.deletes: 9,
            Draw.offers: 14,
            Draw.mixed: 6,
            Draw.ask: 35,
            Draw.first_page: 5,
            Draw.next_page: 8,
            Draw.look_up: 7,
            Draw.restart: 0.15,
            Draw.compact: 0.06,
        }

    def operation(self, shelf: Shelf) -> Operation:
        (draw,) = self.rng.choices(list(self.weights), list(self.weights.values()))
        return draw(self, shelf)

    def upserts(self, shelf: Shelf) -> Operation:
        room = MOST - len(shelf.products)
        count = self._count()
        products = [self._product(shelf) for _ in range(count if room > 0 else 1)]
        return Upserts(tuple({product.id: product for product in products}.values()))

    def deletes(self, shelf: Shelf) -> Operation:
        count = self._count() * (2 if len(shelf.products) > MOST else 1)
        ids = [self._id(shelf) for _ in range(count if len(shelf.products) > 20 else 1)]
        return Deletes(tuple(dict.fromkeys(ids)))

    def offers(self, shelf: Shelf) -> Operation:
        offers = [self._offer(shelf) for _ in range(self._count())]
        return Offers(tuple({offer.product_id: offer for offer in offers}.values()))

    def mixed(self, shelf: Shelf) -> Operation:
        ids = [self._id(shelf) for _ in range(self.rng.randrange(1, 6))]
        return Mixed(tuple(self._change(shelf, self.rng.choice(ids)) for _ in range(self._count() + 1)))

    def ask(self, shelf: Shelf) -> Operation:
        return Ask(tuple(self.asked(shelf) for _ in range(self.rng.choice((1, 1, 1, 2, 4)))))

    def first_page(self, shelf: Shelf) -> Operation:
        return FirstPage(dataclasses.replace(self.asked(shelf), k=21, facets=(), group_by=""))

    def next_page(self, shelf: Shelf) -> Operation:  # noqa: ARG002
        return NextPage(self.rng.randrange(8))

    def look_up(self, shelf: Shelf) -> Operation:
        return LookUp(tuple(dict.fromkeys(self._id(shelf) for _ in range(self._count()))))

    def restart(self, shelf: Shelf) -> Operation:  # noqa: ARG002
        return Restart()

    def compact(self, shelf: Shelf) -> Operation:
        return Compact(self.rng.random() < 0.5) if shelf.products else Restart()

    def _count(self) -> int:
        return self.rng.choice((1, 1, 1, 2, 3, 5, 20))

    def _id(self, shelf: Shelf) -> str:
        chance, rng = self.rng.random(), self.rng
        if chance < 0.8 and shelf.products:
            return rng.choice(list(shelf.products))
        if chance < 0.95 and shelf.gone:
            return rng.choice(list(shelf.gone))
        self.num_ids += 1
        return f"XN-{7000 + self.num_ids}"

    def _product(self, shelf: Shelf) -> Product:
        rng = self.rng
        product_id = self._id(shelf) if rng.random() < 0.6 else f"XU-{1000 + rng.randrange(100_000)}"
        old = shelf.products.get(product_id)
        kind = rng.random()
        if old is not None and kind < 0.15:
            return old
        if old is not None and kind < 0.35:
            return dataclasses.replace(old, price_minor=rng.choice((None, *range(12))))
        return new_product(rng, product_id)

    def _offer(self, shelf: Shelf) -> Offered:
        rng = self.rng
        price = rng.choice((None, *range(12)))
        numbers = {rng.choice(("size", "weight")): rng.choice((0.0, 1.5, 2.0, 1.234, 0.125, 1e-7, 123456789.0, -4.0))}
        return Offered(
            self._id(shelf),
            price=price,
            removes_price=price is None and rng.random() < 0.5,
            in_stock=rng.choice((None, True, False)) if price is not None else rng.random() < 0.5,
            numbers=tuple(numbers.items()) if rng.random() < 0.3 else (),
        )

    def _change(self, shelf: Shelf, product_id: str) -> Change:
        rng = self.rng
        kind = rng.random()
        if kind < 0.45:
            old = shelf.products.get(product_id)
            kept = dataclasses.replace(old, lists={}) if old and rng.random() < 0.2 else None  # a log has no lists
            return Upsert(kept or new_product(rng, product_id))
        if kind < 0.65:
            return Delete(product_id)
        numbers = {"weight": str(rng.randrange(5) / 4)} if rng.random() < 0.3 else {}
        return Offer(
            product_id=product_id, price_minor=rng.choice((None, *range(12))), in_stock=rng.choice((None, True, False)),
            numbers=numbers,
        )  # fmt: skip

    def asked(self, shelf: Shelf) -> Asked:
        rng = self.rng
        by = SortBy(rng.choice(SORTS), rng.random() < 0.5) if rng.random() < 0.3 else None
        group_by = "colour" if rng.random() < 0.15 else ""
        asks_all = rng.random() < 0.5 or bool(by) or bool(group_by)
        facets = tuple(rng.sample(QUESTIONS, rng.randrange(3))) if asks_all else ()
        wanted, k = self._filter(), ALL if asks_all else rng.choice((1, 5, 21, 60))
        is_query = rng.random() < 0.6
        return Asked(
            k=k,
            filter=wanted,
            vector_of=f"query {rng.randrange(1000)}" if is_query else "",
            text=rng.choice(("", "", *TITLE_WORDS[:3], self._id(shelf), "grey oak sofa")) if is_query else "",
            sort=by,
            group_by=group_by,
            facets=facets,
        )

    def _filter(self) -> ProductFilter:
        rng = self.rng
        if rng.random() < 0.35:
            return NO_FILTER
        wanted: dict[str, Any] = {}
        if rng.random() < 0.25:
            wanted["brands"] = tuple(rng.sample((*BRANDS[:-1], "brand 3", "none"), 2))
        if rng.random() < 0.25:
            wanted["categories"] = tuple(rng.sample((*PATHS[:-1], "HOME", "home > 4", "none"), rng.randrange(1, 3)))
        if rng.random() < 0.25:
            wanted["min_price_minor"] = rng.randrange(8)
        if rng.random() < 0.25:
            wanted["max_price_minor"] = rng.randrange(4, 12)
        wanted["in_stock_only"] = rng.random() < 0.3
        if rng.random() < 0.15:
            wanted["excluded_words"] = tuple(rng.sample(TITLE_WORDS, 2))
        clauses = (
            AttributeClause("colour", ("RED", "colour 3")),
            AttributeClause("tags", ("red", "blue")),
            AttributeClause("rare", ("one", "n4")),
            AttributeClause("size", low=1.0, high=4.0),
            AttributeClause("weight", low=0.5),
            AttributeClause("vegan", low=1, high=1),
            AttributeClause("released", low=1704153600000.0),
        )
        if rng.random() < 0.3:
            wanted["attributes"] = tuple(rng.sample(clauses, rng.randrange(1, 3)))
        return ProductFilter(**wanted)


@dataclass(frozen=True, slots=True)
class Failure:
    """Operations that make the catalogue say otherwise than the reference, and how."""

    operations: tuple[Operation, ...]
    error: BaseException

    def __str__(self) -> str:
        lines = [f"{number:3}. {stated(operation)}" for number, operation in enumerate(self.operations, 1)]
        return "\n".join([f"{len(lines)} operations fail with {self.error!r}", *lines])


def stated(value: Any) -> str:
    """Returns a value as it would be written, without the fields that have their default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        said = []
        for one in dataclasses.fields(value):
            given = getattr(value, one.name)
            default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
            if given != default:
                said.append(f"{one.name}={stated(given)}")
        return f"{type(value).__name__}({', '.join(said)})"
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return f"({', '.join(map(stated, value))}{',' * (len(value) == 1)})"
    return repr(value)


class ModelTest:
    """Runs sequences of operations, each in a world of its own under `folder`."""

    def __init__(self, folder: Path, encoder: Path, *, num_base: int = NUM_BASE) -> None:
        """`encoder` is the model folder of a small text encoder."""
        self._folder, self._count = folder, 0
        self._base = folder / "base"
        rng = random.Random(num_base)
        products = [new_product(rng, f"XB-{100 + number}") for number in range(num_base)]
        build_shop(self._base, [with_lists(one) if at % 3 == 0 else one for at, one in enumerate(products)], encoder)

    def run_seed(self, seed: int, count: int, told: Callable[[int], None] = lambda _: None) -> Failure | None:
        """Runs `count` random operations. `told` gets the number that were run."""
        draw = Draw(random.Random(seed))
        done: list[Operation] = []
        with self._world() as world:
            for number in range(count):
                operation = draw.operation(world.shelf)
                done.append(operation)
                try:
                    operation.run(world)
                except Exception as error:
                    return Failure(tuple(done), error)
                told(number + 1)
        return None

    def run(self, operations: Sequence[Operation]) -> Failure | None:
        """Runs operations, and looks at the catalogue after the last of them."""
        with self._world() as world:
            for number, operation in enumerate(operations, 1):
                world.is_checked = number == len(operations)
                try:
                    operation.run(world)
                except Exception as error:
                    return Failure(tuple(operations[:number]), error)
        return None

    def shrink(self, failure: Failure, seconds: float) -> Failure:
        """Returns a failure of fewer operations, found by leaving some out as long as something fails."""
        give_up = time.monotonic() + seconds
        *before, last = failure.operations
        questions = (Ask, FirstPage, NextPage, LookUp)
        failure = self.run([*(one for one in before if not isinstance(one, questions)), last]) or failure
        step = max(1, len(failure.operations) // 2)
        while time.monotonic() < give_up:
            smaller = self._without_some(failure, step, give_up)
            if smaller is None and step == 1:
                break
            if smaller is None:
                step //= 2
            else:
                failure, step = smaller, max(1, min(step, len(smaller.operations) // 2))
        return self._with_fewer_changes(failure, give_up)

    def _without_some(self, failure: Failure, step: int, give_up: float) -> Failure | None:
        operations = failure.operations
        for start in range(0, len(operations) - 1, step):
            if time.monotonic() > give_up:
                return None
            left = (*operations[:start], *operations[min(start + step, len(operations) - 1) :])
            if len(left) < len(operations) and (smaller := self.run(left)):
                return smaller
        return None

    def _with_fewer_changes(self, failure: Failure, give_up: float) -> Failure:
        """Leaves out single products, ids, offers and items of the operations."""
        at = 0
        while at < len(failure.operations) and time.monotonic() < give_up:
            for part in _parts(failure.operations[at]):
                left = (*failure.operations[:at], part, *failure.operations[at + 1 :])
                if smaller := self.run(left):
                    failure = smaller
                    break
            else:
                at += 1
        return failure

    def _world(self) -> _Opened:
        self._count += 1
        return _Opened(self._base, self._folder / f"world-{self._count}")


def _parts(operation: Operation) -> Iterator[Operation]:
    """Yields the operation with one item less."""
    for one in dataclasses.fields(operation):  # type: ignore[arg-type]
        value = getattr(operation, one.name)
        if isinstance(value, tuple) and len(value) > 1:
            for at in range(len(value)):
                yield dataclasses.replace(operation, **{one.name: (*value[:at], *value[at + 1 :])})  # type: ignore[type-var]


class _Opened:
    """A world for the time of a block."""

    def __init__(self, base: Path, folder: Path) -> None:
        self._base, self._folder = base, folder

    def __enter__(self) -> World:
        self._folder.mkdir()
        self._runner = asyncio.Runner()
        self._runner.__enter__()
        self._world = World(self._base, self._folder, self._runner)
        return self._world

    def __exit__(self, *raised: object) -> None:
        self._world.close()
        self._runner.close()
        shutil.rmtree(self._folder)
