"""A bundle with its log replayed answers as a bundle that was built of the products as they are: hits, scores, totals and facets.

What stays the older bundle's own, until the next generation: the mean lengths of fields and the field of each attribute that words are
weighed by, and that an attribute which no product had then cannot be filtered by. The first test takes them over, the second does not.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from models.arrays import Ints
from models.bundles.bundle import Bundle
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.stages import open_retriever
from serving.compute.facets import FacetCounts
from serving.compute.filter_masks import NO_FILTER
from serving.compute.retrieval import Retrieved
from serving.compute.retriever import Retriever
from tests.faults.catalogue_model import ALL, Asked, Draw, ModelTest, Shelf, World
from tests.faults.small_shop import BRANDS, COLOURS, TITLE_WORDS, build_shop

NUM_CHANGES = 150  # batches
NUM_QUERIES = 500
AT_ONCE = 25


@dataclasses.dataclass(frozen=True, slots=True)
class Twins:
    """The same products twice: over a log, and built. `rows` (built rows,) are those of the first."""

    replayed: Catalogue
    built: Catalogue
    built_anew: Catalogue  # with mean lengths and fields of its own
    rows: Ints
    searches: list[Retriever]  # of the three
    shelf: Shelf


@pytest.fixture(scope="module")
def twins(exported_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    folder = tmp_path_factory.mktemp("rebuild")
    ModelTest(folder, exported_encoder)
    (folder / "world").mkdir()
    draw = Draw(random.Random(5))
    with asyncio.Runner() as runner:
        world = World(folder / "base", folder / "world", runner)
        world.is_checked = False
        for _ in range(NUM_CHANGES):
            for operation in (draw.upserts, draw.upserts, draw.upserts, draw.deletes, draw.offers, draw.mixed):
                operation(world.shelf).run(world)
        world.restart()
        replayed = world.serving.catalogue
        rows = np.flatnonzero(replayed.table.alive)
        products = list(replayed.live.products(rows))
        build_shop(folder / "built", products, exported_encoder, Bundle(folder / "base").lexical())
        build_shop(folder / "anew", products, exported_encoder)
        built, anew = Catalogue.open(Bundle(folder / "built")), Catalogue.open(Bundle(folder / "anew"))
        searches = [world.serving.retriever, open_retriever(built), open_retriever(anew)]
        yield Twins(replayed, built, anew, rows, searches, world.shelf)
        world.close()


def asked(twins: Twins, *, words: bool) -> list[Asked]:
    """Searches with all kinds of filters, orders, groups and facets; half of them for products and words that there are."""
    draw, rng = Draw(random.Random(6)), random.Random(7)
    said = [
        *TITLE_WORDS,
        *COLOURS,
        *BRANDS,
        "home sofas",
        "wipe clean",
        "hand wash only",
        "mpn-12",
        "size 2 cm",
        *twins.shelf.products,
    ]
    found: list[Asked] = []
    while len(found) < NUM_QUERIES:
        one = draw.asked(twins.shelf)
        if words == bool(one.vector_of):
            text = " ".join(rng.sample(said, rng.randrange(1, 4))).strip() if words else ""
            found.append(dataclasses.replace(one, text=text))
    return found


def answers(search: Retriever, questions: Sequence[Asked]) -> list[Retrieved]:
    found: list[Retrieved] = []
    for start in range(0, len(questions), AT_ONCE):
        results = search.compute([one.item() for one in questions[start : start + AT_ONCE]])
        found += [result for result in results if isinstance(result, Retrieved)]
    assert len(found) == len(questions)
    return found


def test_products_and_rows_are_the_same(twins: Twins) -> None:
    assert len(twins.rows) > 100
    assert len(twins.replayed.table) > 3 * len(twins.rows)  # much has changed
    for at, row in enumerate(twins.rows.tolist()):
        assert twins.built.table.product(at) == twins.replayed.table.product(row)
    assert (
        twins.built.live.unit_vectors(np.arange(len(twins.rows))) == twins.replayed.live.unit_vectors(twins.rows)
    ).all()


@pytest.mark.parametrize("words", [True, False], ids=["with words", "without"])
def test_hits_scores_totals_and_facets_are_the_same(twins: Twins, *, words: bool) -> None:
    questions = asked(twins, words=words)
    replayed, built = (answers(search, questions) for search in twins.searches[:2])
    for question, now, then in zip(questions, replayed, built, strict=True):
        rows = twins.rows[then.candidates.rows].tolist()
        np.testing.assert_allclose(now.candidates.scores, then.candidates.scores, atol=2e-6, err_msg=str(question))
        assert same_but_for_ties(now, then, rows), question
        assert (now.num_matching, now.num_considered) == (then.num_matching, then.num_considered), question
        assert list(map(without_spelling, now.facets)) == list(map(without_spelling, then.facets)), question
        if question.group_by and rows == now.candidates.rows:
            assert {row: (g.value.casefold(), g.num_others) for row, g in now.candidates.groups.items()} == {
                int(twins.rows[row]): (g.value.casefold(), g.num_others) for row, g in then.candidates.groups.items()
            }


def test_mean_lengths_of_a_build_of_its_own_move_scores_little(twins: Twins) -> None:
    questions = [
        dataclasses.replace(one, filter=NO_FILTER, sort=None, group_by="", facets=(), k=ALL)
        for one in asked(twins, words=True)
    ]
    replayed, anew = (answers(search, questions) for search in (twins.searches[0], twins.searches[2]))
    moved, same_best = [], 0
    for now, then in zip(replayed, anew, strict=True):
        scores = dict(zip(now.candidates.rows, now.candidates.scores, strict=True))
        other = dict(zip(twins.rows[then.candidates.rows].tolist(), then.candidates.scores, strict=True))
        assert scores.keys() == other.keys()
        moved += [abs(scores[row] - other[row]) for row in scores]
        same_best += now.candidates.rows[0] == twins.rows[then.candidates.rows[0]]
    assert np.mean(moved) < 0.005
    assert same_best > 0.9 * len(questions)


def same_but_for_ties(now: Retrieved, then: Retrieved, rows: list[int]) -> bool:
    """Says whether the hits are the same where scores differ by more than their rounding."""
    if now.candidates.rows == rows:
        return True
    scores = np.round(np.array(then.candidates.scores), 5)
    mine, other = np.array(now.candidates.rows), np.array(rows)
    last = scores[-1] if len(scores) else 0.0
    return all(
        set(mine[scores == score]) == set(other[scores == score]) for score in np.unique(scores) if score > last + 2e-5
    )


def without_spelling(counts: FacetCounts) -> FacetCounts:
    values = tuple((value.casefold() if isinstance(value, str) else value, count) for value, count in counts.values)
    return dataclasses.replace(counts, values=values)
