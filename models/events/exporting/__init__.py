"""Makes a log to train on from what a service showed and what shoppers did there.

page_log      the request log, as columns
served_log    the join: which event happened on which page, whose a page is, sessions
served_rows   pages and events as rows of a log, in order of time
counts        what became of pages and events
"""
