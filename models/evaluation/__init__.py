"""The measuring library, and the report that compares a trained bundle with the previous one.

    metrics, type_metrics                     ranking metrics of many cases; metrics of predicted product types
    bootstrap, buckets                        confidence intervals over shoppers; ways to divide cases
    bundle_figures -> compare_bundles         the report at the end of `aisle train all`

    shopping log -> numbered_log -> cases     searches after the training window, with what the shopper then engaged with
    cases -> results -> summary -> report     every metric of every ranker and case, their means with intervals, the report of a comparison
    plots, run_facts -> page                  report.json and a self-contained report.html, from the template page.html.j2

Comparisons of models on simulated and public data are in `models.studies`; nothing here imports them or the sample store.
"""
