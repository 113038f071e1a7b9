"""Which columns of which files hold what: a TOML file, a ready format, or options of the command line."""

from __future__ import annotations

import dataclasses
import fnmatch
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from models.events.errors import LogError
from models.events.kinds import KINDS
from models.products.currency import currency_digits
from models.products.errors import CatalogueError

# What a column may hold. The last ones belong to one shape.
FIELDS = (
    "time", "product", "kind", "shopper", "session", "query", "position", "price", "currency", "locale", "id", "quantity",
    "clicked", "carted", "purchased", "shown", "labels",
)  # fmt: skip
FLAGS = {"clicked": "click", "carted": "cart", "purchased": "purchase"}
LEFT_OUT = ""  # the kind of events that are left out on purpose
SHAPES = {
    "events": "a row is an event",
    "impressions": "a row is a product that was shown, with flags",
    "pages": "a row is a result page, with lists of products",
    "table": "a table that `rows` of another source joins",
}
CHOICES = {
    "time_unit": ("auto", "s", "ms", "us", "ns"),
    "price_unit": ("main", "minor"),
    "decimal": ("point", "comma"),
}
ENCODINGS = ("utf-8", "latin-1")
FORMATS = Path(__file__).parents[1] / "formats"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMapping:
    """The files of one kind, and their columns.

    A column is a name, or a path into nested values as "item.id"; "=click" is a constant. A purchase whose `quantity` is 0 or less, a
    return, is left out. `rows` is SQL that makes rows from `input`, the file's `read` columns as text with `row_number`, and from tables by
    their names: it passes `row_number` on.
    """

    files: str = "*"  # pattern of their names
    shape: str = "events"
    name: str = ""  # of a table
    columns: Mapping[str, str] = field(default_factory=dict)  # field -> column
    kinds: Mapping[str, str] = field(
        default_factory=dict
    )  # as in the file, case does not matter -> name of a kind, or LEFT_OUT
    rows: str = ""
    read: tuple[str, ...] = ()
    header: tuple[str, ...] = ()  # of a text file without one
    quote: str = '"'  # "": cells are never quoted
    encoding: str = "utf-8"  # or latin-1, of a text file

    def takes(self, file: str) -> bool:
        return any(fnmatch.fnmatch(file.lower(), pattern.strip().lower()) for pattern in self.files.split("|"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMapping:
    """How files become events. The settings are those of all sources."""

    sources: tuple[SourceMapping, ...]
    name: str = ""
    description: str = ""
    lacks: tuple[str, ...] = ()  # what training will miss
    time_unit: str = "auto"  # of times that are numbers; auto: by their size
    time_format: str = ""  # of times that are text, as %m/%d/%Y %H:%M; "": ISO 8601, or numbers
    timezone: str = "UTC"  # of times without a zone
    price_unit: str = "main"
    decimal: str = "point"
    currency: str = "USD"
    locale: str = "en-US"  # of events without one
    first_position: int = 1
    session_gap_minutes: float = 30.0  # where there is no session: a longer pause begins another

    def __post_init__(self) -> None:
        wrong = [
            f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}"
            for name, choices in CHOICES.items()
            if getattr(self, name) not in choices
        ]
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            wrong.append(f"timezone must be a name such as Europe/Berlin, not {self.timezone!r}")
        try:
            currency_digits(self.currency)
        except CatalogueError as error:
            wrong.append(f"currency: {error}")
        if self.first_position not in (0, 1):
            wrong.append(f"first_position must be 0 or 1, not {self.first_position}")
        if not self.session_gap_minutes > 0:
            wrong.append(f"session_gap_minutes must be above 0, not {self.session_gap_minutes}")
        if not any(source.shape != "table" for source in self.sources):
            wrong.append("a mapping needs a [[source]] of events, impressions or pages")
        for source in self.sources:
            wrong += [f"the source of {source.files!r}: {what}" for what in _violations(source)]
        if wrong:
            raise LogError(f"the mapping {self.name or 'of the options'}: {'; '.join(wrong)}")

    @classmethod
    def load(cls, path: Path) -> LogMapping:
        """Reads a TOML file. Raises LogError for unknown keys and values, each by its name."""
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise LogError(f"{path} is not TOML: {error}") from None
        stated = values.pop("source", [])
        if not isinstance(stated, list) or not all(isinstance(source, dict) for source in stated):
            raise LogError(f"{path}: source must be tables, each [[source]]")
        sources = tuple(_built(SourceMapping, source, f"{path}: source") for source in stated)
        return _built(cls, {"name": path.stem, **values, "sources": sources}, str(path))

    def with_settings(self, **settings: Any) -> LogMapping:
        """Returns the mapping with those settings that are not None."""
        return dataclasses.replace(self, **{name: value for name, value in settings.items() if value is not None})

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def ready_format(name: str) -> LogMapping:
    """Returns a mapping of `formats`. Raises LogError for an unknown name."""
    names = format_names()
    if name not in names:
        raise LogError(f"there is no format {name!r}; there are {', '.join(names)}")
    return LogMapping.load(FORMATS / f"{name}.toml")


def by_name(columns: Collection[str]) -> LogMapping:
    """Returns the mapping of a table whose columns are named as in EVENT_SCHEMA; those that an event can lack may be missing.

    Raises LogError.
    """
    of_schema = ready_format("aisle")
    (source,) = of_schema.sources
    named = {name: column for name, column in source.columns.items() if column in columns}
    missing = [source.columns[name] for name in ("time", "kind", "product") if name not in named]
    if missing:
        raise LogError(
            f"there is no column {', '.join(missing)}: the columns are {', '.join(columns)}. Say which is which by options (--time, "
            "--product, --kind-column ...), by --format NAME or by --mapping FILE; 'aisle import --suggest FILE' writes one"
        )
    return dataclasses.replace(of_schema, sources=(dataclasses.replace(source, columns=named),))


def format_names() -> list[str]:
    return sorted(path.stem for path in FORMATS.glob("*.toml"))


def _built(of: Any, values: dict[str, Any], where: str) -> Any:
    known = {one.name: one for one in dataclasses.fields(of)}
    unknown = [name for name in values if name not in known]
    if unknown:
        raise LogError(f"{where} has no key {unknown[0]!r}; it may have {', '.join(known)}")
    ready: dict[str, Any] = {}
    for name, value in values.items():
        default = known[name].default
        if isinstance(value, list):
            ready[name] = tuple(value)
        elif isinstance(default, float) and isinstance(value, int):
            ready[name] = float(value)
        else:
            ready[name] = value
        if isinstance(default, (str, int, float)) and type(ready[name]) is not type(default):
            raise LogError(f"{where}: {name} must be {type(default).__name__}, not {value!r}")
    return of(**ready)


def _violations(source: SourceMapping) -> list[str]:
    if source.shape not in SHAPES:
        return [f"shape must be one of {', '.join(SHAPES)}, not {source.shape!r}"]
    if source.encoding not in ENCODINGS:
        return [f"encoding must be one of {', '.join(ENCODINGS)}, not {source.encoding!r}"]
    if source.shape == "table":
        return [] if source.name.isidentifier() and source.read else ["a table needs a name and the columns to read"]
    wrong = [
        f"there is no field {name!r}; there are {', '.join(FIELDS)}" for name in source.columns if name not in FIELDS
    ]
    needed = {"events": ("time", "product"), "impressions": ("time", "product"), "pages": ("time", "shown")}
    wrong += [f"{name} needs a column" for name in needed[source.shape] if name not in source.columns]
    has_flags = any(name in source.columns for name in FLAGS)
    if source.shape == "events" and "kind" not in source.columns:
        wrong.append(
            'a row needs its kind: the column of kinds, or "=purchase" where every row is an order line, "=click" where every row is a '
            f"click or a view; or flags ({', '.join(FLAGS)}) where it is a product that was shown"
        )
    elif source.shape == "events" and has_flags:
        wrong.append("a row that is an event has a kind, and no flags")
    if source.shape == "impressions" and ("kind" in source.columns or not has_flags):
        wrong.append(f"an impression needs some of the flags {', '.join(FLAGS)}, and no kind")
    for name, kind in source.kinds.items():
        if kind != LEFT_OUT and kind not in KINDS:
            wrong.append(f"kinds: {name!r} must be {', '.join(KINDS)}, or empty to leave it out, not {kind!r}")
    return wrong
