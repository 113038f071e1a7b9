"""The names of the ranker's features, in order. `models.ranking.features` computes them."""

from __future__ import annotations

from models.unified.static_feature_names import STATIC_FEATURES

FEATURES: tuple[str, ...] = (
    "query_cosine",  # of query and product
    "search_cosine",  # of the search vector (query and shopper) and product: the retrieval score
    "shopper_cosine",  # of shopper and product; 0 for an unknown shopper
    "title_match",  # share of the query's words that are in the title
    "text_match",  # share of the query's words that are in any field
    "identifier_match",  # 1 if the product has an identifier of the query, such as "HX-4210"
    "words_held",  # share of the query's words that the product holds, by how specific they are; those of its prose count a quarter
    "lexical_score",  # BM25 score, divided by what no score of the query exceeds
    "clicked_share",  # of what shoppers engaged with after this query; see `ClickMemory`
    "clicked",  # log(1 + shoppers who engaged with the product after this query)
    "type_known",  # 1 if the query classifier did not abstain
    "type_probability",  # of the product's category, by the query classifier; 0 if it abstained
    # Lifts of the product's brand, category, price band and other attributes (summed) in the shopper's taste: see `AttributeLift`.
    "brand_affinity",
    "category_affinity",
    "price_affinity",
    "trait_affinity",
    # Lifts of the same in what was clicked after the query's words, summed over the words.
    "brand_asked",
    "category_asked",
    "price_asked",
    "trait_asked",
    "clicked_before",  # log(1 + times that this shopper clicked this very product)
    "bought_before",  # the same of purchases
    "price_above",  # bands (of 5) between the price and the shopper's mean band; 0 if either is unknown
    "price_distance",  # the same without its sign
    "price_ratio",  # log of the price over its category's median
    *STATIC_FEATURES,
    "query_words",  # number of words
    "shopper_known",  # 1 if the shopper has a vector
    "engaged",  # log(1 + items of the shopper's taste): at most 64 clicks and 64 purchases
)
