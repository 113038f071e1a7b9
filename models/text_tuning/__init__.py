"""Tunes a text encoder on what shoppers clicked, after Liu et al. (ECNLP 2022, arXiv 2204.05231).

query_keys -> pairs             weighted (query, product) pairs of the log; near-duplicates of excluded queries are left out
product_texts                   the texts of the catalogue, as a bundle's build encodes them
masked_lm, mlm_stage            the stage "mlm": continued masked-language modelling
click_stage, hard_negatives     the stage "click": softmax over in-batch negatives
stages, encoder_network         the loop of a stage, and the encoder in training
recipe -> train_text_encoder    all of it, into a folder that `aisle build --encoder` takes
"""
