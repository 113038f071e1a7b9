"""The teacher: a cross-encoder that reads query and product together and predicts clicks, carts and purchases.

It follows *A Multi-task Learning Framework for Product Ranking with BERT* (Wu et al., 2022, arXiv 2202.05317). On a CPU it is too slow for
the hundreds of candidates of a search, so its predictions teach the ranker that is served (`soft_labels`). On a GPU, or for the first few
candidates, it can rank a search itself.

    fields -> pair_tokens                   the input: fields of a product, each after a marker token
    base -> language -> network             a BERT with markers and the shop's language; experts, gates and towers on top of it
    samples -> learners -> train_teacher    features first, then text and features together; losses
    probabilities                           calibration, and nested probabilities
    spec, teacher                           the trained teacher: openvino_network on a CPU, torch_network on CUDA; export converts
    bundle_part                             the teacher in a bundle
"""
