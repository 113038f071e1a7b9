"""The unified embedding model: one vector space for products, queries and shoppers.

After *Unified Embedding Based Personalized Retrieval in Etsy Search* (Jha et al., 2023, arXiv 2306.04833). A heavy
product tower runs offline over the catalogue and joins what a transformer read in the text, what a graph of past
engagement knows, hashed n-grams, ids, quantile scalars and locales. A light search tower runs per request and has no
transformer over text: a table of hashed tokens for the query, and one attention layer over the shopper's history.

    words -> features -> towers        what goes in, and the networks
    shopping_log -> histories -> examples    what is learned from, each example knowing only what came before it
    losses, negatives -> train_unified       how
    light_tower, unified_model               what serving and evaluation load

`words`, `history` and `light_tower` need NumPy and safetensors only: serving imports no torch.
"""
