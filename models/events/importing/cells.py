"""SQL that reads cells as times, ids, prices. Cells of text files are text; those of Parquet have types."""

from __future__ import annotations

from models.events.importing.mapping import LogMapping
from models.events.kinds import KINDS
from models.products.currency import currency_digits
from models.products.product import MAX_PRICE_MINOR

TICKS_MS = {"s": "* 1000", "ms": "", "us": "/ 1000", "ns": "/ 1000000"}
UNKNOWN_KIND, LEFT_OUT_KIND = -1, -2
# What systems write where nobody is known.
NOBODY = ("", "null", "none", "nan", "undefined", "(not set)", "n/a", "\\n", "anonymous")
_BLANKS = " \t\r\n"


def quoted(name: str) -> str:
    """Returns an identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def text(cell: str) -> str:
    """Returns a cell of text without blanks at its ends; '' if it is empty.

    Hardly any cell has them: to look first takes a third of the time of trimming all.
    """
    has_blanks = " OR ".join(f"{side}({cell}, {literal(blank)})" for blank in _BLANKS for side in ("prefix", "suffix"))
    return f"coalesce(CASE WHEN {has_blanks} THEN trim({cell}, {literal(_BLANKS)}) ELSE {cell} END, '')"


def number_text(cell: str) -> str:
    """Returns a number as text; a whole one has no decimals, so that 123.0 is the id "123"."""
    return f"CASE WHEN NOT isfinite({cell}) THEN NULL WHEN {cell} = trunc({cell}) THEN {cell}::HUGEINT::VARCHAR ELSE {cell}::VARCHAR END"


def shortened(cell: str) -> str:
    """Returns the text of an id in a text file; "123.0", which spreadsheets and pandas write, is "123"."""
    return f"CASE WHEN suffix({cell}, '.0') THEN regexp_replace({cell}, '^([0-9]+)\\.0+$', '\\1') ELSE {cell} END"


def person(cell: str) -> str:
    """Returns an id of a shopper or session; '' where it is a placeholder."""
    nobody = ", ".join(map(literal, NOBODY))
    return f"CASE WHEN length({cell}) < 10 AND lower({cell}) IN ({nobody}) THEN '' ELSE {cell} END"


def typed_time(cell: str, of_type: str, timezone: str) -> str:
    """Returns ms since 1970 of a column of dates or timestamps, where the connection's zone is UTC."""
    if of_type.startswith(("TIMESTAMP WITH", "TIMESTAMPTZ")) or timezone == "UTC":
        return f"epoch_ms({cell}::TIMESTAMP)"
    return f"epoch_ms(timezone({literal(timezone)}, {cell}::TIMESTAMP))"


def time_ms(cell: str, mapping: LogMapping) -> str:
    """Returns ms since 1970 of a cell of text: in the format of the mapping, else a number, a date as 20250131, or ISO 8601; NULL if it is
    none of them."""
    if mapping.time_format:
        read = f"try_strptime({cell}, {literal(mapping.time_format)})"
        return f"epoch_ms({read if mapping.timezone == 'UTC' else f'timezone({literal(mapping.timezone)}, {read})'})"
    local = f"try_cast({cell} AS TIMESTAMP)"
    if mapping.timezone != "UTC":
        local = f"timezone({literal(mapping.timezone)}, {local})"
    day = f"try_strptime({cell}, '%Y%m%d')"
    local_day = day if mapping.timezone == "UTC" else f"timezone({literal(mapping.timezone)}, {day})"
    # A cast to TIMESTAMP is ten times as fast as one to TIMESTAMPTZ, and ignores an offset: only Z and UTC may be ignored. "2025-01-31
    # 10:00:00" has 19 characters; the offset of a shorter text follows hours and minutes.
    ends_in_utc = f"(suffix({cell}, 'Z') OR suffix({cell}, 'UTC'))"
    offset = r"':\d\d(\.\d+)? ?[+-]\d\d(:?\d\d)?$'"
    zoned = rf"try_cast(regexp_replace({cell}, ' ([+-]\d\d:?\d*)$', '\1') AS TIMESTAMPTZ)"
    return f"""CASE
        WHEN contains({cell}, '-') OR contains({cell}, '/') THEN CASE
            WHEN {ends_in_utc} THEN epoch_ms(try_cast({cell} AS TIMESTAMP))
            WHEN length({cell}) > 16 AND regexp_matches({cell}, {offset}) THEN epoch_ms({zoned})
            ELSE epoch_ms({local}) END
        WHEN length({cell}) = 8 AND {day} IS NOT NULL THEN epoch_ms({local_day})
        ELSE {_ticks(f"try_cast({cell} AS DOUBLE)", f"try_cast({cell} AS BIGINT)", mapping.time_unit)} END"""


def _ticks(number: str, whole: str, unit: str) -> str:
    """Returns ms of ticks. Seconds of any year until 5138 are below 1e11, and so on: the size shows the unit."""
    if unit == "ms":
        return f"coalesce({whole}, try_cast(floor({number}) AS BIGINT))"
    if unit != "auto":
        return f"try_cast(floor({number} {TICKS_MS[unit].replace('/ ', '/ 1.0 / ')}) AS BIGINT)"
    return (
        f"CASE WHEN abs({number}) < 1e11 THEN try_cast({number} * 1000 AS BIGINT) "
        f"WHEN abs({number}) < 1e14 THEN coalesce({whole}, try_cast(floor({number}) AS BIGINT)) "
        f"WHEN abs({number}) < 1e17 THEN try_cast(floor({number} / 1000) AS BIGINT) "
        f"ELSE try_cast(floor({number} / 1000000) AS BIGINT) END"
    )


def kind_code(cell: str, kinds: dict[str, str]) -> str:
    """Returns the place in KINDS of a kind's name, UNKNOWN_KIND or LEFT_OUT_KIND."""
    named = {str(kind): str(kind) for kind in KINDS} | {name.strip().lower(): kind for name, kind in kinds.items()}
    places = [str(kind) for kind in KINDS]
    whens = " ".join(
        f"WHEN {literal(name)} THEN {places.index(kind) if kind else LEFT_OUT_KIND}" for name, kind in named.items()
    )
    return f"CASE lower({cell}) {whens} ELSE {UNKNOWN_KIND} END"


def truth(cell: str) -> str:
    """Returns whether a flag is set; NULL if it is neither true nor false."""
    lowered = f"lower({text(cell)})"
    return (
        f"CASE WHEN {lowered} IN ('1', 'true', 't', 'yes', 'y', '1.0') THEN true "
        f"WHEN {lowered} IN ('', '0', 'false', 'f', 'no', 'n', '0.0') THEN false END"
    )


def price_ticks(cell: str, mapping: LogMapping) -> str:
    """Returns a price in minor units, not rounded; NULL if the cell is no number."""
    digits = currency_digits(mapping.currency) if mapping.price_unit == "main" else 0
    thousands, mark = (",", ".") if mapping.decimal == "point" else (".", ",")
    bare = f"regexp_replace({cell}, '[^0-9.,-]', '', 'g')"
    plain = f"try_cast(replace(replace({bare}, '{thousands}', ''), '{mark}', '.') AS DOUBLE)"
    if mapping.decimal == "point":
        plain = f"coalesce(try_cast({cell} AS DOUBLE), {plain})"
    return f"CASE WHEN {cell} <> '' THEN {plain} * {10**digits} END"


def price_minor(ticks: str) -> str:
    """Returns a whole price; NULL where it is negative or too high. Half up; 0.285 is slightly less in binary."""
    return f"CASE WHEN {ticks} BETWEEN 0 AND {MAX_PRICE_MINOR} THEN floor({ticks} + 0.5 + 1e-6)::BIGINT END"


def list_of(cell: str) -> str:
    """Returns the texts of a list: as JSON, as Python writes it, or separated by commas, semicolons, bars or blanks."""
    listed = (
        f"CASE WHEN prefix({cell}, '[') THEN try_cast({cell} AS VARCHAR[]) "
        rf"ELSE string_split_regex({cell}, '[,;|\s]+') END"
    )
    return f"list_filter(list_transform(coalesce({listed}, []), lambda x: {text('x')}), lambda x: x <> '')"
