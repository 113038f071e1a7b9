"""The ranker of candidates: chances of a click, a cart and a purchase for each, learned together.

After *A Multi-task Learning Framework for Product Ranking with BERT* (Wu et al., Walmart, WWW 2022, arXiv 2202.05317). What is here is
the student that is served on a processor; the teacher that it may learn from is in `teacher`.

    shopping log -> impressions                      pages as shown, nested labels, histories up to the search
    bundle -> product_columns -> features            what the ranker sees of a candidate, alike in training and serving
    history -> taste                                 what the features need of a shopper, made without a catalogue
    clicks -> asked_marks                            what words ask for, learned from what was clicked after them
    usual_shares -> mark_worth                       both held against what would have been met by chance
    clicked_pages                                    besides: what was clicked beside what a search would have found
    recipe -> network, losses -> fit_ranker          how it learns; train_ranker does all of it
    ranker, diversity                                what serving loads: NumPy and safetensors only
"""
