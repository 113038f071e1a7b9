"""Reads the products of a catalogue file.

`CatalogueReader` streams CSV, TSV, JSON (each also gzipped), Parquet, or a folder of Parquet files. It drops no row silently: a
row that cannot be used is *skipped* and reported with its line and reason, and a row that can be corrected is *repaired*, kept and
counted. Memory does not grow with the file except for 8 bytes a product, which detect repeated ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from models.products.attributes.cells import AttributeCells
from models.products.decimals import DecimalMark
from models.products.errors import CatalogueError
from models.products.id_set import IdSet, id_digests
from models.products.mapping import ColumnMapping, column_of
from models.products.product import MAX_ID_CHARS, MAX_TITLE_CHARS, Product
from models.products.report import (
    MAX_CONTENT_CHARS,
    MAX_EXAMPLES,
    CatalogueReport,
    Repaired,
    RowProblem,
    Skipped,
)
from models.products.sources.open_source import open_source
from models.products.sources.source import Row
from models.products.text import cell_text, clean_text, readable, shorten
from models.products.values import infer_price_mark, parse_in_stock, parse_price

_BATCH_ROWS = 4_096
_ROWS_FOR_MARK = 100_000  # first rows whose prices show the decimal mark


class CatalogueReader:
    """Reads the products of a file, in its order.

    Opening checks the format and the mapping; `mapping` None takes the columns named like the fields of a Product.
    `currency_digits` is the number of minor digits of `currency`, in which `price` is written; "" accepts prices of any. `mark` is the
    decimal mark of prices in text, None to infer it. `encoding` is that of a text file. `max_lost` is the share of rows that may be lost.

    A row becomes a product by these rules:
    - Text is NFC, without HTML tags, with control characters and runs of blanks as one blank, and HTML entities unescaped (not in ids).
    - A category is a path "A > B". A list of paths, or paths separated by "|", are several: the first is the product's own.
    - An attribute that is a list is its items, joined by ", "; objects and maps give an attribute for each key.
    - An id seen before is skipped: the first product kept under an id stands.
    - A title over 2,000 characters is cut.
    - A price is a decimal number with an optional currency before or after it, rounded half up to the minor unit. The decimal mark of
      texts is the one that the column shows. Empty is unknown; anything else, a price that may be read in two ways, in another currency
      or below 0 is unknown and counted as repaired.
    - `in_stock` is true/yes/1/in stock and their opposites, the words and schema.org addresses of feeds in any case, or a quantity. Empty
      is in stock. A value that is not understood is in stock and counted as repaired: hiding a product that can be bought is the worse
      mistake.
    """

    def __init__(
        self,
        path: Path | str,
        mapping: ColumnMapping | None = None,
        *,
        currency_digits: int = 2,
        currency: str = "",
        mark: DecimalMark | None = None,
        encoding: str = "utf-8",
        max_lost: float = 1.0,
    ) -> None:
        """Raises CatalogueError when the file cannot be read or the mapping does not fit it."""
        self._path = Path(path)
        self._source = open_source(self._path, encoding)
        self.columns = self._source.columns
        self.num_rows = self._source.num_rows  # None if only reading the whole file would tell
        self.mapping = mapping or ColumnMapping.by_name(self.columns)
        self.report = CatalogueReport()
        self._currency_digits = currency_digits
        self._currency = currency
        self._mark = mark
        self._max_lost = max_lost
        for file, columns in self._source.files():
            self.mapping.check(columns, file)
        self._fields = self.mapping.field_columns()
        columns_of = {name: column_of(name, self.columns) for name in self.mapping.attribute_columns()}
        self._names = tuple(dict.fromkeys((*self._fields.values(), *columns_of.values())))
        self._place = {name: at for at, name in enumerate(self._names)}
        self._attributes = AttributeCells(self.mapping.text, columns_of, self._place)
        # Attributes of one column each; others come from keys, which only the rows tell.
        self.plain_attributes = tuple(
            name
            for name, column in columns_of.items()
            if name == column and (name in self.mapping.text or name not in self._source.nested)
        )
        self.has_keys = len(self.plain_attributes) < len(columns_of)
        self.unread_columns = tuple(name for name in self.columns if name not in self._place)

    def products(self) -> Iterator[Product]:
        """Reads from the start, into a new `report`, which is complete when the iterator is exhausted.

        Raises CatalogueError at the end if more than `max_lost` of the rows were lost, and where the file is damaged.
        """
        self.report = CatalogueReport()
        if self._mark is None and "price" in self._fields:
            first = islice(self._source.rows((self._fields["price"],)), _ROWS_FOR_MARK)
            self._mark = infer_price_mark(row.values[0] for row in first if row.reason is None)
        ids = IdSet()
        rows = self._source.rows(self._names)
        while batch := list(islice(rows, _BATCH_ROWS)):
            yield from self._read_batch(batch, ids)
        lost = self.report.rows - self.report.products
        if lost > self._max_lost * self.report.rows:
            why = "\n".join(str(self.report).splitlines()[1:])
            hint = ""
            if self.report.skipped[Skipped.NOT_UTF8] > lost / 2:
                hint = "\nState the file's encoding, as --encoding windows-1252."
            raise CatalogueError(
                f"{self._path}: {lost:,} of {self.report.rows:,} rows are lost, more than {self._max_lost:.0%}; correct the file, "
                f"or allow it with --max-lost\n{why}{hint}"
            )

    def _read_batch(self, batch: list[Row], ids_before: IdSet) -> list[Product]:
        at = self._place[self._fields["id"]]
        ids = [_parse_id(row.values[at]) if row.reason is None else "" for row in batch]
        digests = id_digests(ids)
        is_repeated = ids_before.contains(digests).tolist()
        ids_here: set[str] = set()
        kept: list[int] = []
        products: list[Product] = []
        for i, (row, product_id) in enumerate(zip(batch, ids, strict=True)):
            product = self._read_row(row, product_id, is_repeated[i] or product_id in ids_here)
            if product is not None:
                ids_here.add(product.id)
                kept.append(i)
                products.append(product)
        ids_before.add(digests[kept])
        self.report.rows += len(batch)
        self.report.products += len(products)
        return products

    def _read_row(self, row: Row, product_id: str | None, is_repeated: bool) -> Product | None:
        reason = row.reason or _id_violation(product_id, is_repeated)
        if reason is not None or product_id is None:
            self._report(row, reason or Skipped.NOT_UTF8, (product_id or "") if row.reason is None else "")
            return None
        cell = {name: row.values[self._place[column]] for name, column in self._fields.items()}
        try:
            title = clean_text(cell_text(cell["title"]))
            brand = clean_text(cell_text(cell.get("brand")))
            paths = _category_paths(cell.get("category"))
            attributes, lists = self._attributes.read(row.values)
        except UnicodeDecodeError:
            self._report(row, Skipped.NOT_UTF8)
            return None
        if not title:
            self._report(row, Skipped.NO_TITLE)
            return None
        if len(title) > MAX_TITLE_CHARS:
            self._report(row, Repaired.TITLE_CUT, title)
            title = title[:MAX_TITLE_CHARS].rstrip()
        return Product(
            id=product_id,
            title=title,
            brand=brand,
            category=paths[0] if paths else "",
            price_minor=self._price(row, cell.get("price")),
            in_stock=self._in_stock(row, cell.get("in_stock")),
            attributes=attributes,
            other_categories=paths[1:],
            lists=lists,
        )

    def _price(self, row: Row, value: object) -> int | None:
        price = parse_price(value, self._currency_digits, mark=self._mark, currency=self._currency)
        if isinstance(price, Repaired):
            self._report(row, price, readable(value))
            return None
        return price

    def _in_stock(self, row: Row, value: object) -> bool:
        in_stock = parse_in_stock(value)
        if in_stock is None:
            self._report(row, Repaired.STOCK_UNCLEAR, readable(value))
            return True
        return in_stock

    def _report(self, row: Row, reason: Skipped | Repaired, value: str = "") -> None:
        content = ""
        if len(self.report.examples) < MAX_EXAMPLES:  # else only counted
            cells = dict(zip(self._names, map(readable, row.values), strict=False))
            content = shorten(row.line or json.dumps(cells, ensure_ascii=False), MAX_CONTENT_CHARS)
        value = shorten(value, MAX_ID_CHARS)
        self.report.add(RowProblem(file=row.file, row=row.number, reason=reason, value=value, content=content))


def _parse_id(value: object) -> str | None:
    """Returns None for bytes that are not UTF-8."""
    try:
        return clean_text(cell_text(value), unescape=False)
    except UnicodeDecodeError:
        return None


def _category_paths(value: object) -> tuple[str, ...]:
    """Returns the category paths of a cell, each once."""
    cells = value if isinstance(value, list | tuple) else [value]
    paths: dict[str, None] = {}
    for cell in cells:
        for path in clean_text(cell_text(cell)).split("|"):
            steps = [step for part in path.split(">") if (step := part.strip())]
            if steps:
                paths[" > ".join(steps)] = None
    return tuple(paths)


def _id_violation(product_id: str | None, is_repeated: bool) -> Skipped | None:
    if product_id is None:
        return Skipped.NOT_UTF8
    if not product_id:
        return Skipped.NO_ID
    if len(product_id) > MAX_ID_CHARS:
        return Skipped.LONG_ID
    return Skipped.DUPLICATE_ID if is_repeated else None
