"""Text encoders tuned on what shoppers clicked (after Liu et al., ECNLP 2022, arXiv 2204.05231).

    log -> `pairs` (query, product, weight) -> stages: "mlm", "click" -> a folder that `aisle build --encoder` takes

`train_text_encoder` is the verb. `recipe` holds all that decides; `query_keys` says which queries are the same.
"""
