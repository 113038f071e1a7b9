"""Finds, among the staged events, duplicates, robots and products that the catalogue lacks, and numbers the names.

`dropped` holds the rows that do not count; `products`, `shoppers`, `queries`, `locales` and `sessions` hold each name once, with a code.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from models.events.importing.report import FAULTS, LOSSES, Fault, ImportReport, Robot
from models.events.importing.staged_events import Run, Staging

ROBOT_SHARE, ROBOT_EVENTS, ROBOT_SHOPPERS = 0.05, 1_000, 1_000
_EXAMPLES = 5
# Joined in the order that the log is written in. A session is known by the hash of its name: of 10 million, that two share one has the
# chance of 3 in a million. The same holds for equal events.
LOG_ROWS = """
SELECT s.time_ms, s.kind, coalesce(h.code, -1)::INTEGER AS shopper, coalesce(x.code, -1)::INTEGER AS session,
    p.code::INTEGER AS product, q.code::INTEGER AS query, l.code::INTEGER AS locale,
    coalesce(s.position, 0)::INTEGER AS position, coalesce(s.price, -1)::BIGINT AS price_minor
FROM counted s
    JOIN products p ON s.product = p.name AND p.is_known
    JOIN queries q ON s.query = q.name
    JOIN locales l ON s.locale = l.name
    LEFT JOIN shoppers h ON s.shopper = h.name
    LEFT JOIN sessions x ON s.session = x.name
ORDER BY s.time_ms, s.rid
"""


def count_faults(staging: Staging, report: ImportReport) -> None:
    """Counts the rows that became no event, and the values that events lost."""
    connection = staging.connection
    report.rows = sum(file.rows for file in staging.files)
    found = connection.execute("SELECT fault, losses, count(*) FROM staged GROUP BY ALL").fetchall()
    rejected = _one(connection, "SELECT count(*) FROM rejected")
    by_fault = {Fault.UNREADABLE: rejected} if rejected else {}
    for fault, losses, count in found:
        if fault == Fault.NONE:
            for bit, reason in LOSSES.items():
                if losses & bit:
                    report.lost[reason] = report.lost.get(reason, 0) + count
        elif fault == Fault.LEFT_OUT:
            report.left_out += count
        elif fault == Fault.RETURNED:
            report.returned += count
        else:
            by_fault[Fault(fault)] = by_fault.get(Fault(fault), 0) + count
    report.bad = {FAULTS[fault]: by_fault[fault] for fault in sorted(by_fault)}
    kinds = connection.execute(
        f"SELECT value, count(*) FROM staged WHERE fault = {Fault.UNKNOWN_KIND} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {_EXAMPLES}"
    ).fetchall()
    report.unknown_kinds = dict(kinds)


def find_duplicates(staging: Staging, run: Run, report: ImportReport) -> None:
    """Drops all but the earliest of equal events, the first in the files where times are equal."""
    connection = staging.connection
    report.out_of_order = _one(
        connection,
        "SELECT count(*) FILTER (is_back) FROM (SELECT time_ms < lag(time_ms) OVER () AS is_back FROM staged WHERE fault = 0)",
    )
    run("CREATE TABLE repeated AS SELECT key FROM staged WHERE fault = 0 GROUP BY key HAVING count(*) > 1")
    run(
        """CREATE TABLE dropped AS SELECT rid FROM (
            SELECT s.rowid AS rid, row_number() OVER (PARTITION BY s.key ORDER BY s.time_ms, s.rowid) AS number
            FROM staged s SEMI JOIN repeated USING (key) WHERE s.fault = 0) WHERE number > 1"""
    )
    report.duplicates = _one(connection, "SELECT count(*) FROM dropped")
    if report.duplicates:
        for file in staging.files:
            within = f"BETWEEN {file.first} AND {file.stop - 1}"
            dropped = _one(connection, f"SELECT count(*) FROM dropped WHERE rid {within}")
            if dropped and dropped == _one(
                connection, f"SELECT count(*) FROM staged WHERE rowid {within} AND fault = 0"
            ):
                report.duplicate_files.append(file.name)
    _count_anew(connection)


def number_names(staging: Staging, run: Run, report: ImportReport, catalogue: pa.Array | None) -> None:
    """Numbers the names, and keeps out the products that `catalogue` lacks (None: all are known)."""
    connection = staging.connection
    for table, column in (("products", "product"), ("locales", "locale"), ("queries", "query")):
        also = "UNION ALL SELECT '', 0" if table == "queries" else ""
        run(
            f"""CREATE TABLE {table} AS SELECT (row_number() OVER () - 1)::INTEGER AS code, name, events, true AS is_known FROM (
                SELECT name, sum(events)::BIGINT AS events FROM (
                    SELECT {column} AS name, count(*) AS events FROM counted GROUP BY 1 {also}) GROUP BY name)"""
        )
    if catalogue is not None:
        connection.register("given", pa.table({"name": catalogue}))
        run("UPDATE products SET is_known = false WHERE name NOT IN (SELECT name FROM given)")
        connection.unregister("given")
        report.unknown_products = _one(connection, "SELECT coalesce(sum(events), 0) FROM products WHERE NOT is_known")
        examples = f"SELECT name FROM products WHERE NOT is_known ORDER BY events DESC, name LIMIT {_EXAMPLES}"
        report.unknown_product_ids = [row[0] for row in connection.execute(examples).fetchall()]


def cap_robots(staging: Staging, run: Run, report: ImportReport, max_events: int | None) -> None:
    """Keeps the first events of each shopper that has too many.

    With `max_events` that is more than `max_events`. With None it is more than ROBOT_EVENTS, and than ROBOT_SHARE of all events, in a log
    of ROBOT_SHOPPERS or more; ROBOT_EVENTS of them are kept.
    """
    connection = staging.connection
    run(
        "CREATE TABLE shoppers AS SELECT (row_number() OVER () - 1)::INTEGER AS code, shopper AS name, count(*) AS events "
        "FROM counted WHERE shopper <> '' GROUP BY shopper"
    )
    most, kept = max_events, max_events
    if max_events is None:
        shoppers, events = connection.execute(
            "SELECT (SELECT count(*) FROM shoppers), (SELECT count(*) FROM counted)"
        ).fetchall()[0]
        most, kept = max(ROBOT_EVENTS, int(ROBOT_SHARE * events)), ROBOT_EVENTS
        if shoppers < ROBOT_SHOPPERS:
            most = None
    if most is not None:
        connection.execute(f"CREATE TABLE robots AS SELECT name, events FROM shoppers WHERE events > {most}")
        robots = connection.execute("SELECT name, events FROM robots ORDER BY events DESC, name").fetchall()
        report.robots = [Robot(shopper=name, events=events, kept=kept or 0) for name, events in robots[:20]]
        if robots:
            report.capped = sum(events - (kept or 0) for _, events in robots)
            run(
                f"""INSERT INTO dropped SELECT rid FROM (
                    SELECT rid, row_number() OVER (PARTITION BY shopper ORDER BY time_ms, rid) AS number
                    FROM counted WHERE shopper IN (SELECT name FROM robots)) WHERE number > {kept}"""
            )
            _count_anew(connection)


def number_sessions(run: Run) -> None:
    run(
        "CREATE TABLE sessions AS SELECT (row_number() OVER () - 1)::INTEGER AS code, name FROM "
        "(SELECT DISTINCT session AS name FROM counted WHERE session IS NOT NULL)"
    )


def count_events(connection: duckdb.DuckDBPyConnection) -> int:
    """Returns how many events the log will have."""
    return _one(connection, "SELECT count(*) FROM counted s JOIN products p ON s.product = p.name AND p.is_known")


def bad_rows(staging: Staging) -> duckdb.DuckDBPyRelation:
    """Returns file, row, reason and value of each bad row. Rows count from 1 without a header; lines that could not be
    split are named by their line."""
    connection = staging.connection
    connection.register(
        "files",
        pa.table(
            {
                "number": pa.array(range(len(staging.files)), pa.int32()),
                "name": [file.name for file in staging.files],
                "first": pa.array([file.first for file in staging.files], pa.int64()),
                "stop": pa.array([file.stop for file in staging.files], pa.int64()),
            }
        ),
    )
    reasons = " ".join(f"WHEN {int(fault)} THEN '{reason}'" for fault, reason in FAULTS.items())
    return connection.sql(
        f"""SELECT file, row, reason, value FROM (
            SELECT f.name AS file, coalesce(s.row_number, s.rowid - f.first + 1) AS row, CASE fault {reasons} END AS reason,
                coalesce(s.value, '') AS value, f.number, s.rowid AS place
            FROM staged s JOIN files f ON s.rowid >= f.first AND s.rowid < f.stop
            WHERE s.fault BETWEEN 1 AND {Fault.LEFT_OUT - 1:d}
            UNION ALL
            SELECT f.name, line, '{FAULTS[Fault.UNREADABLE]} (line)', coalesce(r.value, ''), f.number, line
            FROM rejected r JOIN files f ON r.file = f.number) ORDER BY number, place"""
    )


def _count_anew(connection: duckdb.DuckDBPyConnection) -> None:
    dropped = _one(connection, "SELECT count(*) FROM dropped")
    anti = "ANTI JOIN dropped d ON s.rowid = d.rid" if dropped else ""
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW counted AS SELECT s.rowid AS rid, s.* FROM staged s {anti} WHERE s.fault = 0"
    )


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(connection.execute(sql).fetchall()[0][0] or 0)
