"""The unified embedding model: one vector space for products, queries and shoppers.

It follows *Unified Embedding Based Personalized Retrieval in Etsy Search* (Jha et al., 2023, arXiv 2306.04833). A heavy product tower
runs over the catalogue when a bundle is built; it joins a transformer's reading of the text, a graph of past engagement, hashed n-grams,
ids, quantile scalars and locales. A light search tower runs for each request without a transformer over text: a table of hashed tokens for
the query, and one attention layer over the shopper's history.

    words, history, price_bands -> features -> towers, network        the inputs, and the networks
    shopping_log -> histories, window_signals, graph -> examples       the training data; an example sees only what came before it
    negatives -> training_data -> batches                              what is drawn for each step
    query_generation                                                   pre-trains the text block
    losses, recipe -> train_unified -> saved_model                     training, and the folder that it writes
    word_vectors, numpy_layers -> light_tower, product_tower           the towers on NumPy, with light_reader for products' texts
    unified_model, bundle_part                                         what serving and evaluation load, without torch
    embed_products, static_features                                    a bundle's vectors and static features
"""
