"""How well rankers order what was found: on the result pages of a simulated store, later than all that they learned from.

    bundle, store -> pages, segments               pages to learn from and later pages to be measured on, with features
    store -> truth                                 the simulation's own chances of every shown product
    pages -> plain, learned, boosted, served       what each ranker says of the later pages, kept in the report's folder
    page_metrics -> page_summary -> sections       every metric of every page, then means with intervals over shoppers
    sparse, position_bias, missing, taught         few purchase labels; clicks that fall with the place; what the features lack; teachers
    end_to_end, goals                              whole searches with and without the ranker; what was to be reached

`evaluate_ranking` does all of it and writes report.html, for whoever decides, and details/report.html, with every table.
"""
