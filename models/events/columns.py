"""Parses the columns of a shopping log into those of EVENT_SCHEMA, a batch at a time, and flags what is wrong in each row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Bools, Doubles, Ints
from models.events.event import EventKind
from models.events.kinds import KINDS
from models.events.mapping import EventMapping
from models.events.raw_events import RawEvents
from models.events.report import BadEvent
from models.products.product import MAX_ID_CHARS, MAX_PRICE_MINOR
from models.products.report import Repaired
from models.products.text import clean_text
from models.products.values import parse_price

_TICKS_MS = {"s": 1_000.0, "ms": 1.0, "us": 0.001}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_MS = 946_684_800_000  # 2000-01-01
_LATEST_MS = 4e15  # 64 bits hold it in microseconds
_NUMBER = re.compile(r"\d+(\.\d+)?")
_DATE = re.compile(r"\d{8}")  # as 20250131, which is no number of ticks
_TRUTHS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "1.0"), 1),
    **dict.fromkeys(("", "false", "f", "no", "n", "0", "0.0"), 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventColumns:
    """The rows of RawEvents as events. Ignore the values of a bad row."""

    texts: dict[str, pa.Array]  # the text fields of EVENT_SCHEMA
    time_ms: Ints  # (num_rows,)
    kind: npt.NDArray[np.int8]  # (num_rows,) places in KINDS
    flags: dict[EventKind, Bools]  # (num_rows,) each
    position: pa.Array  # int32
    price_minor: pa.Array  # int64
    bad: dict[BadEvent, Bools] = field(default_factory=dict)  # (num_rows,) each


def parse_columns(raw: RawEvents, mapping: EventMapping) -> EventColumns:
    """Parses all columns. `bad` has every reason that shows in a single row; the checks add the others."""
    num_rows = len(raw.numbers)
    by_field = {name: raw.columns[column] for name, column in mapping.field_columns().items()}
    empty = pa.repeat("", num_rows)
    texts = {
        name: as_text(by_field[name]) if name in by_field else empty
        for name in ("id", "shopper_id", "session_id", "locale", "product_id", "query")
    }
    if mapping.id is None:
        row = pc.cast(pa.array(raw.numbers), pa.string())
        texts["id"] = pc.binary_join_element_wise(raw.file, row, ":")
    texts["locale"] = pc.if_else(pc.equal(texts["locale"], ""), mapping.default_locale, texts["locale"])
    bad: dict[BadEvent, Bools] = {
        BadEvent.NO_ID: _bools(pc.equal(texts["id"], "")),
        BadEvent.LONG_ID: _bools(pc.greater(pc.utf8_length(texts["id"]), MAX_ID_CHARS)),
        BadEvent.NO_PRODUCT: _bools(pc.equal(texts["product_id"], "")),
    }
    nothing = pa.nulls(num_rows)
    return EventColumns(
        texts=texts,
        time_ms=_times(by_field["time"], mapping.time_unit, bad),
        kind=_kinds(by_field.get("kind"), mapping.kinds, num_rows, bad),
        flags=_flags({kind: raw.columns[column] for kind, column in mapping.flag_columns().items()}, num_rows, bad),
        position=_positions(by_field.get("position", nothing), bad),
        price_minor=_prices(by_field.get("price", nothing), mapping.price_digits, bad),
        bad=bad,
    )


def as_text(column: pa.Array) -> pa.Array:
    """Returns any column as text without blanks at its ends, "" for empty cells. Bytes that are not UTF-8 are replaced."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = _nan_as_null(column)
    try:
        text = column.cast(pa.string())
        text.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        text = pa.array([_readable(value) for value in column], pa.string())
    text = pc.fill_null(text, "")
    if not pc.all(pc.string_is_ascii(text), min_count=0).as_py():
        return pa.array([clean_text(value, unescape=False) for value in text.to_pylist()], pa.string())
    return pc.utf8_trim_whitespace(text)


def _readable(value: pa.Scalar) -> str:
    """Returns the text of a value that Arrow cannot cast to text."""
    try:
        return "" if (content := value.as_py()) is None else str(content)
    except UnicodeDecodeError:
        return bytes(value.as_buffer()).decode("utf-8", "replace")


def _times(column: pa.Array, unit: str, bad: dict[BadEvent, Bools]) -> Ints:
    is_missing, is_unclear = _bools(column.is_null()), np.zeros(len(column), np.bool_)
    if pa.types.is_temporal(column.type) and not pa.types.is_time(column.type):
        ticks = column.cast(pa.timestamp("ms", getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
        times = _filled(ticks)
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        ticks = _filled(column.cast(pa.float64(), safe=False), np.nan)
        is_missing = np.isnan(ticks)
        times = np.clip(np.nan_to_num(ticks * _TICKS_MS[unit]), -_LATEST_MS, _LATEST_MS).astype(np.int64)
    else:
        parsed = [_time(text, _TICKS_MS[unit]) for text in as_text(column).to_pylist()]
        times = np.array([0 if time is None else time for time in parsed], np.int64)
        is_missing = _bools(pc.equal(as_text(column), ""))
        is_unclear = np.array([time is None for time in parsed], np.bool_)
    bad[BadEvent.NO_TIME] = is_missing
    bad[BadEvent.TIME_UNCLEAR] = is_unclear
    bad[BadEvent.EARLY_TIME] = times < _EARLIEST_MS
    return times


def _time(text: str, tick_ms: float) -> int | None:
    if _NUMBER.fullmatch(text) and not _DATE.fullmatch(text):
        return round(min(float(text) * tick_ms, _LATEST_MS))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)


def _kinds(
    column: pa.Array | None, more_names: Mapping[str, EventKind], num_rows: int, bad: dict[BadEvent, Bools]
) -> npt.NDArray[np.int8]:
    if column is None:
        return np.zeros(num_rows, np.int8)
    places = {str(kind): at for at, kind in enumerate(KINDS)}
    places |= {name.strip().lower(): KINDS.index(kind) for name, kind in more_names.items()}
    kinds = _look_up(pc.utf8_lower(as_text(column)), places)
    bad[BadEvent.UNKNOWN_KIND] = kinds < 0
    return kinds


def _flags(columns: Mapping[EventKind, pa.Array], num_rows: int, bad: dict[BadEvent, Bools]) -> dict[EventKind, Bools]:
    truths = {kind: _look_up(pc.utf8_lower(as_text(column)), _TRUTHS) for kind, column in columns.items()}
    bad[BadEvent.FLAG_UNCLEAR] = np.zeros(num_rows, np.bool_)
    for truth in truths.values():
        bad[BadEvent.FLAG_UNCLEAR] |= truth < 0
    return {kind: truth == 1 for kind, truth in truths.items()}


def _look_up(texts: pa.Array, places: Mapping[str, int]) -> npt.NDArray[np.int8]:
    """Returns the place of each text, -1 for a text that has none."""
    encoded = texts.dictionary_encode()
    codes = np.array([places.get(text, -1) for text in encoded.dictionary.to_pylist()], np.int8)
    return codes[encoded.indices.to_numpy(zero_copy_only=False)]


def _positions(column: pa.Array, bad: dict[BadEvent, Bools]) -> pa.Array:
    values, is_unclear = _numbers(column)
    is_empty = np.isnan(values) & ~is_unclear
    is_good = (values >= 1) & (values < 2**31) & (values == np.floor(values))
    bad[BadEvent.BAD_POSITION] = ~is_good & ~is_empty
    return pa.array(np.where(is_good, values, 0).astype(np.int32), mask=~is_good)


def _prices(column: pa.Array, digits: int, bad: dict[BadEvent, Bools]) -> pa.Array:
    if pa.types.is_integer(column.type):
        prices = _filled(column.cast(pa.int64(), safe=False)).astype(np.float64) * 10**digits
        is_empty, is_unclear = _bools(column.is_null()), np.zeros(len(column), np.bool_)
    elif pa.types.is_floating(column.type) or pa.types.is_decimal(column.type) or pa.types.is_null(column.type):
        values, is_unclear = _numbers(column)
        is_empty = np.isnan(values)
        prices = np.floor(np.nan_to_num(values) * 10**digits + 0.5 + 1e-6)  # half up; 0.285 is slightly less in binary
    else:
        parsed = [parse_price(text, digits) for text in as_text(column).to_pylist()]
        is_empty = np.array([price is None for price in parsed], np.bool_)
        is_negative = np.array([price is Repaired.NEGATIVE_PRICE for price in parsed], np.bool_)
        is_unclear = np.array([isinstance(price, Repaired) for price in parsed], np.bool_) & ~is_negative
        prices = np.array([price if isinstance(price, int) else 0 for price in parsed], np.float64) - is_negative
    bad[BadEvent.NEGATIVE_PRICE] = prices < 0
    bad[BadEvent.PRICE_UNCLEAR] = is_unclear | (prices > MAX_PRICE_MINOR)
    is_valid = ~is_empty & (prices >= 0) & (prices <= MAX_PRICE_MINOR)
    return pa.array(np.where(is_valid, prices, 0).astype(np.int64), mask=~is_valid)  # whole to 10**15: exact as floats


def _numbers(column: pa.Array) -> tuple[Doubles, Bools]:
    """Returns any column as numbers, NaN for empty cells, and which cells are text that is no number."""
    try:
        return _filled(column.cast(pa.float64(), safe=False), np.nan), np.zeros(len(column), np.bool_)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        texts = as_text(column).to_pylist()
    values = np.array([float(text) if _NUMBER.fullmatch(text) else np.nan for text in texts], np.float64)
    return values, np.array([bool(text) and not _NUMBER.fullmatch(text) for text in texts], np.bool_)


def _nan_as_null(column: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_nan(column), None, column)


def _filled(column: pa.Array, value: float = 0) -> Any:
    """Returns an array of the column's own type, with `value` for empty cells."""
    return pc.fill_null(column, value).to_numpy(zero_copy_only=False)


def _bools(mask: pa.Array) -> Bools:
    return mask.to_numpy(zero_copy_only=False)
