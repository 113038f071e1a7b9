"""Imports tables of user behaviour, in any form, as an EventLog:

    mapping -> source_files   what the files hold, and which columns hold what
    cells                     SQL that reads a cell as a time, an id, a price
    staged_events             one row an event, with the reason of each row that cannot be used
    checked_events            duplicates, robots, unknown products; names as numbers
    log_writer                the files of the log
    import_log                all of it, atomically; ImportReport says what was done
    suggest_mapping           a mapping for files that were never seen

DuckDB does the work on the disk: memory does not grow with the log.
"""
