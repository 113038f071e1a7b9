"""Bucketed evaluation of text encoders: what general-domain tuning and what tuning on clicks did, and for which queries and products.

    judged set (WANDS, ESCI, the simulated store's truth, known items) x scorers (encoders, BM25) -> rankings and pairs -> figures by bucket

The buckets are those of Liu et al. (2022, arXiv 2204.05231): query seen or unseen x product seen or unseen in the training pairs, beside
head, torso and tail, and how many of the query's words the product's text holds.
"""
