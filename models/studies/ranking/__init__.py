"""Compares rankers on the logged result pages of a SIMULATED store, on pages later than their training data.

Compared are the multi-task ranker, its ablations, LambdaMART, BM25, popularity, an untuned text encoder, teachers and their students, and
the simulation's oracle. The command `aisle evaluate ranking` writes report.html for decision makers and details/report.html with all
tables.

    bundle, store -> pages, segments                       training pages and later test pages, with features
    store -> truth                                         the simulation's own probabilities for every shown product
    pages -> untrained, learned, boosted, served           each ranker's scores of the test pages, cached in the report's folder
    page_metrics -> page_summary -> sections               every metric of every page, then means with intervals over shoppers
    sparse, position_bias, oracle_gap, distillation        few purchase labels; position bias; limits of the features; teachers
    end_to_end, goals                                      whole searches with and without the ranker; the goals
    evaluate_ranking                                       runs all of it
"""
