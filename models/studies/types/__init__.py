"""How well queries are given product types: on the simulated store, on a real taxonomy and on real queries.

    store_queries, taxonomy, query_paths     where queries and their types come from, and what is learned from and what is asked
    ranked_types -> type_metrics             a model's answers, and what they are worth
    type_tables -> report                    figures with intervals, by bucket, against one another

`evaluate_store_types`, `evaluate_taxonomy` and `evaluate_query_paths` are the verbs.
"""
