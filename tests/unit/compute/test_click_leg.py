"""The leg of earlier clicks: what it finds, what it adds, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.bundles.bundle import Bundle
from models.products.changes import RemovedProducts
from models.ranking.click_memory import CatalogueClicks, ClickMemory, query_key
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.stages import open_search
from serving.compute.candidate_search import CLICK_BOOST
from serving.compute.catalogue_search import CatalogueSearch
from serving.compute.filter_masks import ProductFilter
from serving.compute.retrieval import Candidates, EncodedQuery, SearchItem, Subject

QUERY = "comfy"  # no word of a product
WEIGHTS = np.array([6, 3], np.float32)


@pytest.fixture(scope="module")
def catalogue(shop_bundle: Path) -> Catalogue:
    return Catalogue.open(Bundle(shop_bundle))


@pytest.fixture
def clicks(catalogue: Catalogue) -> CatalogueClicks:
    """After QUERY six shoppers engaged with the product that the vectors rank last, and three with the one before."""
    last = nearest(catalogue).rows[-2:]
    ids = tuple(catalogue.table.id(row) for row in reversed(last))
    memory = ClickMemory(
        np.array([query_key(QUERY, "en-US")]), np.array([0, 2]), np.array([0, 1], np.int32), WEIGHTS, ids
    )
    return CatalogueClicks(memory, catalogue.table)


def nearest(catalogue: Catalogue) -> Candidates:
    return found(catalogue, open_search(catalogue), k=len(catalogue.table))


def found(catalogue: Catalogue, search: CatalogueSearch, locale: str = "en-US", **fields: object) -> Candidates:
    vector = TextEncoder(TEXT_ENCODER_PART.open(catalogue.bundle), "cpu").encode([Text(QUERY)])[0]
    subject = Subject(query=EncodedQuery(QUERY, locale, vector=vector))
    (one,) = search.search([SearchItem(subject=subject, **fields)], vector[None])  # type: ignore[arg-type]
    return one.candidates


def test_what_was_clicked_is_a_candidate_and_gains_by_its_share(catalogue: Catalogue, clicks: CatalogueClicks) -> None:
    plain = nearest(catalogue)
    search = open_search(catalogue, clicks=clicks)
    size = len(catalogue.table)
    with_clicks = found(catalogue, search, k=size)
    first, second = plain.rows[-1], plain.rows[-2]
    for row, share, rank in ((first, 6 / 12, 1), (second, 3 / 12, 2)):
        at = with_clicks.rows.index(row)
        assert with_clicks.click_boosts[at] == pytest.approx(CLICK_BOOST * share)
        assert with_clicks.click_ranks[at] == rank
        assert with_clicks.scores[at] == pytest.approx(
            with_clicks.similarities[at] + with_clicks.lexical_boosts[at] + with_clicks.click_boosts[at], abs=1e-6
        )
    assert sum(rank > 0 for rank in with_clicks.click_ranks) == 2
    half = found(catalogue, search, k=size, click_weight=0.5)
    assert half.click_boosts[half.rows.index(first)] == pytest.approx(CLICK_BOOST / 4)


def test_a_weight_of_0_another_language_or_no_memory_leaves_it_out(
    catalogue: Catalogue, clicks: CatalogueClicks
) -> None:
    plain, search = nearest(catalogue), open_search(catalogue, clicks=clicks)
    size = len(catalogue.table)
    for without in (found(catalogue, search, k=size, click_weight=0.0), found(catalogue, search, "de-DE", k=size)):
        assert without.rows == plain.rows
        assert not any(without.click_boosts)
        assert not any(without.click_ranks)


def test_hits_that_must_hold_words_come_of_no_click(catalogue: Catalogue, clicks: CatalogueClicks) -> None:
    assert not found(catalogue, open_search(catalogue, clicks=clicks), k=9, words_only=True).rows


def test_a_filter_and_a_removed_product_hold_for_it_too(catalogue: Catalogue, clicks: CatalogueClicks) -> None:
    plain, search = nearest(catalogue), open_search(catalogue, clicks=clicks)
    first, second = plain.rows[-1], plain.rows[-2]
    brand = catalogue.table.string("brand", second)
    assert brand != catalogue.table.string("brand", first)
    filtered = found(catalogue, search, k=9, filter=ProductFilter(brands=frozenset({brand})))
    assert first not in filtered.rows
    assert filtered.click_boosts[filtered.rows.index(second)] == pytest.approx(CLICK_BOOST * 3 / 12)
    clicks.remove(RemovedProducts(np.array([first]), [catalogue.table.product(first)]))
    assert clicks.find(QUERY, "en-US").rows.tolist() == [second]
