"""From the parts of all shards to the results that one retriever of the whole catalogue would return.

A batch takes steps: each says what to ask of the shards, and takes their answers. Whoever asks (`serving.stages.sharded`) knows processes
and time; this knows neither.

    1  every shard searches its own products: a share of each leg, and the student's scores of a share of its best
    2  (seldom) a shard holds more of the best than its share: it is asked for all
    3  (seldom) a candidate that is to be ranked has no scores yet: its shard is asked for them

With the answers of all shards nothing is lost by the shares: a leg that ends before the last place of the whole one is asked for again.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Floats, Ints
from models.lexical.lexical_index import LexicalIndex, LexicalQuery
from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts
from models.products.growing import GrowingArray
from models.products.identifiers import IdentifierIndex, IdentifierMatch
from models.shards import shard_of
from serving.compute.catalogue_search import MAX_GROUPED, worth_showing
from serving.compute.catalogue_state import CatalogueState
from serving.compute.facets import FacetCounter, FacetCounts, FacetQuestion, Scope, answer
from serving.compute.filter_masks import FilterMasks
from serving.compute.named_values import NamedValues
from serving.compute.pool import LEVELS, Leg, Pool, depth_for, share_of
from serving.compute.readings import merged
from serving.compute.retrieval import (
    NOT_SCORED,
    Candidates,
    GivenCandidates,
    Retrieved,
    ScoredCandidates,
    ScoreItem,
    SearchItem,
    Sorted,
    StudentScores,
)
from serving.compute.retriever import RetrieverItem, RetrieverResult, blended
from serving.compute.shard_items import Ordered, ReadText, ShardFacet, ShardFound, ShardItem
from serving.compute.shard_search import ShardResult
from serving.compute.value_order import Group, group_rows
from serving.errors import Unavailable

# What is asked of each shard, and what each answers: None for one that was not asked, or was lost.
Asked = list[list[ShardItem]]
Answers = Sequence[Sequence[ShardResult | Exception] | None]
Steps = Generator[Asked, Answers, list[RetrieverResult | Exception]]


class ShardRows:
    """Which shard holds a row of the catalogue, and which row of the shard it is. It is parallel by row: a shard that takes the same
    changes appends the same products in the same order."""

    def __init__(self, rows: Sequence[Ints], num_rows: int) -> None:
        """`rows` are those of the products of each shard, ascending."""
        self.count = len(rows)
        numbers = np.zeros(num_rows, np.uint8)
        for number, own in enumerate(rows):
            numbers[own] = number
        self._numbers = GrowingArray[np.uint8](numbers)
        self._rows = [GrowingArray[np.int64](own) for own in rows]

    def __len__(self) -> int:
        return len(self._numbers)

    def append(self, added: AddedProducts) -> None:
        numbers = [shard_of(product.id, self.count) for product in added.products]
        for number, row in zip(numbers, range(added.start, added.start + len(numbers)), strict=True):
            self._rows[number].append(row, 1)
        self._numbers.append(numbers, len(numbers))

    def remove(self, removed: RemovedProducts) -> None:
        """Does nothing: rows stay."""

    def change_offers(self, changed: ChangedOffers) -> None:
        """Does nothing: rows stay."""

    def sizes(self) -> list[int]:
        """Returns how many rows each shard has."""
        return [len(rows) for rows in self._rows]

    def shards(self, rows: Ints) -> npt.NDArray[np.uint8]:
        """Returns (rows,) the number of each row's shard."""
        return self._numbers.values[rows]

    def local(self, shard: int, rows: Ints) -> Ints:
        """Returns what rows of a shard are there."""
        return np.searchsorted(self._rows[shard].values, rows)

    def num_before(self, shard: int, row: int) -> int:
        return int(np.searchsorted(self._rows[shard].values, row))

    def of_shard(self, shard: int, local: Ints) -> Ints:
        """Returns the rows of the catalogue that are `local` in a shard."""
        return self._rows[shard].values[local]


@dataclass(slots=True, eq=False)
class _Batch:
    """What a batch was asked and has found so far."""

    items: Sequence[RetrieverItem]
    sequence: int
    num_rows: int
    sizes: list[int]  # rows of each shard when it was asked
    found: dict[int, dict[int, ShardFound]] = field(default_factory=dict)  # by item and shard
    results: dict[int, RetrieverResult | Exception] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Merged:
    """The result of one search but for the scores of some candidates: (reading, row) of each."""

    retrieved: Retrieved
    chances: Floats
    features: Floats | None
    missing: Ints  # places among the first candidates


class ShardMerge:
    """Splits batches for the shards of a catalogue, and merges what they find. `masks`, `lexical` and `identifiers` are of the whole."""

    def __init__(
        self,
        rows: ShardRows,
        masks: FilterMasks,
        identifiers: IdentifierIndex,
        lexical: LexicalIndex | None,
        catalogue: CatalogueState,
    ) -> None:
        self.rows = rows
        self._masks, self._identifiers, self._lexical, self._catalogue = masks, identifiers, lexical, catalogue
        self._named_values = NamedValues(masks, lexical.analyzer) if lexical else None
        self._facets = FacetCounter(masks)
        self._levels = {among: tuple(share_of(level, among) for level in LEVELS) for among in range(1, rows.count + 1)}
        self._lock: threading.Lock = catalogue.lock

    def steps(self, items: Sequence[RetrieverItem], up: Sequence[bool]) -> Steps:
        """Takes a batch to its results. `up` says which shards are asked."""
        with self._lock:
            batch = _Batch(items, self._catalogue.sequence, len(self.rows), self.rows.sizes())
            batch.lost = {shard for shard, is_up in enumerate(up) if not is_up}
            asked, of = self._first(batch)
        self._take(batch, of, (yield asked))
        with self._lock:
            asked, of = self._again(batch)
        if any(asked):
            self._take(batch, of, (yield asked))
        with self._lock:
            merges = {at: self._merge(batch, at) for at, found in batch.found.items() if found}
            asked, of_missing = self._unscored(batch, merges)
        scores: Answers = [None] * self.rows.count
        if any(asked):
            scores = yield asked
        for at, one in merges.items():
            batch.results[at] = _finished(batch, at, one, of_missing.get(at, []), scores)
        none = Unavailable("no shard of the retriever answered; send the call again")
        return [batch.results.get(at, none) for at in range(len(items))]

    # -- what is asked ------------------------------------------------------------------------------------------------------

    def _first(self, batch: _Batch) -> tuple[Asked, list[list[int]]]:
        """Returns what each shard is asked first, and the number of the item that each of these is of."""
        asked: Asked = [[] for _ in range(self.rows.count)]
        of: list[list[int]] = [[] for _ in range(self.rows.count)]
        for at, item in enumerate(batch.items):
            if isinstance(item, SearchItem):
                batch.found[at] = {}
                for shard in set(range(self.rows.count)) - batch.lost:
                    asked[shard].append(self._search(batch, item, shard))
                    of[shard].append(at)
        self._score(batch, asked, of)
        return asked, of

    def _search(self, batch: _Batch, item: SearchItem, shard: int, *, is_whole: bool = False) -> ShardItem:
        """Asks for a share of what the search needs, or for as much as if no other shard were there."""
        among = 1 if is_whole else self.rows.count - len(batch.lost)
        own = dataclasses.replace(item, min_sequence=max(item.min_sequence, batch.sequence))
        if item.filter.before_row is not None:
            before = self.rows.num_before(shard, item.filter.before_row)
            own = own.within(dataclasses.replace(item.filter, before_row=before))
        texts = {reading.subject.query.text for reading in item.readings}
        read = {text: self._read(text, shard) for text in texts if text}
        read |= {words: ReadText(words=self._words(words)) for words in item.filter.excluded_words if words not in read}
        return ShardItem(
            item=own,
            texts=read,
            leg_depth=share_of(depth_for(item.k), among),
            num_scored=share_of(item.depth, among),
            levels=self._levels[among],
        )

    def _read(self, text: str, shard: int, *, has_products: bool = False) -> ReadText:
        matches = []
        for match in self._identifiers.find(text):
            is_own = self.rows.shards(match.rows) == shard
            if is_own.any():
                rows = self.rows.local(shard, match.rows[is_own])
                matches.append(IdentifierMatch(match.identifier, match.start, match.end, rows, match.boosts[is_own]))
        return ReadText(
            words=self._words(text),
            named=self._named_values.read(text) if self._named_values else None,
            identifiers=tuple(matches),
            identifier_keys=frozenset(self._identifiers.specific_keys(text)) if has_products else None,
        )

    def _words(self, text: str) -> LexicalQuery | None:
        return self._lexical.query(text) if self._lexical else None

    def _score(self, batch: _Batch, asked: Asked, of: list[list[int]]) -> None:
        """Asks each shard for the scores of its own of the candidates that callers name; one shard, for those of no catalogue."""
        up = [shard for shard in range(self.rows.count) if shard not in batch.lost]
        for at, item in enumerate(batch.items):
            if not isinstance(item, ScoreItem):
                continue
            parts = self._parts(item, up[at % len(up)] if up else 0)
            if batch.lost & parts.keys():
                batch.results[at] = Unavailable("a shard of the retriever does not answer; send the call again")
                continue
            for shard, places in parts.items():
                asked[shard].append(self._scores_of(item, shard, places, batch.sequence))
                of[shard].append(at)

    def _parts(self, item: ScoreItem, of_products: int) -> dict[int, Ints]:
        """Returns the places of the candidates of each shard."""
        candidates = item.candidates
        shards = np.full(len(candidates), of_products)
        shards[: len(candidates.rows)] = self.rows.shards(candidates.rows)
        return {shard: np.flatnonzero(shards == shard) for shard in np.unique(shards).tolist()}

    def _scores_of(self, item: ScoreItem, shard: int, places: Ints, sequence: int) -> ShardItem:
        given = item.candidates
        num_rows = len(given.rows)
        rows = places[places < num_rows]
        products = tuple(given.products[place - num_rows] for place in places[len(rows) :].tolist())
        words = None if given.words is None else given.words[rows]
        own = dataclasses.replace(
            item,
            candidates=GivenCandidates(self.rows.local(shard, given.rows[rows]), products, words),
            min_sequence=max(item.min_sequence, sequence),
        )
        text = item.subject.query.text
        return ShardItem(item=own, texts={text: self._read(text, shard, has_products=bool(products))} if text else {})

    def _again(self, batch: _Batch) -> tuple[Asked, list[list[int]]]:
        """Returns the searches of which a shard may hold more than its share of a leg, to be asked with the whole depth."""
        asked: Asked = [[] for _ in range(self.rows.count)]
        of: list[list[int]] = [[] for _ in range(self.rows.count)]
        for at, found in batch.found.items():
            item = batch.items[at]
            assert isinstance(item, SearchItem)  # noqa: S101 - only these are found
            for shard in _short(found, depth_for(item.k)):
                asked[shard].append(self._search(batch, item, shard, is_whole=True))
                of[shard].append(at)
        return asked, of

    def _unscored(
        self, batch: _Batch, merges: Mapping[int, _Merged]
    ) -> tuple[Asked, dict[int, list[tuple[int, int, Ints]]]]:
        """Returns what to ask for the candidates that have no scores; and by item, the shard, the number of what it is asked, and the
        places of the candidates."""
        asked: Asked = [[] for _ in range(self.rows.count)]
        of: dict[int, list[tuple[int, int, Ints]]] = {}
        for at, one in merges.items():
            if not len(one.missing):
                continue
            item, candidates = batch.items[at], one.retrieved.candidates
            assert isinstance(item, SearchItem)  # noqa: S101 - only these are merged
            rows = np.array(candidates.rows, np.int64)[one.missing]
            readings = np.array(candidates.readings or [0] * len(candidates.rows))[one.missing]
            shards = self.rows.shards(rows)
            for shard in np.unique(shards).tolist():
                for number, reading in enumerate(item.readings):
                    inside = (shards == shard) & (readings == number)
                    places = one.missing[inside]
                    if not len(places):
                        continue
                    given = GivenCandidates(rows[inside], words=candidates.words[places])
                    wanted = ScoreItem(subject=reading.subject, candidates=given, weights=item.weights)
                    of.setdefault(at, []).append((shard, len(asked[shard]), places))
                    asked[shard].append(self._scores_of(wanted, shard, np.arange(len(places)), batch.sequence))
        return asked, of

    # -- what is answered ---------------------------------------------------------------------------------------------------

    def _take(self, batch: _Batch, of: list[list[int]], answers: Answers) -> None:
        """Takes answers, translated to the rows of the catalogue."""
        scored: dict[int, dict[int, ScoredCandidates | Exception]] = {}
        for shard, (numbers, results) in enumerate(zip(of, answers, strict=True)):
            if not numbers:
                continue
            if results is None:
                batch.lost.add(shard)
                for at in numbers:
                    if isinstance(batch.items[at], ScoreItem):
                        lost = Unavailable("a shard of the retriever does not answer; send the call again")
                        scored.setdefault(at, {})[shard] = lost
                continue
            for at, result in zip(numbers, results, strict=True):
                if isinstance(result, ShardFound):
                    batch.found[at][shard] = self._translated(result, shard, batch.sizes[shard])
                elif isinstance(result, ScoredCandidates) or isinstance(batch.items[at], ScoreItem):
                    scored.setdefault(at, {})[shard] = result
                else:
                    batch.results[at] = result
        for at, parts in scored.items():
            item = batch.items[at]
            assert isinstance(item, ScoreItem)  # noqa: S101 - only these are scored
            batch.results[at] = self._together(item, parts)

    def _together(
        self, item: ScoreItem, parts: Mapping[int, ScoredCandidates | Exception]
    ) -> ScoredCandidates | Exception:
        """Returns the scores of all candidates in their order."""
        for part in parts.values():
            if isinstance(part, Exception):
                return part
        told = [part for part in parts.values() if isinstance(part, ScoredCandidates)]
        together = ScoredCandidates.concatenate(told)
        if len(told) == 1:
            return together
        shards = self.rows.shards(item.candidates.rows)
        places = [np.flatnonzero(shards == shard) for shard in parts]
        num_rows = len(item.candidates.rows)
        for number, (own, part) in enumerate(zip(list(places), told, strict=True)):
            if len(part.chances) > len(own):  # the products of no catalogue are behind its rows
                places[number] = np.concatenate([own, np.arange(num_rows, len(item.candidates))])
        back = np.argsort(np.concatenate(places))
        return ScoredCandidates(
            chances=together.chances[back],
            features=together.features[back],
            is_known=together.is_known[back],
            contributions=together.contributions[back],
        )

    def _translated(self, found: ShardFound, shard: int, size: int) -> ShardFound:
        """Returns what a shard found in rows of the catalogue. Products that came since it was asked are left out: other shards, and this
        process, may not know theirs yet."""
        values = found.values
        if values:
            values = tuple(keys[pool.rows < size] for keys, pool in zip(values, found.pools, strict=True))
        ordered, scores = found.ordered, found.scores
        if ordered is not None:
            is_known = ordered.rows < size
            ordered = Ordered(
                rows=self.rows.of_shard(shard, ordered.rows[is_known]),
                keys=ordered.keys[is_known],
                readings=ordered.readings[is_known],
                num_products=ordered.num_products - int(np.count_nonzero(~is_known)),
                is_unfit=None if ordered.is_unfit is None else ordered.is_unfit[is_known],
            )
        if scores is not None:
            is_known = scores.rows < size
            scores = dataclasses.replace(
                scores,
                rows=self.rows.of_shard(shard, scores.rows[is_known]),
                readings=scores.readings[is_known],
                chances=scores.chances[is_known],
                features=None if scores.features is None else scores.features[is_known],
            )
        return dataclasses.replace(
            found,
            pools=tuple(self._pool(pool, shard, size) for pool in found.pools),
            values=values,
            ordered=ordered,
            facets=tuple(
                ShardFacet(counts=one.counts, pools=tuple(self._pool(pool, shard, size) for pool in one.pools))
                for one in found.facets
            ),
            scores=scores,
        )

    def _pool(self, pool: Pool, shard: int, size: int) -> Pool:
        pool = pool.within(pool.rows < size)
        rows = self.rows.of_shard(shard, pool.rows)
        matched = pool.matched
        if matched:
            local = np.array(list(matched), np.int64)
            own = local[local < size]
            matched = dict(
                zip(self.rows.of_shard(shard, own).tolist(), (pool.matched[row] for row in own.tolist()), strict=True)
            )
        return dataclasses.replace(pool, rows=rows, matched=matched)

    # -- what it comes to ---------------------------------------------------------------------------------------------------

    def _merge(self, batch: _Batch, at: int) -> _Merged:
        item, found = batch.items[at], batch.found[at]
        assert isinstance(item, SearchItem)  # noqa: S101 - only these are found
        parts = list(found.values())
        ordered = [part for part in parts if part.ordered is not None]
        if ordered:
            parts = self._fitting(item, ordered)
        retrieved = self._in_order(item, parts) if ordered else self._of_query(item, parts)
        answered = sum(batch.sizes[shard] for shard in found)
        retrieved = dataclasses.replace(
            retrieved,
            sequence=min(batch.sequence, *(part.sequence for part in found.values())),
            num_rows=batch.num_rows,
            coverage=answered / max(1, sum(batch.sizes)),
            num_lost=self.rows.count - len(found),
        )
        return self._with_scores(item, retrieved, parts)

    def _fitting(self, item: SearchItem, parts: Sequence[ShardFound]) -> list[ShardFound]:
        """Leaves out the products that state another value than the query names, unless no shard holds one that does not."""
        is_fit = [part.ordered is not None and part.ordered.is_unfit is None for part in parts]
        if item.browses or not any(is_fit):
            return list(parts)
        kept = []
        for part in parts:
            ordered = part.ordered
            if ordered is not None and ordered.is_unfit is not None:
                fits = ~ordered.is_unfit
                if not fits.any():
                    continue
                ordered = Ordered(
                    rows=ordered.rows[fits],
                    keys=ordered.keys[fits],
                    readings=ordered.readings[fits],
                    num_products=ordered.num_products - int(np.count_nonzero(ordered.is_unfit)),
                )
                part = dataclasses.replace(part, ordered=ordered)  # noqa: PLW2901
            kept.append(part)
        return kept

    def _in_order(self, item: SearchItem, parts: Sequence[ShardFound]) -> Retrieved:
        """Returns products in the order of a value: those that match the query or, without one, all that pass the filter."""
        told = [part.ordered for part in parts if part.ordered is not None]
        rows, keys = np.concatenate([one.rows for one in told]), np.concatenate([one.keys for one in told])
        readings = np.concatenate([one.readings for one in told])
        order = np.lexsort((rows, keys))
        rows, readings = rows[order], readings[order]
        num_products = sum(one.num_products for one in told)
        total, groups = num_products, dict[int, Group]()
        if item.group_by:
            if item.browses:
                rows, readings = rows[:MAX_GROUPED], readings[:MAX_GROUPED]
            kept, of_all = group_rows(self._masks, item.group_by, rows, self._masks.mask(item.filter))
            rows, readings, total, groups = rows[kept], readings[kept], len(kept), of_all
        if not (item.browses and item.group_by):
            rows, readings = rows[: item.k], readings[: item.k]
        if item.browses:
            candidates = Candidates.of_rows(rows.tolist())
            num_considered = min(num_products, MAX_GROUPED) if item.group_by else num_products
        else:
            candidates, num_considered = _with_evidence(item, parts, rows, readings), num_products
            groups = {row: groups[row] for row in rows.tolist() if row in groups}
        facets = tuple(self._facet(item, question, parts, number) for number, question in enumerate(item.facets))
        return Retrieved(
            dataclasses.replace(candidates, groups=groups),
            NOT_SCORED,
            num_matching=num_products,
            num_considered=num_considered,
            sorted=None if item.browses else Sorted(Scope.MATCHING, total, is_exact=True),
            facets=facets,
        )

    def _of_query(self, item: SearchItem, parts: Sequence[ShardFound]) -> Retrieved:
        pools = _united(item, [part.pools for part in parts])
        candidates = _candidates(item, pools)
        considered = len(candidates.rows)
        num_matching = considered if item.words_only else sum(part.num_matching for part in parts)
        facets = tuple(
            self._facet(item, question, parts, number, candidates) for number, question in enumerate(item.facets)
        )
        if item.sort or item.group_by:
            candidates = candidates.take(worth_showing(item, candidates))
        near = len(candidates.rows)
        if item.sort:
            rows = np.array(candidates.rows, np.int64)
            candidates = candidates.take(np.lexsort((rows, _values_of(parts, rows))).tolist())
        if item.group_by:
            rows, mask = np.array(candidates.rows, np.int64), self._masks.mask(item.filter)
            kept, groups = group_rows(self._masks, item.group_by, rows, mask)
            candidates = dataclasses.replace(candidates.take(kept), groups=groups)
        is_exact = near < considered or considered >= num_matching
        return Retrieved(
            candidates,
            NOT_SCORED,
            num_matching=num_matching,
            num_considered=considered,
            sorted=Sorted(Scope.BEST, len(candidates.rows), is_exact) if item.sort else None,
            facets=facets,
        )

    def _facet(
        self,
        item: SearchItem,
        question: FacetQuestion,
        parts: Sequence[ShardFound],
        number: int,
        candidates: Candidates | None = None,
    ) -> FacetCounts:
        """Returns the counts of one facet. `candidates` are those of the search itself, where no value orders all that match."""
        told = [part.facets[number] for part in parts]
        if counted := [one.counts for one in told if one.counts is not None]:
            column = self._facets.column(question.name)
            counts = np.zeros(column.num_values, np.int64)
            for part in counted:
                part.add_to(counts, column)
            scope = Scope.ALL if item.browses else Scope.MATCHING
            return answer(question, column, counts, sum(part.num_products for part in counted), scope)
        if pools := [one.pools for one in told if one.pools]:
            candidates = _candidates(item, _united(item, pools))
        if candidates is None:
            return self._facets.of_rows(question, np.zeros(0, np.int64), Scope.MATCHING)
        rows = np.array(candidates.rows, np.int64)
        return self._facets.of_rows(question, rows[worth_showing(item, candidates)])

    def _with_scores(self, item: SearchItem, retrieved: Retrieved, parts: Sequence[ShardFound]) -> _Merged:
        """Finds the scores of the first candidates among those that the shards scored."""
        count = min(item.depth, len(retrieved.candidates.rows))
        told = [part.scores for part in parts if part.scores is not None]
        failure = next((one.failure for one in told if one.failure), "")
        none = np.zeros((0, 3), np.float32)
        if failure or not item.depth or retrieved.sorted:
            scores = StudentScores.missing(failure) if failure else NOT_SCORED
            return _Merged(
                retrieved=dataclasses.replace(retrieved, scores=scores),
                chances=none,
                features=None,
                missing=np.zeros(0, np.int64),
            )
        num_rows = len(self.rows)
        rows = np.array(retrieved.candidates.rows[:count], np.int64)
        readings = np.array(retrieved.candidates.readings[:count] or [0] * count, np.int64)
        wanted = readings * num_rows + rows
        known = np.concatenate([np.zeros(0, np.int64), *(one.readings * num_rows + one.rows for one in told)])
        order = np.argsort(known)
        at = np.searchsorted(known[order], wanted)
        is_there = np.zeros(count, np.bool_)
        if len(known):
            is_there = known[order].take(at, mode="clip") == wanted
        at = order[at[is_there]]
        chances = np.zeros((count, 3), np.float32)
        if len(at):
            chances[is_there] = np.concatenate([one.chances for one in told])[at]
        features: Floats | None = None
        if item.keeps_features:
            read = [one.features for one in told if one.features is not None and len(one.features)]
            if read:
                features = np.zeros((count, read[0].shape[1]), np.float32)
                features[is_there] = np.concatenate(read)[at]
        return _Merged(retrieved=retrieved, chances=chances, features=features, missing=np.flatnonzero(~is_there))


def _short(found: Mapping[int, ShardFound], depth: int) -> list[int]:
    """Returns the shards that may hold more of the first `depth` products of a leg than they gave."""
    short: set[int] = set()
    shards = list(found)
    searches = [[found[shard].pools] for shard in shards if found[shard].ordered is None]
    if len(searches) < len(shards):  # a value orders: only facets have legs
        searches = [[] for _ in shards]
    for number, shard in enumerate(shards):
        searches[number] = searches[number] + [one.pools for one in found[shard].facets]
    for of_shards in zip(*searches, strict=True):
        there = [(shard, pools) for shard, pools in zip(shards, of_shards, strict=True) if pools]
        for reading in range(len(there[0][1]) if there else 0):
            pools = [of_shard[reading] for _, of_shard in there]
            for leg in range(len(pools[0].legs)):
                legs = [pool.legs[leg] for pool in pools]
                rows = [pool.rows[one.positions] for pool, one in zip(pools, legs, strict=True)]
                short.update(there[one][0] for one in _cut(legs, rows, depth))
    return sorted(short)


def _cut(legs: Sequence[Leg], rows: Sequence[Ints], depth: int) -> list[int]:
    """Returns which of the legs were cut before the last of the first `depth` products of all of them."""
    full = [number for number, leg in enumerate(legs) if 0 < leg.depth < depth and len(leg.keys) == leg.depth]
    if not full:
        return []
    keys, every = np.concatenate([leg.keys for leg in legs]), np.concatenate(rows)
    if len(keys) < depth:
        return full
    order = np.lexsort((every, -keys))[:depth]
    last = -keys[order[-1]], every[order[-1]]
    return [number for number in full if (-legs[number].keys[-1], rows[number][-1]) <= last]


def _united(item: SearchItem, parts: Sequence[Sequence[Pool]]) -> list[Pool]:
    """Returns the pools of all readings of a search, from those of each shard."""
    return [Pool.united(of_parts, depth_for(item.k)) for of_parts in zip(*parts, strict=True)]


def _candidates(item: SearchItem, pools: Sequence[Pool]) -> Candidates:
    """Returns the best `k` of all readings."""
    found = []
    for pool in pools:
        best = pool.best(item.k)
        found.append(pool.candidates(best, *pool.split_scores(best)))
    return merged(found, item.k) if item.others else found[0]


def _with_evidence(item: SearchItem, parts: Sequence[ShardFound], rows: Ints, readings: Ints) -> Candidates:
    """Returns given products in their order, each with the evidence of its reading (rows,)."""
    found, places = [], []
    for number, pools in enumerate(zip(*(part.pools for part in parts), strict=True)):
        pool = Pool.united(pools)
        own = np.flatnonzero(readings == number)
        order = np.argsort(pool.rows)
        at = order[np.searchsorted(pool.rows, rows[own], sorter=order)] if len(own) else own
        similarities, features = pool.split_scores(at)
        found.append(pool.candidates(at, similarities, features, is_ranked=False))
        places.append(own)
    if not item.others:
        return found[0]
    return Candidates.concatenate(found).take(np.argsort(np.concatenate(places)).tolist())


def _values_of(parts: Sequence[ShardFound], rows: Ints) -> Doubles:
    """Returns (rows,) what orders products of the pools."""
    every = np.concatenate([pool.rows for part in parts for pool in part.pools])
    values = np.concatenate([keys for part in parts for keys in part.values])
    order = np.argsort(every, kind="stable")
    found: Doubles = values[order[np.searchsorted(every, rows, sorter=order)]]
    return found


def _finished(
    batch: _Batch, at: int, one: _Merged, missing: Sequence[tuple[int, int, Ints]], answers: Answers
) -> Retrieved:
    """Returns a result with the scores that were missing."""
    item, retrieved = batch.items[at], one.retrieved
    assert isinstance(item, SearchItem)  # noqa: S101 - only these are merged
    if not len(one.chances):
        return retrieved
    chances, features = one.chances, one.features
    for shard, number, places in missing:
        results = answers[shard]
        result = results[number] if results is not None else Unavailable("a shard was lost while it ranked")
        if not isinstance(result, ScoredCandidates):
            failure = str(result) or "a shard failed while it ranked"
            return dataclasses.replace(retrieved, scores=StudentScores.missing(failure))
        chances[places] = result.chances
        if item.keeps_features:
            read = np.where(result.is_known, result.features, np.float32(np.nan))
            features = np.zeros((len(chances), read.shape[1]), np.float32) if features is None else features
            features[places] = read
    scores = blended(item, retrieved.candidates, chances, features)
    return dataclasses.replace(retrieved, scores=scores)
