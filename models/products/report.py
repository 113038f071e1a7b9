"""The report on a catalogue that was read: how many rows were skipped or repaired, why, and the first of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from models.products.product import MAX_ID_CHARS
from models.products.text import shorten

MAX_EXAMPLES = 100
MAX_CONTENT_CHARS = 2_000


class Skipped(StrEnum):
    """The reason for which a row was lost."""

    NO_ID = "no id"
    LONG_ID = f"id over {MAX_ID_CHARS} characters"
    DUPLICATE_ID = "duplicate id"
    NO_TITLE = "no title"
    NOT_UTF8 = "not UTF-8"  # or not what --encoding states
    BROKEN_JSON = "broken JSON"
    NOT_AN_OBJECT = "not a JSON object"
    BROKEN_QUOTES = "broken quotes"
    WRONG_CELLS = "wrong number of cells"


class Repaired(StrEnum):
    """The repair of a row that became a product."""

    TITLE_CUT = "title cut"
    PRICE_NOT_A_NUMBER = "price not a number"
    PRICE_UNCLEAR = "price with an unclear decimal mark (state it: --decimal point or --decimal comma)"
    OTHER_CURRENCY = "price in another currency (state the catalogue's: --currency)"
    NEGATIVE_PRICE = "negative price"
    PRICE_TOO_LARGE = "price too large"
    STOCK_UNCLEAR = "in_stock not understood"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """One problem of one row."""

    file: str
    row: int  # the line on which the row starts (CSV, JSON lines), or the row from 1 (Parquet)
    reason: Skipped | Repaired
    value: str  # the offending value, "" if the problem is not one value
    content: str  # the mapped cells as JSON, or the line if it could not be parsed

    @property
    def lost(self) -> bool:
        return isinstance(self.reason, Skipped)


@dataclass(slots=True, kw_only=True)
class CatalogueReport:
    """Counts of rows and of their problems. Every row is a product or is skipped: `rows == products + sum(skipped)`."""

    rows: int = 0
    products: int = 0
    skipped: Counter[Skipped] = field(default_factory=Counter)
    repaired: Counter[Repaired] = field(default_factory=Counter)
    examples: list[RowProblem] = field(default_factory=list)  # the first MAX_EXAMPLES problems

    def add(self, problem: RowProblem) -> None:
        """Counts a problem, and keeps it as an example if there are fewer than MAX_EXAMPLES."""
        if isinstance(problem.reason, Skipped):
            self.skipped[problem.reason] += 1
        else:
            self.repaired[problem.reason] += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(problem)

    def as_json(self) -> dict[str, object]:
        """Returns plain dicts, lists, strings and numbers."""
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
                value = f" ({shorten(problem.value, 60)!r})" if problem.value else ""
                return f", first at {problem.file}:{problem.row}{value}"
        return ""
