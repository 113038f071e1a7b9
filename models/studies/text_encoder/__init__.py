"""Evaluates text encoders by bucket: the effect of general tuning and of tuning on clicks, and for which queries and products.

- SIMULATED store: encoders tuned on its clicks, judged by the simulation's truth. Command: `aisle evaluate text-encoder`.
- Real judged sets, WANDS and ESCI: any encoders. Command: `aisle evaluate judged`.
- Any real catalogue, with queries derived from its titles (known items): any encoders. Command: `aisle evaluate known-items`.

    wands, esci, known_items, simulated_judgements -> judged_set    queries, products and judgements, with the evaluation protocol
    embedders, lexical.bm25 -> scorers                             encoders and BM25, as scores of every product
    judging -> pair_figures -> sections                             rankings and judged pairs, by bucket, as tables
    tuned_encoders                                                  encoders tuned on clicks, cached in the report's folder
    wording                                                         near-duplicate queries, shared words
    evaluate_text_encoder, evaluate_judged                          write the reports

The buckets follow Liu et al. (2022, arXiv 2204.05231): query seen or unseen x product seen or unseen in the training pairs; and head, torso
and tail; and the share of the query's words that the product's text contains.
"""
