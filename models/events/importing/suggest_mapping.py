"""Looks at files that were never seen, and writes a mapping for them, with a comment on each choice.

Columns are found by their names, else by the words of their names, and confirmed by their values. Times and kinds of events also show by
their values alone. The text that is written is TOML that `LogMapping.load` reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from models.events.errors import LogError
from models.events.importing.cells import list_of, quoted, shortened, text, time_ms, truth, typed_time
from models.events.importing.mapping import FLAGS, LogMapping, SourceMapping
from models.events.importing.source_files import SourceFile, cell_of, find_files, is_time, open_file, rows_of
from models.events.kinds import KINDS

_SAMPLE_ROWS = 50_000
_FIRST_MS, _LAST_MS = 946_684_800_000, 4_102_444_800_000  # 2000 and 2100
_MOST_KINDS = 60
_TIME_SHARE = 0.9  # of the cells of a column of times must read as times
# Formats of times that ISO 8601 does not have, those with the month first before those with the day first: where all days are below 13, a
# column reads as both, and nobody can tell.
_TIME_FORMATS = tuple(
    f"{date}{clock}"
    for date in ("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m/%d/%y", "%d/%m/%y")
    for clock in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
)
_KNOWN_SHARE = 0.3  # of the distinct values of a column, from which on it is the product's
_NAMES = {
    "time": "time timestamp event_time eventtime event_timestamp ts datetime date_time created_at server_timestamp_epoch_ms "
    "server_timestamp occurred_at derived_tstamp collector_tstamp event_date date",
    "product": "product_id productid item_id itemid product item sku product_sku product_sku_hash sku_id article_id asin upc "
    "object_id event_attributes.object.object_id product_code productcode stock_code stockcode item_code itemcode article_no item_no",
    "kind": "kind event_type event action event_name action_name product_action behavior behaviour behavior_type type",
    "shopper": "shopper_id user_id userid visitorid visitor_id customer_id customerid client_id user_pseudo_id domain_userid user shopper",
    "session": "session_id sessionid session user_session session_id_hash domain_sessionid visit_id visit",
    "query": "query search_query search_term search_terms searchstring user_query keyword keywords q search",
    "position": "position rank pos slot place",
    "price": "price_minor price unit_price price_cents",
    "currency": "currency currency_code",
    "locale": "locale language lang",
    "id": "id event_id eventid uuid",
    "quantity": "quantity qty order_quantity item_quantity units",
    "clicked": "clicked is_clicked is_click click clicks",
    "carted": "carted is_carted added_to_cart add_to_cart is_cart cart in_cart",
    "purchased": "purchased is_purchased is_purchase bought ordered purchase",
}
# Words of other names, as "unix_ts" or "itemNumber", and words with which a column holds something else.
_WORDS = {
    "time": ("time timestamp ts date datetime epoch when", "zone spent length duration load"),
    "product": (
        "item product sku article asin upc ean gtin",
        "name title category cat price brand qty quantity count type kind class description url image colour color size position rank",
    ),
    "kind": ("event action kind type activity behavior behaviour", "id time date ts timestamp value"),
    "shopper": (
        "user visitor customer shopper client member buyer cookie",
        "agent type name country age mail email segment",
    ),
    "session": ("session visit", "start end length duration time type number count"),
    "query": (
        "query search keyword keywords term phrase",
        "id type page count time date results engine vector embedding hash",
    ),
    "position": ("position rank pos slot place ordinal", ""),
    "price": ("price", "currency"),
    "currency": ("currency", ""),
    "locale": ("locale language lang", ""),
    "quantity": ("quantity qty", "stock available min max"),
}
# Of columns that only order lines have; with the last ones it is another thing, as "sort_order" and "sale_price".
_NUMBER_WORDS = {"id", "no", "number", "nr", "num", "code", "key", "ref", "reference"}  # of an order's number
_ORDERS = {"order", "invoice", "receipt", "purchase", "sale", "transaction", "bill"}
_ORDER_WORDS = _ORDERS | {f"{order}{number}" for order in _ORDERS for number in _NUMBER_WORDS}  # "orderid" is one word
_NO_ORDER_WORDS = {"sort", "display", "page", "list", "rank", "by", "price", "on", "is", "has", "flag", "count"}
_ALWAYS = 0.95  # share of the rows in which a column of order lines is filled: events have an order on purchases alone
_KIND_WORDS = {  # of names of kinds, the first that fits
    "": "remove removed delete scroll refund return wish wishlist favourite favorite",
    "impression": "impression impressions shown list listing exposure exposed",
    "cart": "cart basket bag trolley",
    "purchase": "purchase purchased buy bought order ordered transaction sale sold",
    "click": "click clicked view viewed detail details pdp open opened visit",
}
_LISTS = {
    "shown": "shown product_skus_hash candidate_wid_list products items results impressions query_response_hit_ids",
    "clicked": "clicked clicked_skus_hash clicks clicked_items clicked_products",
    "labels": "labels candidate_label_list",
}
_KINDS = {
    "impression": "impression impressions shown exposure view_item_list list_view item_impression",
    "click": "view click detail product_view productview view_item item_view item_click product_click select_item pv list_click "
    "pageview_product view_product",
    "cart": "cart add addtocart add_to_cart add-to-cart basket add_to_basket addtobasket",
    "purchase": "purchase transaction buy order bought checkout_complete order_completed purchased sale",
    "": "remove remove_from_cart removefromcart remove-from-cart search fav favorite favourite wishlist add_to_wishlist view_cart "
    "begin_checkout page_view refund",
}
_WHY_KIND = {
    "impression": "shown in a list",
    "click": "a click, or a view of the product's page",
    "cart": "put into the cart",
    "purchase": "bought",
    "": "left out: it shows no interest in the product",
}
_PURPOSES = {
    "shopper": "who it was: without, histories are sessions",
    "session": "without, a pause of session_gap_minutes ends a session",
    "query": "what was searched: without, queries come from titles",
    "position": "place on the result page: the ranker discounts for it",
    "price": "of one item then",
    "locale": "language and region, as en-US: without, `locale` above is that of all events",
    "id": "a unique id: without, events that are equal in everything count once",
    "quantity": "of what was bought: purchases of 0 or less, returns, are left out",
}


@dataclass(slots=True, kw_only=True)
class _Looked:
    """One kind of files: those with the same columns."""

    file: SourceFile
    files: list[Path]
    num_rows: int
    columns: dict[str, str] = field(default_factory=dict)  # field -> column
    notes: dict[str, str] = field(default_factory=dict)  # field -> why
    kinds: dict[str, str | None] = field(default_factory=dict)  # None: not known
    counts: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    shape: str = "events"
    assumed: str = ""  # what no column says


@dataclass(frozen=True, slots=True)
class SuggestedMapping:
    """TOML that `LogMapping.load` reads, and what it assumes without a column that says so."""

    toml: str
    assumed: tuple[str, ...]


def suggest_mapping(paths: Sequence[Path], catalogue: pa.Array | None = None) -> SuggestedMapping:
    """Looks at these files. `catalogue` holds product ids, as `distinct_ids` reads them: the column that holds most of them is the product.

    Raises LogError if the files have no column of times or of products.
    """
    connection = duckdb.connect(config={"memory_limit": "1GiB", "autoinstall_known_extensions": "false"})
    try:
        if catalogue is not None:
            connection.register("catalogue", pa.table({"id": catalogue}))
        groups: dict[tuple[str, ...], _Looked] = {}
        for path in find_files(paths):
            file = open_file(connection, path)
            key = tuple(file.columns)
            if key in groups:
                groups[key].files.append(path)
            else:
                groups[key] = _Looked(file=file, files=[path], num_rows=0)
        for looked in groups.values():
            _look(connection, looked, has_catalogue=catalogue is not None)
    finally:
        connection.close()
    usable = [looked for looked in groups.values() if _is_usable(looked)]
    if not usable:
        raise LogError("; ".join(_missing(looked) for looked in groups.values()))
    toml = _toml(usable, [looked for looked in groups.values() if not _is_usable(looked)])
    return SuggestedMapping(toml, tuple(f"{one.file.path.name}: {one.assumed}" for one in usable if one.assumed))


def _look(connection: duckdb.DuckDBPyConnection, looked: _Looked, *, has_catalogue: bool) -> None:
    """Reads a sample, and decides what each column holds."""
    file = looked.file
    cells = ", ".join(f"{cell_of(file, name)} AS {quoted(name)}" for name in file.columns)
    rows = rows_of(file, list(file.columns), SourceMapping())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE sample AS SELECT {cells} FROM {rows} LIMIT {_SAMPLE_ROWS}")
    sample = _Sample(connection, file)
    looked.num_rows = sample.rows
    if not sample.rows:
        return
    _find_time(sample, looked)
    if shown := sample.first_list(_LISTS["shown"]):
        looked.shape = "pages"
        looked.columns["shown"], looked.notes["shown"] = (
            shown,
            "a list of products in each row: the row is a result page",
        )
        for name in ("clicked", "labels"):
            if column := sample.first_list(_LISTS[name]):
                looked.columns[name], looked.notes[name] = column, "a list beside it"
    else:
        _find_product(sample, looked, has_catalogue=has_catalogue)
        if "product" in looked.columns:
            _find_kind(sample, looked)
    for name in ("shopper", "session", "query", "position", "price", "currency", "locale", "id", "quantity"):
        if name in looked.columns or (
            looked.shape == "pages" and name in ("position", "price", "currency", "quantity")
        ):
            continue
        fits = {
            "position": lambda one: sample.share(f"try_cast({quoted(one)} AS DOUBLE) IS NOT NULL", one) > 0.95,
            "price": lambda one: sample.share(f"regexp_matches({quoted(one)}, '[0-9]')", one) > 0.95,
            "id": lambda one: sample.filled(one) == sample.distinct(one) == sample.rows,
            "quantity": lambda one: sample.share(f"try_cast({quoted(one)} AS DOUBLE) IS NOT NULL", one) > 0.95,
        }.get(name, lambda one: sample.filled(one) > 0)
        if column := sample.first(name, fits):
            looked.columns[name] = column
            looked.notes[name] = f"{sample.distinct(column):,} values, as {sample.examples(column)}"
    if looked.shape == "events" and "product" in looked.columns and "kind" not in looked.columns:
        _assume_kind(sample, looked)
    _find_settings(sample, looked)


def _find_product(sample: _Sample, looked: _Looked, *, has_catalogue: bool) -> None:
    """Finds the column with the most products of the catalogue; without a catalogue, by the names of the columns."""
    shares = {one: sample.known_share(one) for one in sample.others()} if has_catalogue else {}
    best = max(shares, key=lambda one: shares[one], default="")
    if best and shares[best] > _KNOWN_SHARE:
        sample.take(best)
        looked.columns["product"] = best
        looked.notes["product"] = f"{shares[best]:.0%} of its {sample.distinct(best):,} ids are in the catalogue"
    elif column := sample.first("product", lambda one: sample.filled(one) > 0):
        looked.columns["product"] = column
        looked.notes["product"] = f"{sample.distinct(column):,} ids in {sample.rows:,} rows"


def _assume_kind(sample: _Sample, looked: _Looked) -> None:
    """Takes the rows of a table without kinds for purchases if it has columns that only order lines have, filled in each row, else for
    clicks. The lines of an order are a visit: so those of guests belong together."""
    orders = [
        one for one in looked.file.columns if (words := _words(one)) & _ORDER_WORDS and not words & _NO_ORDER_WORDS
    ]
    telling = [*orders, *(looked.columns[name] for name in ("quantity",) if name in looked.columns)]
    telling = [one for one in telling if sample.filled(one) > _ALWAYS * sample.rows]
    if telling:
        why = f"no column says what a row is: each is taken for a purchase, an order line, because of {telling[0]}"
        looked.columns["kind"] = "=purchase"
        numbers = [
            one
            for one in sample.others()
            if one in telling
            and _words(one) <= _ORDER_WORDS | _NUMBER_WORDS
            and sample.distinct(one) < sample.filled(one)
        ]
        if "session" not in looked.columns and numbers:
            looked.columns["session"] = max(numbers, key=sample.distinct)
            looked.notes["session"] = (
                f"{sample.distinct(looked.columns['session']):,} orders: the lines of one are a visit"
            )
            sample.take(looked.columns["session"])
    else:
        why = 'no column says what a row is: each is taken for a click, or a view; "=purchase" if it is an order line'
        looked.columns["kind"] = "=click"
    looked.notes["kind"] = why
    looked.assumed = "; ".join(filter(None, (looked.assumed, why)))


class _Sample:
    """The first rows of a file, in the table `sample`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, file: SourceFile) -> None:
        self._connection, self._file = connection, file
        self._taken: set[str] = set()  # columns that a field has
        self.rows = int(self.value("count(*)") or 0)

    def value(self, expression: str) -> Any:
        return self._connection.execute(f"SELECT {expression} FROM sample").fetchall()[0][0]

    def first(self, name: str, fits: Any) -> str | None:
        """Takes the first column with a name of this field whose values fit."""
        found = next((column for column in self.columns_for(name) if fits(column)), None)
        if found:
            self.take(found)
        return found

    def take(self, column: str) -> None:
        self._taken.add(column)

    def columns_for(self, name: str) -> list[str]:
        """Returns the columns whose names, or whose words, are those of a field, and that no other field has."""
        named = self.named(_NAMES[name])
        wanted, excluded = (set(words.split()) for words in _WORDS.get(name, ("", "")))
        worded = [one for one in self._file.columns if (words := _words(one)) & wanted and not words & excluded]
        return [column for column in dict.fromkeys([*named, *worded]) if column not in self._taken]

    def others(self) -> list[str]:
        """Returns the columns that no field has."""
        return [column for column in self._file.columns if column not in self._taken]

    def first_list(self, names: str) -> str | None:
        for column in self.named(names):
            lists = self.share(
                f"prefix({text(quoted(column))}, '[') OR len({list_of(text(quoted(column)))}) > 1", column
            )
            if lists > 0.5:
                return column
        return None

    def known_share(self, column: str) -> float:
        """Returns the share of the distinct values that are ids of the catalogue."""
        cell = text(shortened(cell_of(self._file, column) if self._file.is_parquet else quoted(column)))
        known = self.value(f"count(DISTINCT {cell}) FILTER ({cell} IN (SELECT id FROM catalogue))")
        return int(known) / max(1, self.distinct(column))

    def filled(self, column: str) -> int:
        return int(self.value(f"count(*) FILTER ({text(quoted(column))} <> '')"))

    def distinct(self, column: str) -> int:
        return int(self.value(f"count(DISTINCT {quoted(column)})"))

    def share(self, condition: str, column: str) -> float:
        """Returns the share of the filled cells for which a condition holds; 0 if no cell is filled."""
        found = self.value(f"count(*) FILTER (({condition}) AND {text(quoted(column))} <> '')")
        return int(found) / max(1, self.filled(column))

    def examples(self, column: str) -> str:
        found = self._connection.execute(
            f"SELECT left({quoted(column)}, 40) FROM sample WHERE {text(quoted(column))} <> '' LIMIT 1"
        ).fetchall()
        return json.dumps(found[0][0], ensure_ascii=False) if found else "none"

    def counts(self, column: str) -> dict[str, int]:
        """Returns the most frequent values, which are equal without case."""
        cell = text(quoted(column))
        return dict(
            self._connection.execute(
                f"SELECT min({cell}), count(*) FROM sample GROUP BY lower({cell}) ORDER BY 2 DESC, 1 LIMIT {_MOST_KINDS + 1}"
            ).fetchall()
        )

    def named(self, names: str) -> list[str]:
        by_name = {column.lower(): column for column in self._file.columns}
        return [by_name[name] for name in names.split() if name in by_name]


def _words(name: str) -> set[str]:
    """Returns the words of "unix_ts", "itemNumber" or "put in basket"."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def _find_time(sample: _Sample, looked: _Looked) -> None:
    columns = dict.fromkeys([*sample.columns_for("time"), *sample.others()])
    found = next((column for column in columns if _time_share(sample, looked, column) > _TIME_SHARE), None)
    formats: list[str] = []
    if found is None:
        texts = [column for column in columns if looked.file.columns[column] == "VARCHAR"]
        read = ((column, _time_formats(sample, looked, column)) for column in texts)
        found, formats = next(((column, fitting) for column, fitting in read if fitting), (None, formats))
    if found is None:
        return
    sample.take(found)
    looked.columns["time"] = found
    share = _time_share(sample, looked, found, formats[0] if formats else "")
    looked.notes["time"] = f"{share:.0%} of the cells read as times, as {sample.examples(found)}"
    if formats:
        looked.settings["time_format"] = formats[0]
        if len(formats) > 1:
            looked.assumed = (
                f"{found} reads as {' and as '.join(formats)}: the first is taken; correct time_format if it is wrong"
            )
    size = sample.value(f"median(abs(try_cast({quoted(found)} AS DOUBLE)))")
    if size is not None and not is_time(looked.file.columns[found]) and size > 1e8 + 3e7:
        unit = next(name for name, most in (("s", 1e11), ("ms", 1e14), ("us", 1e17), ("ns", 1e30)) if size < most)
        looked.settings["time_unit"] = unit
        looked.notes["time"] += f": {unit} since 1970, by their size"


def _time_share(sample: _Sample, looked: _Looked, column: str, time_format: str = "") -> float:
    """Returns the share of the cells that read as times between 2000 and 2100."""
    source = SourceMapping(columns={"time": "t", "product": "p", "kind": "k"})
    of_type = looked.file.columns[column]
    if is_time(of_type):
        parsed = typed_time(f"{quoted(column)}::{of_type}", of_type, "UTC")
    else:
        parsed = time_ms(text(quoted(column)), LogMapping(sources=(source,), time_format=time_format))
    return sample.share(f"({parsed}) BETWEEN {_FIRST_MS} AND {_LAST_MS}", column)


def _time_formats(sample: _Sample, looked: _Looked, column: str) -> list[str]:
    """Returns the formats that read the most cells of a column, if they read nearly all."""
    shares = {one: _time_share(sample, looked, column, one) for one in _TIME_FORMATS}
    most = max(shares.values())
    return [one for one, share in shares.items() if share == most] if most > _TIME_SHARE else []


def _find_kind(sample: _Sample, looked: _Looked) -> None:
    """Finds the column of kinds, which names the most that are known; else flags, of which each row has some."""
    best: tuple[int, str, dict[str, int]] | None = None
    for column in sample.columns_for("kind"):
        counts = sample.counts(column)
        matched = len([name for name in counts if _kind_of(name)])
        if matched and len(counts) <= _MOST_KINDS and (best is None or matched > best[0]):
            best = matched, column, counts
    for column in [] if best else sample.others():  # of any name: most of its values must be kinds
        counts = sample.counts(column)
        matched = len([name for name in counts if _kind_of(name)])
        if (
            len(counts) <= _MOST_KINDS
            and matched > 1
            and matched > len(counts) / 2
            and (best is None or matched > best[0])
        ):
            best = matched, column, counts
    if best is not None:
        _, looked.columns["kind"], looked.counts = best
        sample.take(looked.columns["kind"])
        looked.kinds = {name: _kind_of(name) for name in looked.counts}
        looked.notes["kind"] = f"{len(looked.counts)} names, below"
        return
    for name in FLAGS:
        flag = sample.first(name, lambda one: sample.share(f"({truth(quoted(one))}) IS NOT NULL", one) > 0.99)
        if flag:
            looked.shape = "impressions"
            looked.columns[name], looked.notes[name] = flag, "true or false in each row: the row is an impression"


def _kind_of(name: str) -> str | None:
    """Returns what a name of a kind means, "" for what is left out, None if nothing says so."""
    folded = name.lower()
    if not folded or folded in KINDS:
        return folded
    for kind, names in _KINDS.items():
        if folded in names.split():
            return kind
    return next((kind for kind, words in _KIND_WORDS.items() if _words(name) & set(words.split())), None)


def _find_settings(sample: _Sample, looked: _Looked) -> None:
    price = looked.columns.get("price")
    if price and price.lower() in ("price_minor", "price_cents"):
        looked.settings["price_unit"] = "minor"
    elif price and sample.share(f"regexp_matches({quoted(price)}, ',[0-9]{{1,2}}$')", price) > 0.5:
        looked.settings["decimal"] = "comma"
    currency = looked.columns.get("currency")
    if currency and (counts := sample.counts(currency)):
        most = next((name for name in counts if name), "")
        if len(most) == 3:
            looked.settings["currency"] = most.upper()
    position = looked.columns.get("position")
    if position and sample.value(f"min(try_cast({quoted(position)} AS DOUBLE))") == 0:
        looked.settings["first_position"] = 0


def _is_usable(looked: _Looked) -> bool:
    return "time" in looked.columns and ("product" in looked.columns or "shown" in looked.columns)


def _missing(looked: _Looked) -> str:
    lacking = [
        name
        for name, there in (
            ("times", "time" in looked.columns),
            ("products", "product" in looked.columns or "shown" in looked.columns),
        )
        if not there
    ]
    names = ", ".join(looked.file.columns)
    return f"{looked.file.path.name}: no column of {', '.join(lacking)} was found among {names}; name it by an option"


def _toml(usable: Sequence[_Looked], others: Sequence[_Looked]) -> str:
    settings: dict[str, Any] = {}
    for looked in usable:
        settings |= looked.settings
    lines = ["# Made by 'aisle import --suggest' from the names and values of the columns. Read it, and correct it."]
    lines += [f"# Not used: {_missing(looked)}" for looked in others]
    told = {
        "time_unit": ("auto", "of times that are numbers: s, ms, us, ns, or auto (by their size)"),
        "time_format": ("", "of times that are text, as %m/%d/%Y %H:%M; empty: ISO 8601, or numbers"),
        "timezone": ("UTC", "of times without a zone, as Europe/Berlin"),
        "price_unit": ("main", "main (9.50) or minor (950)"),
        "decimal": ("point", "point (1,299.00) or comma (1.299,00)"),
        "currency": ("USD", "of the prices; an event with another keeps none"),
        "locale": ("en-US", "of events without one"),
        "first_position": (1, "the first place on a page is 1 or 0"),
        "session_gap_minutes": (30.0, "where there is no session: a longer pause begins another"),
    }
    for name, (default, why) in told.items():
        found = " (found in the values)" if name in settings else ""
        lines.append(f"{name} = {json.dumps(settings.get(name, default))} # {why}{found}")
    for looked in usable:
        lines += ["", *_source_lines(looked, len(usable) + len(others))]
    return "\n".join(lines) + "\n"


def _source_lines(looked: _Looked, num_groups: int) -> list[str]:
    names = "|".join(dict.fromkeys(path.name for path in looked.files)) if num_groups > 1 else "*"
    lines = ["[[source]]", f"files = {json.dumps(names)}", f'shape = "{looked.shape}"', "", "[source.columns]"]
    for name, column in looked.columns.items():
        lines.append(f"{name} = {json.dumps(column, ensure_ascii=False)} # {looked.notes.get(name, '')}")
    lines += [
        f"# {name}: not found; {why}"
        for name, why in _PURPOSES.items()
        if name not in looked.columns and looked.shape != "pages"
    ]
    unused = [column for column in looked.file.columns if column not in looked.columns.values()]
    if unused:
        lines.append(f"# not used: {', '.join(unused[:40])}")
    if looked.kinds:
        lines += ["", "[source.kinds]"]
        for name, kind in looked.kinds.items():
            count = f"{looked.counts[name]:,} of {looked.num_rows:,} rows"
            if kind is None:
                lines.append(f'# {json.dumps(name)} = "" # {count}; unknown: name its kind, or leave it out with ""')
            else:
                lines.append(
                    f"{json.dumps(name, ensure_ascii=False)} = {json.dumps(kind)} # {count}; {_WHY_KIND[kind]}"
                )
    return lines
