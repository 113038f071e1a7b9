"""What there is decides what is trained: one look at catalogue and log says which stages can learn, from what, and what they lack.

catalogue, log  -> shop_facts    counts, before anything is trained
                -> matrix        for each thing that may be missing: which stages do without, which are left out, what mends it
                -> plan          what this shop's stages become
"""
