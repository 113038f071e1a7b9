"""Measures how well queries are classified into product types.

- SIMULATED store: one classifier for all locales, with or without the locale as input, against one per locale; new locales; dialects.
  Command: `aisle evaluate types`. What boosting or filtering by type does to a search: `aisle evaluate type-use`.
- Real product taxonomy with names in 31 locales, queries derived from the names, against BM25 of names. Command: `aisle evaluate taxonomy`.
- Real queries with judged category paths: a matcher of queries and paths. Command: `aisle evaluate query-paths`.

    store_queries, taxonomy, query_paths        training and test queries with their types
    trained_types                               classifiers, trained once and cached in the report's folder
    store_buckets, type_tables                  figures with intervals, by bucket and as paired differences
    new_locale, name_search, search_effect      the first searches of a locale; BM25 of names; effect on a search
    evaluate_store_types, evaluate_taxonomy, evaluate_query_paths, search_effect    write the reports
"""
