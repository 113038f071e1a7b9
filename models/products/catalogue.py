"""The catalogue: what a product is, and how the files that hold products are read.

`CatalogueReader` streams CSV, JSON lines (each also gzipped), Parquet, or a folder of Parquet files. No row is dropped
in silence: a row that cannot be used is *skipped* with its line and reason, and one that could be mended is *repaired*,
kept and counted. Memory does not grow with the file but for 8 bytes a product, by which repeated ids are known.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import html
import json
import math
import re
import unicodedata
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from models.arrays import Bools
from models.errors import InputError

MAX_ID_CHARS = 256  # the contract's limit on a product id
MAX_TITLE_CHARS = 2_000
MAX_PRICE_MINOR = 10**15
MAX_EXAMPLES = 100
MAX_CONTENT_CHARS = 2_000

_BATCH_ROWS = 4_096
_JSON_ROWS_FOR_COLUMNS = 1_000


class CatalogueError(InputError):
    """The catalogue cannot be read at all; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Product:
    """One product as the catalogue states it."""

    id: str
    title: str
    brand: str = ""
    category: str = ""  # from the broadest to the narrowest, as "Furniture > Living Room > Sofas"
    price_minor: int | None = None  # in minor units (cents) of the catalogue's currency; None is unknown
    in_stock: bool = True
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)  # other mapped columns that are not empty


def product_text(product: Product, text_fields: Sequence[str] = ()) -> str:
    """What is encoded of a product: title, brand unless the title has it, the last two steps of the category, then
    the named attributes, as sentences: "Velvet Sofa. Halden. Living Room, Sofas. Seats three."
    """
    brand = "" if product.brand.casefold() in product.title.casefold() else product.brand
    category = ", ".join(step.strip() for step in product.category.split(">")[-2:])
    parts = (product.title, brand, category, *(product.attributes.get(name, "") for name in text_fields))
    return ". ".join(text for part in parts if (text := part.rstrip(" .")))


# ISO 4217 minor digits where they are not 2.
_CURRENCY_DIGITS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}


def currency_digits(code: str) -> int:
    """Digits of the minor unit of an ISO 4217 currency: 2 for "EUR", 0 for "JPY", 3 for "KWD"."""
    if not re.fullmatch("[A-Za-z]{3}", code):
        raise CatalogueError(f"{code!r} is not a currency; give its three letters, as USD, EUR or JPY")
    return _CURRENCY_DIGITS.get(code.upper(), 2)


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Which column of the file is what. None: the file does not have it."""

    id: str = "id"
    title: str = "title"
    brand: str | None = None
    category: str | None = None
    price: str | None = None
    in_stock: str | None = None
    text: tuple[str, ...] = ()  # kept as attributes and encoded
    attributes: tuple[str, ...] = ()  # kept as attributes only

    @classmethod
    def by_name(cls, columns: Iterable[str]) -> ColumnMapping:
        """Maps the columns that are named like the fields. `id` and `title` are mapped even if they are not there."""
        present = set(columns)
        brand, category, price, in_stock = (
            name if name in present else None for name in ("brand", "category", "price", "in_stock")
        )
        return cls(brand=brand, category=category, price=price, in_stock=in_stock)

    def named(self) -> dict[str, str]:
        """Field -> column for the fields that have one."""
        fields = ("id", "title", "brand", "category", "price", "in_stock")
        return {name: column for name in fields if (column := getattr(self, name)) is not None}

    def kept(self) -> tuple[str, ...]:
        """Columns that become attributes."""
        return tuple(dict.fromkeys((*self.text, *self.attributes)))

    def check(self, columns: Sequence[str], file: str) -> None:
        """Raises one CatalogueError for all columns that the file lacks or has twice."""
        wanted = [(column, f"as {name}") for name, column in self.named().items()]
        wanted += [(column, "as an attribute") for column in self.kept()]
        wrong = [_column_complaint(column, use, columns) for column, use in wanted if columns.count(column) != 1]
        if wrong:
            raise CatalogueError(f"{file}: {'; '.join(wrong)}. Its columns are: {', '.join(columns)}")


def _column_complaint(column: str, use: str, columns: Sequence[str]) -> str:
    if column in columns:
        return f"column {column!r} (wanted {use}) is there more than once; rename one"
    by_lower = {name.lower(): name for name in columns}
    near = difflib.get_close_matches(column.lower(), by_lower, n=1)
    hint = f", did you mean {by_lower[near[0]]!r}?" if near else ""
    return f"no column {column!r} (wanted {use}){hint}"


class Skipped(StrEnum):
    """Why a row was lost."""

    NO_ID = "no id"
    LONG_ID = f"id over {MAX_ID_CHARS} characters"
    DUPLICATE_ID = "duplicate id"
    NO_TITLE = "no title"
    NOT_UTF8 = "not UTF-8"
    BROKEN_JSON = "broken JSON"
    NOT_AN_OBJECT = "not a JSON object"
    BROKEN_QUOTES = "broken quotes"
    WRONG_CELLS = "wrong number of cells"


class Repaired(StrEnum):
    """What was mended in a row that was kept."""

    TITLE_CUT = "title cut"
    PRICE_NOT_A_NUMBER = "price not a number"
    NEGATIVE_PRICE = "negative price"
    PRICE_TOO_LARGE = "price too large"
    STOCK_UNCLEAR = "in_stock not understood"


@dataclass(frozen=True, slots=True)
class RowProblem:
    """One thing wrong with one row."""

    file: str
    row: int  # the line on which the row starts (CSV, JSON lines), or the row from 1 (Parquet)
    reason: Skipped | Repaired
    value: str  # what was wrong, where one value was
    content: str  # the mapped cells as JSON, or the line when it could not be read

    @property
    def lost(self) -> bool:
        return isinstance(self.reason, Skipped)


@dataclass(slots=True)
class CatalogueReport:
    """What became of the rows. Every row is a product or was skipped: `rows == products + sum(skipped)`."""

    rows: int = 0
    products: int = 0
    skipped: Counter[Skipped] = field(default_factory=Counter)
    repaired: Counter[Repaired] = field(default_factory=Counter)
    examples: list[RowProblem] = field(default_factory=list)  # the first MAX_EXAMPLES problems

    def as_json(self) -> dict[str, object]:
        """Plain dicts, lists, strings and numbers."""
        return {
            "rows": self.rows,
            "products": self.products,
            "skipped": {str(reason): count for reason, count in self.skipped.most_common()},
            "repaired": {str(reason): count for reason, count in self.repaired.most_common()},
            "examples": [
                {"file": p.file, "row": p.row, "reason": str(p.reason), "lost": p.lost, "value": p.value}
                | {"content": p.content}
                for p in self.examples
            ],
        }

    def __str__(self) -> str:
        lines = [f"{self.rows:,} rows read, {self.products:,} products kept"]
        lines += [f"  skipped {count:,}: {reason}{self._first(reason)}" for reason, count in self.skipped.most_common()]
        lines += [
            f"  repaired {count:,}: {reason}{self._first(reason)}" for reason, count in self.repaired.most_common()
        ]
        return "\n".join(lines)

    def _first(self, reason: Skipped | Repaired) -> str:
        for problem in self.examples:
            if problem.reason == reason:
                value = f" ({_quote(problem.value, 60)!r})" if problem.value else ""
                return f", first at {problem.file}:{problem.row}{value}"
        return ""


class CatalogueReader:
    """Reads the products of a file, in its order.

    Opening checks the format and the mapping; `mapping` None takes the columns named like the fields of a Product.
    `currency_digits` is the number of minor digits of the currency in which `price` is written.

    A row becomes a product by these rules:
    - Text is NFC, with control characters and runs of blanks as one blank, and HTML entities unescaped (not in ids).
    - An id seen before is skipped: the first product kept under an id stands.
    - A title over 2,000 characters is cut.
    - A price is a decimal number with an optional currency symbol before it and commas between thousands, rounded
      half up to the minor unit. Empty is unknown; anything else, and below 0, is unknown and counted as repaired.
    - `in_stock` is true/yes/1/in stock and their opposites in any case, or a quantity. Empty is in stock; what is not
      understood is in stock and counted as repaired: hiding a product that can be bought is the worse mistake.
    """

    def __init__(self, path: Path | str, mapping: ColumnMapping | None = None, *, currency_digits: int = 2) -> None:
        self._source = _open_source(Path(path))
        self.columns = self._source.columns
        self.num_rows = self._source.num_rows  # None where the whole file would have to be read for it
        self.mapping = mapping or ColumnMapping.by_name(self.columns)
        self.report = CatalogueReport()
        self._currency_digits = currency_digits
        for file, columns in self._source.files():
            self.mapping.check(columns, file)
        self._fields = self.mapping.named()
        self._kept = self.mapping.kept()
        self._names = tuple(dict.fromkeys((*self._fields.values(), *self._kept)))
        self._place = {name: at for at, name in enumerate(self._names)}

    def products(self) -> Iterator[Product]:
        """Reads from the start, into a new `report`, which is complete when the iterator is exhausted."""
        self.report = CatalogueReport()
        ids = _IdSet()
        rows = self._source.rows(self._names)
        while batch := list(islice(rows, _BATCH_ROWS)):
            yield from self._read_batch(batch, ids)

    def _read_batch(self, batch: list[_Row], ids_before: _IdSet) -> list[Product]:
        at = self._place[self._fields["id"]]
        ids = [_id(row.values[at]) if row.reason is None else "" for row in batch]
        digests = _digests(ids)
        is_known = ids_before.contains(digests).tolist()
        ids_here: set[str] = set()
        kept: list[int] = []
        products: list[Product] = []
        for i, (row, product_id) in enumerate(zip(batch, ids, strict=True)):
            product = self._read_row(row, product_id, is_known[i] or product_id in ids_here)
            if product is not None:
                ids_here.add(product.id)
                kept.append(i)
                products.append(product)
        ids_before.add(digests[kept])
        self.report.rows += len(batch)
        self.report.products += len(products)
        return products

    def _read_row(self, row: _Row, product_id: str | None, is_known: bool) -> Product | None:
        reason = row.reason or _id_complaint(product_id, is_known)
        if reason is not None or product_id is None:
            self._note(row, reason or Skipped.NOT_UTF8, (product_id or "") if row.reason is None else "")
            return None
        cell = {name: row.values[self._place[column]] for name, column in self._fields.items()}
        try:
            title = clean_text(_text(cell["title"]))
            brand = clean_text(_text(cell.get("brand")))
            steps = clean_text(_text(cell.get("category"))).split(">")
            category = " > ".join(step.strip() for step in steps if step.strip())
            pairs = [(name, clean_text(_text(row.values[self._place[name]]))) for name in self._kept]
        except UnicodeDecodeError:
            self._note(row, Skipped.NOT_UTF8)
            return None
        if not title:
            self._note(row, Skipped.NO_TITLE)
            return None
        if len(title) > MAX_TITLE_CHARS:
            self._note(row, Repaired.TITLE_CUT, title)
            title = title[:MAX_TITLE_CHARS].rstrip()
        return Product(
            id=product_id,
            title=title,
            brand=brand,
            category=category,
            price_minor=self._price(row, cell.get("price")),
            in_stock=self._in_stock(row, cell.get("in_stock")),
            attributes={name: text for name, text in pairs if text},
        )

    def _price(self, row: _Row, value: object) -> int | None:
        price = parse_price(value, self._currency_digits)
        if isinstance(price, Repaired):
            self._note(row, price, _shown(value))
            return None
        return price

    def _in_stock(self, row: _Row, value: object) -> bool:
        in_stock = parse_in_stock(value)
        if in_stock is None:
            self._note(row, Repaired.STOCK_UNCLEAR, _shown(value))
            return True
        return in_stock

    def _note(self, row: _Row, reason: Skipped | Repaired, value: str = "") -> None:
        if isinstance(reason, Skipped):
            self.report.skipped[reason] += 1
        else:
            self.report.repaired[reason] += 1
        if len(self.report.examples) < MAX_EXAMPLES:
            cells = dict(zip(self._names, map(_shown, row.values), strict=False))
            content = row.line or json.dumps(cells, ensure_ascii=False)
            self.report.examples.append(
                RowProblem(
                    row.file, row.number, reason, _quote(value, MAX_ID_CHARS), _quote(content, MAX_CONTENT_CHARS)
                )
            )


def _id_complaint(product_id: str | None, is_known: bool) -> Skipped | None:
    if product_id is None:
        return Skipped.NOT_UTF8
    if not product_id:
        return Skipped.NO_ID
    if len(product_id) > MAX_ID_CHARS:
        return Skipped.LONG_ID
    return Skipped.DUPLICATE_ID if is_known else None


# ---- values


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: JSON can write it, UTF-8 cannot
_AMOUNT = re.compile(r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+")
_QUANTITY = re.compile(r"[0-9]{1,18}(?:\.0*)?")
_IN_STOCK = {
    **dict.fromkeys(("true", "t", "yes", "y", "in stock", "instock", "available"), True),
    **dict.fromkeys(("false", "f", "no", "n", "out of stock", "outofstock", "sold out", "unavailable"), False),
}


def clean_text(text: str, unescape: bool = True) -> str:
    """NFC text on one line: entities unescaped, control characters and runs of blanks one blank, ends trimmed."""
    if unescape and "&" in text:
        text = html.unescape(text)
    if text.isascii() and text.isprintable():
        return " ".join(text.split()) if "  " in text else text.strip()
    text = _SURROGATE.sub("\ufffd", _CONTROL.sub(" ", text))
    return " ".join(unicodedata.normalize("NFC", text).split())


def parse_price(value: object, digits: int) -> int | Repaired | None:
    """A price in major units, as a number or as text -> minor units; None where it is empty or NaN."""
    amount = _amount(value)
    if amount is None or isinstance(amount, Repaired):
        return amount
    if amount.is_nan():
        return None
    if amount < 0:
        return Repaired.NEGATIVE_PRICE
    if amount > MAX_PRICE_MINOR // 10**digits:
        return Repaired.PRICE_TOO_LARGE
    return int((amount * 10**digits).to_integral_value(ROUND_HALF_UP))


def _amount(value: object) -> Decimal | Repaired | None:
    if value is None or isinstance(value, Decimal):
        return value
    if isinstance(value, float) and not math.isinf(value):
        return Decimal(str(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str):
        return _written_amount(value.strip()) if value.strip() else None
    return Repaired.PRICE_NOT_A_NUMBER


def _written_amount(text: str) -> Decimal | Repaired:
    sign = -1 if text.startswith("-") else 1
    text = text.removeprefix("-")
    if text and unicodedata.category(text[0]) == "Sc":
        text = text[1:].lstrip()
    if text.startswith("-"):
        sign, text = -1, text[1:]
    if not _AMOUNT.fullmatch(text):
        return Repaired.PRICE_NOT_A_NUMBER
    return sign * Decimal(text.replace(",", ""))


def parse_in_stock(value: object) -> bool | None:
    """Whether a product can be bought, from a truth, a quantity or words: True where it is empty, None if unclear."""
    if value is None or isinstance(value, bool):
        return value is not False
    if isinstance(value, int | float | Decimal):
        return not value <= 0  # so that NaN, as which an empty cell of a number column reads, is in stock
    if not isinstance(value, str):
        return None
    words = value.strip().casefold().replace("_", " ").replace("-", " ")
    if not words:
        return True
    if _QUANTITY.fullmatch(words):
        return float(words) > 0
    return _IN_STOCK.get(words)


def _id(value: object) -> str | None:
    """None: not UTF-8."""
    try:
        return clean_text(_text(value), unescape=False)
    except UnicodeDecodeError:
        return None


def _text(value: object) -> str:
    """Text of any cell. Raises UnicodeDecodeError for bytes that are not UTF-8."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(_text, value)))
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return _scalar_text(value)


def _scalar_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        # An integer column with empty cells is often stored as floats: 42.0 is the id 42.
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else str(value)
    return str(value)


def _shown(value: object) -> str:
    try:
        return _text(value)
    except UnicodeDecodeError:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _quote(text: str, max_chars: int) -> str:
    """The text as a report may hold it: not too long, and valid as UTF-8."""
    text = _SURROGATE.sub("\ufffd", text)
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."


# ---- ids seen


_Digests = npt.NDArray[np.uint64]


def _digests(ids: Sequence[str | None]) -> _Digests:
    """64 bits of BLAKE2b for each id. Among 10 million ids the chance that any two share one is 3 in a million."""
    texts = (_SURROGATE.sub("", product_id or "").encode() for product_id in ids)
    return np.frombuffer(b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts), np.dtype("<u8"))


class _IdSet:
    """Digests in sorted runs that are merged as they grow: 8 bytes an id, where a set of strings takes about 100."""

    def __init__(self) -> None:
        self._runs: list[_Digests] = []

    def contains(self, digests: _Digests) -> Bools:
        found = np.zeros(len(digests), np.bool_)
        for run in self._runs:
            found |= run[np.minimum(np.searchsorted(run, digests), len(run) - 1)] == digests
        return found

    def add(self, digests: _Digests) -> None:
        if not len(digests):
            return
        run = np.sort(digests)
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.sort(np.concatenate((self._runs.pop(), run)), kind="stable")
        self._runs.append(run)


# ---- sources


@dataclass(slots=True)
class _Row:
    """The wanted cells of a row in the order of the names, or the reason and the line if it could not be read."""

    file: str
    number: int
    values: Sequence[object] = ()
    reason: Skipped | None = None
    line: str = ""


class _Source(Protocol):
    columns: tuple[str, ...]
    num_rows: int | None

    def files(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each file's name and columns."""
        ...

    def rows(self, names: Sequence[str]) -> Iterator[_Row]: ...


def _open_source(path: Path) -> _Source:
    if not path.exists():
        raise CatalogueError(f"{path}: there is no such file")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.parquet") if not file.name.startswith((".", "_")))
        if not files:
            raise CatalogueError(f"{path}: a folder must hold *.parquet files, and this one has none")
        return _ParquetSource(files)
    name = path.name.lower().removesuffix(".gz")
    if path.name.lower().endswith(".parquet"):
        return _ParquetSource([path])
    if name.endswith(".csv"):
        return _CsvSource(path)
    if name.endswith(".jsonl"):
        return _JsonSource(path)
    raise CatalogueError(
        f"{path}: not a known format; use .csv, .jsonl (or either with .gz), .parquet or a folder of it"
    )


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, gzipped if its name says so, without a byte order mark."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            first = next(iter(stream), b"")
            if first.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise CatalogueError(f"{path}: is UTF-16; save it as UTF-8")
            yield from chain((first.removeprefix(b"\xef\xbb\xbf"),) if first else (), stream)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CatalogueError(f"{path}: the gzip data is damaged or cut short ({error})") from error


class _ParquetSource:
    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._columns: dict[Path, tuple[str, ...]] = {}
        self.num_rows: int | None = 0
        for path in paths:
            with _parquet(path) as file:
                self._columns[path] = tuple(file.schema_arrow.names)
                self.num_rows += file.metadata.num_rows
        self.columns = self._columns[paths[0]]

    def files(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        for path, columns in self._columns.items():
            yield path.name, columns

    def rows(self, names: Sequence[str]) -> Iterator[_Row]:
        for path in self._paths:
            number = 0
            with _parquet(path) as file:
                for batch in _record_batches(path, file, names):
                    for values in zip(*(_cells(batch.column(name)) for name in names), strict=True):
                        number += 1
                        yield _Row(path.name, number, values)


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise CatalogueError(f"{path}: cannot be opened as Parquet ({error})") from error


def _record_batches(path: Path, file: pq.ParquetFile, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=list(names))
    except (pa.ArrowException, OSError) as error:
        raise CatalogueError(f"{path}: is damaged ({error})") from error


def _cells(column: pa.Array) -> list[object]:
    """Python values. A text that is not UTF-8 comes as bytes, so that only its row is lost."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_cell(scalar) for scalar in column]


def _cell(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        is_text = isinstance(scalar, pa.StringScalar | pa.LargeStringScalar)
        return scalar.as_buffer().to_pybytes() if is_text else b"\xff"


class _JsonSource:
    """One JSON object a line. Its columns are the keys of the first 1,000 lines; a key may be missing from a row."""

    num_rows: int | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        first = (_json_row(line) for line in islice(_lines(path), _JSON_ROWS_FOR_COLUMNS))
        self.columns = tuple(dict.fromkeys(chain.from_iterable(row for row in first if isinstance(row, dict))))
        if not self.columns:
            raise CatalogueError(f"{path}: no JSON object in the first {_JSON_ROWS_FOR_COLUMNS:,} lines")

    def files(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield self._path.name, self.columns

    def rows(self, names: Sequence[str]) -> Iterator[_Row]:
        file = self._path.name
        for number, line in enumerate(_lines(self._path), 1):
            if not line.strip():
                continue
            row = _json_row(line)
            if isinstance(row, Skipped):
                yield _Row(file, number, reason=row, line=line.decode("utf-8", "replace").rstrip("\r\n"))
            else:
                yield _Row(file, number, [row.get(name) for name in names])


def _json_row(line: bytes) -> dict[str, object] | Skipped:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return Skipped.NOT_UTF8
    except (ValueError, RecursionError):
        return Skipped.BROKEN_JSON
    return row if isinstance(row, dict) else Skipped.NOT_AN_OBJECT


class _CsvSource:
    """Comma-separated values with a header line; quoted cells may hold line breaks."""

    num_rows: int | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            header = next(csv.reader((line.decode("utf-8") for line in _lines(path)), strict=True), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise CatalogueError(f"{path}: the header line cannot be read as UTF-8 CSV ({error})") from error
        self.columns = tuple(name.strip() for name in header)
        if not any(self.columns):
            raise CatalogueError(f"{path}: the first line must name the columns, and it is empty")

    def files(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield self._path.name, self.columns

    def rows(self, names: Sequence[str]) -> Iterator[_Row]:
        file = self._path.name
        places = [self.columns.index(name) for name in names]
        lines = _CsvLines(_lines(self._path))
        reader = csv.reader(lines, strict=True)
        next(reader)
        while True:
            lines.start_row()
            reason = None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                reason = Skipped.BROKEN_QUOTES
                lines.give_back_all_but_first()
            if reason is None:
                if not cells:
                    continue
                if not lines.are_utf8:
                    reason = Skipped.NOT_UTF8
                elif len(cells) != len(self.columns):
                    reason = Skipped.WRONG_CELLS
            if reason is None:
                yield _Row(file, lines.row_start, [cells[place] for place in places])
            else:
                yield _Row(file, lines.row_start, reason=reason, line=lines.row_text())


class _CsvLines:
    """Feeds a csv reader and remembers the lines of the current row.

    A quote that is never closed makes the reader swallow the lines after it; they are given back, so that such a row
    costs only itself.
    """

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._fresh = lines
        self._given_back: deque[bytes] = deque()
        self._row: list[bytes] = []
        self.row_start = 1
        self.are_utf8 = True

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        line = self._given_back.popleft() if self._given_back else next(self._fresh)
        self._row.append(line)
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            self.are_utf8 = False
            return line.decode("utf-8", "replace")

    def start_row(self) -> None:
        self.row_start += len(self._row)
        self._row.clear()
        self.are_utf8 = True

    def give_back_all_but_first(self) -> None:
        self._given_back.extendleft(reversed(self._row[1:]))
        del self._row[1:]

    def row_text(self) -> str:
        return b"".join(self._row).decode("utf-8", "replace").rstrip("\r\n")
