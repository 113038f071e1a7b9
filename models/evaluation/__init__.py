"""How well retrieval works: the same cases for every ranker, figures with intervals, one report.

    shopping log -> numbered_log -> cases        what shoppers asked after the training window, and then bought
    rankers, baselines                           what is compared; a model needs `VectorRanker` and two arrays of vectors
    metrics -> results -> bootstrap -> summary   every metric of every case, then means with intervals over shoppers
    plots, run_facts -> report                   report.json and a self-contained report.html

`evaluate_unified` trains and compares the personalised model, `evaluate_online_retail` measures baselines on real purchases.
"""
