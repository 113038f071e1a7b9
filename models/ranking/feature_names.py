"""The names of the ranker's features, in their order. `models.ranking.features` computes them."""

from __future__ import annotations

from models.unified.static_feature_names import STATIC_FEATURES

FEATURES: tuple[str, ...] = (
    "query_cosine",  # of query and product
    "search_cosine",  # of the search vector (query and shopper) and product: the retrieval score
    "shopper_cosine",  # of shopper and product; 0 for a shopper of whom nothing is known
    "title_match",  # share of the query's words that the title holds
    "text_match",  # share of the query's words that any field holds
    "identifier_match",  # 1 of a product that has an identifier of the query, as "HX-4210"
    "type_known",  # 1 where the classifier did not abstain
    "type_probability",  # that the query asks for the product's category; 0 where it did
    # How much more than usual the shopper engaged with what has the product's brand, category, price band, and traits: the log of how
    # often over how often by chance, see `AttributeLift`. Those of traits add up.
    "brand_affinity",
    "category_affinity",
    "price_affinity",
    "trait_affinity",
    # How much more than usual what was clicked after the query's words has them; the words add up.
    "brand_asked",
    "category_asked",
    "price_asked",
    "trait_asked",
    "price_above",  # bands (of 5) that the price is above the shopper's usual one; 0 where either is unknown
    "price_distance",  # the same without its sign
    "price_ratio",  # log of price over its category's median
    *STATIC_FEATURES,
    "query_words",  # their number
    "shopper_known",  # 1 of a shopper with a vector
    "engaged",  # log(1 + clicks and purchases known), of the latest 64 of each
)
