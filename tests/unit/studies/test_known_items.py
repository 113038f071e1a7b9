"""Queries derived of titles: each by a stated recipe, each to find the item that it was derived of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.bundles.sources import catalogue_source
from models.draws import Draws
from models.products.product import Product
from models.studies.text_encoder.evaluate_judged import known_items_of
from models.studies.text_encoder.judged_set import JudgedSetError
from models.studies.text_encoder.known_items import RECIPES, derive_query, known_items

FILE = "electronics_catalogue.parquet"

TV = Product("1", 'Sony - 46" Class LCD HDTV - Black', "Sony")
PRODUCTS = [
    TV,
    Product("2", "Targus - Compact Optical Mouse - Gray", "Targus"),
    Product("3", "Gray Targus Compact Optical Mouse", "Targus"),
    Product("4", "Cable"),
    Product("5", "Die Hard With a Vengeance - DVD"),
]


def derived(product: Product) -> dict[str, str]:
    """A query of each recipe that came up within 40 draws."""
    rng, draws = np.random.default_rng(0), Draws(0)
    found = (derive_query(product, rng, draws) for _ in range(40))
    return {recipe: query for query, recipe in filter(None, found)}


def test_each_recipe_says_what_it_did() -> None:
    queries = derived(TV)
    assert set(queries) == set(RECIPES)
    assert set(queries["words dropped"].split()) <= {"sony", "46", "class", "lcd", "hdtv", "black"}
    assert 2 <= len(queries["words dropped"].split()) <= 4
    assert "sony" not in queries["brand misspelt"].split()
    assert "sony" not in queries["without the brand"]
    assert "television" in queries["synonyms"]
    assert "hdtv" not in queries["synonyms"]


def test_a_title_without_brand_or_synonym_only_drops_words() -> None:
    assert set(derived(PRODUCTS[4])) == {"words dropped"}


def test_products_with_the_same_words_are_one_item_and_any_of_them_is_right() -> None:
    judged = known_items(PRODUCTS)
    found = {tuple(judged.product_rows[judged.query_rows == query].tolist()) for query in range(len(judged.queries))}
    assert found == {(0,), (1, 2), (4,)}  # "Cable" has too few words
    assert "derived queries" in judged.name
    assert judged.protocol.mrr_at == 10


def test_the_same_seed_derives_the_same_queries() -> None:
    assert known_items(PRODUCTS, seed=4).queries == known_items(PRODUCTS, seed=4).queries
    assert len(known_items(PRODUCTS, num_queries=2).queries) == 2


def test_a_catalogue_without_usable_titles_is_refused() -> None:
    with pytest.raises(JudgedSetError, match="no title has 3 to 24 words"):
        known_items(PRODUCTS[3:4])


def test_a_real_catalogue_gives_all_recipes(real_data: Callable[[str], Path]) -> None:
    path = real_data(FILE)
    columns = {"id": "upc", "title": "name", "brand": "manufacturer"}
    judged = known_items_of(catalogue_source(path, columns, (), (), "USD"), num_queries=400)
    counts = np.bincount(judged.query_buckets["recipe"].codes, minlength=len(RECIPES))
    assert len(judged.queries) == 400
    assert (counts > 20).all()
