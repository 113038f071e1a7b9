"""Real purchases: the public Online Retail data (UCI, Chen, Sain and Guo, 2012; CC BY 4.0) as a catalogue and a shopping log.

The data holds the invoices of a British gift shop of 2010 and 2011: customer, product, time and price. It has no queries, so each product
gets a *derived* query, and no events other than purchases. The data is not part of Aisle; name its file.

Left out, each with a count, are cancelled invoices (number C...), lines without a customer, lines that are not a product (stock codes
other than five digits and letters, such as POST or BANK CHARGES), and lines without a quantity or price above 0.

The derived query is one word, the *kind* of the product ("holder" for WHITE HANGING HEART T-LIGHT HOLDER). Among the words of the title
that are not a colour, size, number, pattern or the like, it is the word that ends most titles of the catalogue, because English titles end
with the kind of thing. It does not identify a product: `OnlineRetail.kind_sizes` counts the products that share it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.arrays import Ints
from models.errors import InputError
from models.evaluation.numbered_log import NumberedLog, numbered_log
from models.events.event import EVENT_SCHEMA, EventKind
from models.products.product import Product
from models.products.text import clean_text

FILE = "online_retail_purchases.parquet"
# A word that is the kind of fewer products is not used as a query; the title's next best word is. It exceeds the 20 of Recall@20, so that
# no query can be solved by listing all products of the kind.
MIN_KIND = 25

_COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
_STOCK_CODE = r"^[0-9]{5}[A-Z]*$"

# Words that end titles without naming the kind of thing.
_NO_KIND_WORDS = """
a acrylic amber amethyst and antique art artificial assorted asstd baroque beaded beige birthday black blue
bronze brown child christmas circus cm colour colourful colours copper cottage crackle cream crystal daisy
design designs diamante dolly easter edwardian enamel flock floral flower flowers font french garden gingham
girl girls glass gold green grey hair hand hanging heart hearts home in ivory jack jumbo kitchen large leaf
light lilac lola london love magic medium metal mini multicolour natural of on or orange pack painted paisley
pantry parade pastel pattern pearl pink polkadot print purple red regency retro retrospot rose round ruby
scandinavian set silver single size skull skulls small spaceboy spot star stars strawberry stripe style sweet
sweetheart tall tea the tone tree turquoise union vintage w white wicker with wood wooden woodland yellow zinc
"""
_NO_KIND = frozenset(_NO_KIND_WORDS.split())

# Country of the invoice -> ISO 3166; the data does not state the customer's language.
_COUNTRIES = {
    "Australia": "AU", "Austria": "AT", "Bahrain": "BH", "Belgium": "BE", "Brazil": "BR", "Canada": "CA",
    "Channel Islands": "JE", "Cyprus": "CY", "Czech Republic": "CZ", "Denmark": "DK", "EIRE": "IE", "Finland": "FI",
    "France": "FR", "Germany": "DE", "Greece": "GR", "Hong Kong": "HK", "Iceland": "IS", "Israel": "IL", "Italy": "IT",
    "Japan": "JP", "Lebanon": "LB", "Lithuania": "LT", "Malta": "MT", "Netherlands": "NL", "Norway": "NO",
    "Poland": "PL", "Portugal": "PT", "RSA": "ZA", "Saudi Arabia": "SA", "Singapore": "SG", "Spain": "ES",
    "Sweden": "SE", "Switzerland": "CH", "USA": "US", "United Arab Emirates": "AE", "United Kingdom": "GB",
}  # fmt: skip


class OnlineRetailError(InputError):
    """The file is not the Online Retail data; the message says what is missing."""


@dataclass(frozen=True, slots=True, eq=False)
class OnlineRetail:
    """Purchases by customer, invoice and derived query."""

    products: tuple[Product, ...]  # prices in pence
    queries: tuple[str, ...]  # (products,) derived query of each product; "" without a suitable word
    log: pa.Table  # EVENT_SCHEMA: each purchase is an event, each invoice a session
    left_out: Mapping[str, int]  # reason -> lines

    @property
    def kind_sizes(self) -> Mapping[str, int]:
        """Derived query -> number of products that it fits."""
        return Counter(query for query in self.queries if query)

    def events(self) -> NumberedLog:
        """Returns the purchases as a log for evaluation."""
        return numbered_log(self.log, [product.id for product in self.products])


def read_online_retail(path: Path) -> OnlineRetail:
    """Reads the data from a Parquet file. Raises OnlineRetailError."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise OnlineRetailError(f"{path} cannot be read as Parquet: {error}") from None
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise OnlineRetailError(f"{path.name}: the columns {', '.join(missing)} are missing")
    sales, left_out = _sales(table.select(list(_COLUMNS)))
    if not sales.num_rows:
        raise OnlineRetailError(f"{path.name} holds no sale of a product; left out were {left_out}")
    products = _products(sales)
    queries = derive_queries([product.title for product in products])
    query_of = {product.id: query for product, query in zip(products, queries, strict=True)}
    return OnlineRetail(products, queries, _log(sales, query_of), left_out)


def derive_queries(titles: Sequence[str], min_kind: int = MIN_KIND) -> tuple[str, ...]:
    """Returns the kind of each title; "" if no word of it is the kind of at least `min_kind` titles."""
    words = [[word for word in _words(title) if word not in _NO_KIND] for title in titles]
    ends = Counter(title_words[-1] for title_words in words if title_words)
    while True:
        # Of words that end equally many titles, the later one.
        kinds = [max(reversed(title_words), key=ends.__getitem__, default="") for title_words in words]
        rare = {kind for kind, count in Counter(kinds).items() if kind and count < min_kind}
        if not rare:
            return tuple(kinds)
        words = [[word for word in title_words if word not in rare] for title_words in words]


def _words(title: str) -> list[str]:
    """Returns the words in lower case and singular, without numbers and single letters."""
    return [_singular(word) for word in re.findall(r"[a-z][a-z-]+", title.lower())]


def _singular(word: str) -> str:
    if word in _NO_KIND or len(word) < 4 or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("xes", "shes", "ches", "sses")) else word.removesuffix("s")


def _sales(table: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Returns the sales ordered by time, and the number of lines left out by reason; the first reason that applies counts."""
    code = pc.utf8_upper(pc.utf8_trim_whitespace(table["StockCode"]))
    table = table.set_column(table.column_names.index("StockCode"), "StockCode", code)
    left_out: dict[str, int] = {}
    for reason, is_wrong in _REASONS:
        wrong = pc.fill_null(is_wrong(table), True)
        left_out[reason] = int(pc.sum(wrong).as_py() or 0)
        table = table.filter(pc.invert(wrong))
    return table.sort_by([("InvoiceDate", "ascending"), ("InvoiceNo", "ascending")]), left_out


_REASONS: tuple[tuple[str, Callable[[pa.Table], Any]], ...] = (
    ("cancelled", lambda table: pc.starts_with(table["InvoiceNo"], "C")),
    ("no customer", lambda table: pc.is_null(table["CustomerID"], nan_is_null=True)),
    ("not a product", lambda table: pc.invert(pc.match_substring_regex(table["StockCode"], _STOCK_CODE))),
    (
        "no quantity or price",
        lambda table: pc.or_(pc.less_equal(table["Quantity"], 0), pc.less_equal(table["UnitPrice"], 0)),
    ),
    ("no description", lambda table: pc.equal(pc.utf8_trim_whitespace(pc.fill_null(table["Description"], "")), "")),
)


def _products(sales: pa.Table) -> tuple[Product, ...]:
    """Returns products by stock code, with the most common description as title and the median price."""
    titles: dict[str, Counter[str]] = defaultdict(Counter)
    prices: dict[str, list[float]] = defaultdict(list)
    columns = (sales[name].to_pylist() for name in ("StockCode", "Description", "UnitPrice"))
    for code, title, price in zip(*columns, strict=True):
        titles[code][clean_text(title)] += 1
        prices[code].append(price)
    return tuple(
        Product(
            id=code,
            title=max(sorted(titles[code]), key=titles[code].__getitem__),
            price_minor=round(100 * float(np.median(prices[code]))),
        )
        for code in sorted(titles)
    )


def _log(sales: pa.Table, query_of: Mapping[str, str]) -> pa.Table:
    count = sales.num_rows
    invoices, codes = sales["InvoiceNo"].to_pylist(), sales["StockCode"].to_pylist()
    pence: Ints = np.rint(100 * np.asarray(sales["UnitPrice"], np.float64)).astype(np.int64)
    columns: dict[str, Any] = {
        "id": [f"{invoice}-{line}" for line, invoice in enumerate(invoices)],
        "time": sales["InvoiceDate"].cast(pa.timestamp("ms"), safe=False).cast(pa.timestamp("ms", tz="UTC")),
        "shopper_id": [str(int(customer)) for customer in sales["CustomerID"].to_pylist()],
        "session_id": invoices,
        "locale": [f"und-{_COUNTRIES[c]}" if c in _COUNTRIES else "und" for c in sales["Country"].to_pylist()],
        "kind": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), [str(EventKind.PURCHASE)]),
        "product_id": codes,
        "query": [query_of[code] for code in codes],
        "position": pa.nulls(count, pa.int32()),
        "price_minor": pence,
    }
    return pa.table([columns[field.name] for field in EVENT_SCHEMA], schema=EVENT_SCHEMA)
