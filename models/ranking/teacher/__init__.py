"""The teacher: a cross-encoder that reads query and product together and says how likely a click, a cart and a purchase are.

After *A Multi-task Learning Framework for Product Ranking with BERT* (Wu et al., 2022, arXiv 2202.05317). It is too slow to judge hundreds
of candidates within a search on a CPU, so its chances teach the ranker that is served (`soft_labels`); on a GPU, or for the first few
candidates, it can be asked itself.

    fields -> pair_tokens                   what is read: fields behind markers of their own
    base -> language -> network             a BERT with markers, taught the shop's words; experts, gates and towers behind it
    samples -> learners -> train_teacher    features first, then text and features together; losses; chances calibrates
    teacher                                 what is loaded: NumPy and OpenVINO; torch_network on CUDA
"""
