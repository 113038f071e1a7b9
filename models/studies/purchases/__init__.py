"""Compares rankers on REAL purchases: the invoices of a British gift shop (UCI Online Retail), with queries derived from product titles.

A case is what one invoice holds of one kind of product, given the customer's earlier invoices. Command: `aisle evaluate purchases`.

    online_retail             reads the data as a catalogue and a shopping log
    evaluate_online_retail    baselines, the unified model, and a bundle as served, trained on the earlier purchases
    served_bundle             trains that bundle, and searches it
"""
