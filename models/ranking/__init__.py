"""The ranker of candidates: probabilities of a click, a cart and a purchase for each candidate, learned together.

It follows *A Multi-task Learning Framework for Product Ranking with BERT* (Wu et al., Walmart, WWW 2022, arXiv 2202.05317). This room
holds the student, which is served on a CPU; the teacher that it may be distilled from is in `teacher`.

    shopping log -> parse_log -> impressions         logged pages with nested labels, and histories up to the search
                              -> unshown_pages       clicked products next to retrieved ones that no shopper was shown
    bundle -> product_words, product_columns         every product as arrays
           -> baseline_shares                        how common each attribute is in its category
    history -> taste; log -> query_attributes        attributes that the shopper likes, and that the query's words ask for
    all of these -> attribute_lift, features         one row of FEATURES for each candidate, by the same code in training and serving
    recipe -> network, losses -> fit_ranker          training; train_ranker and distil run all of it
    ranker, diversity                                what serving loads: NumPy and safetensors only
"""
