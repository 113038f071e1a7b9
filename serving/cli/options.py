"""Options that several commands share, and what they stand for.

A group is a frozen dataclass whose fields are options. `as_command` lets a command take a group as a parameter: its `--help` then shows one
option for each field.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

from typer import Option

from serving.cli.terminal import fail

if TYPE_CHECKING:
    from models.bundles.build import Recipe
    from models.bundles.source import Source

ENCODER_NAME = "'minilm' (packaged), a Hugging Face model directory, or a model name."

Out = Annotated[Path, Option("--out", help="Folder of the new bundle.")]
Force = Annotated[bool, Option("--force", help="Replace the bundle if it exists.")]
Catalogue = Annotated[
    Path | None, Option(help="Products: .csv, .tsv, .jsonl, .json (or .gz of them), .parquet, or a folder of .parquet.")
]
_LOG = "a folder of 'aisle import', or Parquet in the schema of models/events/event.py"
Logs = Annotated[list[Path] | None, Option(help=f"A shopping log: {_LOG}. Repeatable: all are learned from.")]
Store = Annotated[Path | None, Option(help="Store of 'aisle simulate', instead of --catalogue and --events.")]


def simulated_store(store: Path | None) -> Path | None:
    """Refuses a folder that 'aisle simulate' did not write, as the callback of an option."""
    from models.sample_store import TRUTH

    if store and not (store / TRUTH).is_file():
        fail(f"{store} holds no {TRUTH}; make a store with 'aisle simulate --out {store}'")
    return store


SimulatedStore = Annotated[Path, Option("--store", callback=simulated_store, help="Store of 'aisle simulate'.")]
Report = Annotated[Path, Option("--out", help="Folder for report.html, report.json and the trained models.")]
RecipeName = Annotated[str, Option("--recipe", help="starter (a minute), small (CPU, minutes) or full (for a GPU).")]
TypesRecipeName = Annotated[str, Option("--recipe", help="starter (seconds), small (minutes) or full (large logs).")]
HalfLifeDays = Annotated[
    float | None,
    Option(
        min=0,
        help="Days in which an event loses half its weight in retrieval, for shops that sell by season; 0: all count alike. Default: what "
        "tells the log's newest events best by the older ones.",
    ),
]
Device = Annotated[str, Option(help="Where the model is trained: cpu or cuda.")]
TensorBoard = Annotated[Path | None, Option(help="Folder for TensorBoard logs.")]
Seed = Annotated[int, Option(help="The same seed gives the same weights on the same machine.")]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextColumns:
    """The columns of a catalogue that identify a product and describe it in words."""

    id_column: Annotated[str, Option("--id", help="Column with the unique product id.")] = "id"
    title: Annotated[str, Option(help="Column with the title.")] = "title"
    brand: Annotated[str | None, Option(help="Column with the brand.")] = None
    text: Annotated[list[str] | None, Option("--text", help="Column that is encoded and returned. Repeatable.")] = None

    def source(self, catalogue: Path) -> Source:
        """Returns the products of a catalogue, without prices. Raises CatalogueError."""
        return _source(catalogue, self)


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueColumns(TextColumns):
    """All columns of a catalogue."""

    category: Annotated[
        str | None, Option(help="Column with the category path, 'A > B > C'; several are a list or separated by '|'.")
    ] = None
    price: Annotated[str | None, Option(help="Column with the price in main units, such as 9.50.")] = None
    in_stock: Annotated[str | None, Option(help="Column that says whether the product can be bought.")] = None
    attribute: Annotated[
        list[str] | None,
        Option(
            "--attribute",
            metavar="NAME[:TYPE[:UNIT]]",
            help="Column that is returned and filtered by, not encoded. Each key of objects or maps is an attribute 'NAME.key'; "
            "'NAME.*' names them by their keys alone. TYPE is keyword, keywords (several, separated by '|'), number (with the UNIT to "
            "convert to), bool, date or text; it is inferred if it is not stated. Repeatable.",
        ),
    ] = None
    identifier: Annotated[
        list[str] | None,
        Option("--identifier", help="Column with GTINs, model numbers or other codes, found exactly. Repeatable."),
    ] = None
    currency: Annotated[str, Option(help="ISO 4217 code of the prices.")] = "USD"
    decimal: Annotated[
        str,
        Option(
            help="Decimal mark of prices in text: point (1,299.00) or comma (1.299,00). Default: as the column shows."
        ),
    ] = ""
    encoding: Annotated[str, Option(help="Encoding of a text file, such as windows-1252.")] = "utf-8"
    max_lost: Annotated[
        float, Option(min=0.0, max=1.0, help="Largest share of rows that may be lost; with more the command fails.")
    ] = 0.2

    def source(self, catalogue: Path) -> Source:
        """Returns the products of a catalogue. Raises CatalogueError."""
        from models.products.decimals import DecimalMark

        stated = {"category": self.category, "price": self.price, "in_stock": self.in_stock}
        return _source(
            catalogue,
            self,
            stated,
            attributes=self.attribute,
            currency=self.currency,
            identifiers=tuple(self.identifier or ()),
            mark=choice("decimal mark", self.decimal, {str(one): one for one in DecimalMark}) if self.decimal else None,
            encoding=self.encoding,
            max_lost=self.max_lost,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleOptions:
    """Name, locales and index of a new bundle."""

    name: Annotated[str, Option(help="Name of the catalogue. Default: the name of the bundle's folder.")] = ""
    locale: Annotated[
        list[str] | None, Option("--locale", help="Locale served, the default first. Repeatable. Default: en-US.")
    ] = None
    recall: Annotated[float, Option(min=0.5, max=1.0, help="Minimum recall@100 of the index.")] = 0.98
    latency_ms: Annotated[float, Option(min=0.05, help="Exact search is kept if it takes at most this many ms.")] = 2.0

    def recipe(self, out: Path, currency: str, **more: Any) -> Recipe:
        """Returns the recipe of the bundle in the folder `out`; `more` sets other fields of it."""
        from models.bundles.build import Recipe
        from models.index.tuner import IndexTarget

        return Recipe(
            name=self.name or out.name,
            locales=tuple(self.locale or ["en-US"]),
            currency=currency,
            index=IndexTarget(recall=self.recall, latency_ms=self.latency_ms),
            **more,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceOptions:
    """Address and credentials of a running service."""

    server: Annotated[str, Option(help="Address of the service, as host:port.")] = "127.0.0.1:9000"
    api_key: Annotated[str, Option(envvar="AISLE_API_KEY", help="API key, if the service requires one.")] = ""
    ca: Annotated[Path | None, Option(exists=True, dir_okay=False, help="CA certificate of a TLS service.")] = None
    cert: Annotated[Path | None, Option(exists=True, dir_okay=False, help="Client certificate for mTLS.")] = None
    cert_key: Annotated[Path | None, Option(exists=True, dir_okay=False, help="Key of the client certificate.")] = None


def as_command(command: Callable[..., None]) -> Callable[..., None]:
    """Returns what typer can read: every group is replaced by its fields, and the paragraphs of the docstring are unwrapped."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        annotation = hints[parameter.name]
        if is_dataclass(annotation) and isinstance(annotation, type):
            groups[parameter.name] = annotation
            types = get_type_hints(annotation, include_extras=True)
            stated = [(field.name, field.default, types[field.name]) for field in fields(annotation)]
        else:
            stated = [(parameter.name, parameter.default, annotation)]
        options += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=of_type)
            for name, default, of_type in stated
        ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    run.__doc__ = re.sub(r"(?<=\S)\n(?=\S)", " ", inspect.cleandoc(command.__doc__ or ""))
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def choice(kind: str, name: str, choices: Mapping[str, T]) -> T:
    """Returns the choice of that name; an unknown name ends the command. `kind` is what the choices are, as "recipe"."""
    if name not in choices:
        fail(f"there is no {kind} {name!r}; there are {', '.join(choices)}")
    return choices[name]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShopData:
    """The products and the logs that a model is trained on; `currency` is that of the prices."""

    source: Source
    logs: tuple[Path, ...]
    currency: str


def shop_data(
    store: Path | None, catalogue: Path | None, events: list[Path] | None, columns: CatalogueColumns
) -> ShopData:
    """Returns the data of a simulated store, or of --catalogue and --events. Raises CatalogueError."""
    from models.sample_store import CATALOGUE, CURRENCY, SAMPLE_COLUMNS

    if store is None:
        if catalogue is None or not events:
            fail("give --catalogue and --events, or --store with a folder of 'aisle simulate'")
        logs = tuple(log_paths(None, events))
        return ShopData(source=columns.source(catalogue), logs=logs, currency=columns.currency)
    if catalogue or events:
        fail("give either --store, or --catalogue and --events")
    if not (store / CATALOGUE).is_file():
        fail(f"{store} holds no {CATALOGUE}; make a store with 'aisle simulate --out {store}'")
    logs = tuple(log_paths(store, None))
    simulated = CatalogueColumns(
        text=list(SAMPLE_COLUMNS.text), attribute=list(SAMPLE_COLUMNS.attributes), currency=CURRENCY
    )
    return ShopData(source=simulated.source(store / CATALOGUE), logs=logs, currency=CURRENCY)


def log_paths(store: Path | None, events: list[Path] | None) -> list[Path]:
    """Returns the logs of a simulated store, the main locale's first, or those of --events."""
    from models.sample_store import EVENTS, STOREFRONTS

    if (store is None) == (not events):
        fail("give either --store with a folder of 'aisle simulate', or --events")
    logs = [store / EVENTS, store / STOREFRONTS] if store else list(events or [])
    for path in logs:
        if not path.exists():
            fail(f"there is no {path}" + (f"; make a store with 'aisle simulate --out {store}'" if store else ""))
    return logs


def _source(
    catalogue: Path,
    words: TextColumns,
    stated: Mapping[str, str | None] | None = None,
    *,
    attributes: list[str] | None = None,
    currency: str = "USD",
    **reading: Any,
) -> Source:
    from models.bundles.sources import catalogue_source

    named = {"brand": words.brand, **(stated or {})}
    columns = {"id": words.id_column, "title": words.title} | {field: name for field, name in named.items() if name}
    return catalogue_source(catalogue, columns, tuple(words.text or ()), tuple(attributes or ()), currency, **reading)
