"""Comparisons of models on simulated and public data. Each study has modules `evaluate_*` on top that write its reports.

    unified         personalised retrieval, baselines and ablations: any log, or the SIMULATED store    aisle evaluate unified
    purchases       the next basket of real customers (UCI Online Retail)                               aisle evaluate purchases
    text_encoder    encoders tuned on clicks: SIMULATED store                                           aisle evaluate text-encoder
                    any encoders: WANDS and ESCI (real judgements)                                      aisle evaluate judged
                    any encoders: a catalogue with derived queries                                      aisle evaluate known-items
    types           product types of queries: SIMULATED store                                           aisle evaluate types, type-use
                    a real taxonomy; real queries with judged category paths                            aisle evaluate taxonomy, query-paths
    ranking         rankers on result pages and in whole searches: SIMULATED store                      aisle evaluate ranking

    rankers, baselines, oracle_ranker    rankers that several studies compare
    case_histories                       the histories that they read

Simulated means that a program invented the shoppers, clicks and purchases: such reports say so in every heading. The measuring library is
`models.evaluation`. Nothing but the command line imports this package.
"""
