"""Compares the unified model of personalised retrieval with baselines, with its ablations, and with histories hidden or swapped.

It takes any catalogue and event log. With the truth file of the SIMULATED store it also ranks by the oracle, and the report says that all
figures are simulated. Command: `aisle evaluate unified`.

    unified_variants    the ablations: one part left out at a time
    unified_ranker      a trained model as a ranker, by exact search
    evaluate_unified    trains, compares and writes the report
"""
