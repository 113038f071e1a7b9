"""Decides which rows of a log become events, and counts the others by reason."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Bools, Ints
from models.events.columns import EventColumns, as_text, parse_columns
from models.events.event import EVENT_SCHEMA
from models.events.kinds import KINDS
from models.events.mapping import EventMapping
from models.events.raw_events import RawEvents
from models.events.report import BadEvent, BadRow, EventReport
from models.products.id_set import IdSet

# The field whose value is reported for a bad row.
_REPORTED_FIELD = {
    BadEvent.LONG_ID: "id",
    BadEvent.DUPLICATE_ID: "id",
    BadEvent.TIME_UNCLEAR: "time",
    BadEvent.EARLY_TIME: "time",
    BadEvent.FUTURE_TIME: "time",
    BadEvent.UNKNOWN_KIND: "kind",
    BadEvent.PRICE_UNCLEAR: "price",
    BadEvent.NEGATIVE_PRICE: "price",
    BadEvent.BAD_POSITION: "position",
    BadEvent.UNKNOWN_PRODUCT: "product_id",
    BadEvent.UNKNOWN_LOCALE: "locale",
}


class EventChecks:
    """Checks the batches of one log in their order. A bad row counts for the first of its reasons in the order of BadEvent."""

    def __init__(
        self,
        mapping: EventMapping,
        report: EventReport,
        *,
        products: Container[str] | None,
        locales: Container[str] | None,
        now_ms: int,
    ) -> None:
        """Events after `now_ms` are bad, and so are those outside `products` and `locales`, unless these are None."""
        self.report = report
        self._mapping, self._products, self._locales, self._now_ms = mapping, products, locales, now_ms
        self._ids = IdSet()
        self._last_ms = np.iinfo(np.int64).min

    def events(self, raw: RawEvents) -> pa.RecordBatch:
        """Returns the events of the good rows in EVENT_SCHEMA, and counts the bad rows."""
        columns = parse_columns(raw, self._mapping)
        columns.bad[BadEvent.FUTURE_TIME] = columns.time_ms > self._now_ms
        columns.bad[BadEvent.UNKNOWN_PRODUCT] = _is_outside(columns.texts["product_id"], self._products)
        columns.bad[BadEvent.UNKNOWN_LOCALE] = _is_outside(columns.texts["locale"], self._locales)
        is_good = np.ones(len(raw.numbers), np.bool_)
        for reason in BadEvent:
            if reason == BadEvent.DUPLICATE_ID and self._mapping.id is not None:
                columns.bad[reason] = self._is_repeated(columns.texts["id"], is_good)
            if reason in columns.bad and (rows := np.nonzero(is_good & columns.bad[reason])[0]).size:
                self._count(reason, raw, rows)
                is_good[rows] = False
        batch = self._batch(columns, np.nonzero(is_good)[0])
        self.report.rows += len(is_good)
        self.report.kept += int(is_good.sum())
        self.report.events += batch.num_rows
        return batch

    def _is_repeated(self, ids: pa.Array, is_good: Bools) -> Bools:
        """Returns which of the good rows have an id that was kept before.

        Ids are compared by Python's 64-bit hash: among 100 million, the chance that any two share one is 1 in 3,700.
        """
        rows = np.nonzero(is_good)[0]
        hashes = map(hash, ids.take(pa.array(rows)).to_pylist())
        digests = np.fromiter(hashes, np.int64, len(rows)).view(np.uint64)
        distinct, first = np.unique(digests, return_index=True)
        is_unseen = ~self._ids.contains(distinct)
        self._ids.add(distinct[is_unseen])
        is_new = np.zeros(len(rows), np.bool_)
        is_new[first[is_unseen]] = True
        is_repeated = np.zeros(len(is_good), np.bool_)
        is_repeated[rows[~is_new]] = True
        return is_repeated

    def _count(self, reason: BadEvent, raw: RawEvents, rows: npt.NDArray[np.intp]) -> None:
        examples = rows[: self.report.room()].tolist()
        column = self._mapping.field_columns().get(_REPORTED_FIELD.get(reason, ""))
        for at in examples:
            value = as_text(raw.columns[column].slice(at, 1))[0].as_py() if column else ""
            self.report.add(BadRow(file=raw.file, row=int(raw.numbers[at]), reason=reason, value=value))
        self.report.bad[reason] += len(rows) - len(examples)

    def _batch(self, columns: EventColumns, rows: npt.NDArray[np.intp]) -> pa.RecordBatch:
        """Returns the kept rows as events: one each, and one for each true flag."""
        rows_by_kind = [(0, rows)] if columns.flags else []
        rows_by_kind += [(KINDS.index(kind), rows[flags[rows]]) for kind, flags in columns.flags.items()]
        kinds = columns.kind[rows]
        if rows_by_kind:
            kinds = np.repeat([kind for kind, _ in rows_by_kind], [len(some) for _, some in rows_by_kind])
            kinds = kinds.astype(np.int8)
            rows = np.concatenate([some for _, some in rows_by_kind])
            order = np.argsort(rows, kind="stable")
            rows, kinds = rows[order], kinds[order]
        time_ms = columns.time_ms[rows]
        self._count_out_of_order(time_ms)
        take = pa.array(rows)
        values = {name: texts.take(take) for name, texts in columns.texts.items()}
        if rows_by_kind:
            suffix = pa.array(["", *(f"-{kind}" for kind in KINDS[1:])]).take(pa.array(kinds))
            values["id"] = pc.binary_join_element_wise(values["id"], suffix, "")
        values["time"] = pa.array(time_ms).cast(pa.timestamp("ms", tz="UTC"))
        values["kind"] = pa.DictionaryArray.from_arrays(pa.array(kinds), pa.array([str(kind) for kind in KINDS]))
        values["position"] = columns.position.take(take)
        values["price_minor"] = columns.price_minor.take(take)
        return pa.RecordBatch.from_arrays([values[name] for name in EVENT_SCHEMA.names], schema=EVENT_SCHEMA)

    def _count_out_of_order(self, time_ms: Ints) -> None:
        if len(time_ms):
            before = np.concatenate(([self._last_ms], time_ms[:-1]))
            self.report.out_of_order += int((time_ms < before).sum())
            self._last_ms = int(time_ms[-1])


def _is_outside(values: pa.Array, allowed: Container[str] | None) -> Bools:
    """Returns which values are not in `allowed`. None allows all."""
    if allowed is None:
        return np.zeros(len(values), np.bool_)
    encoded = values.dictionary_encode()
    is_outside = np.array([value not in allowed for value in encoded.dictionary.to_pylist()], np.bool_)
    return is_outside[encoded.indices.to_numpy(zero_copy_only=False)]
