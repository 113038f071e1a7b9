"""The sources of products: a catalogue file, or the sample store."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from models.bundles.files import file_sha256
from models.bundles.source import Source
from models.products.attributes.spec import AttributeSpec
from models.products.currency import currency_digits
from models.products.decimals import DecimalMark
from models.products.errors import CatalogueError
from models.products.mapping import ColumnMapping
from models.products.reader import CatalogueReader
from models.products.report import CatalogueReport
from models.products.sources.open_source import open_source
from models.sample_store import SAMPLE_COLUMNS, SampleStore


def catalogue_source(
    path: Path,
    columns: dict[str, str],
    text: tuple[str, ...],
    attributes: tuple[str, ...],
    currency: str,
    *,
    identifiers: tuple[str, ...] = (),
    mark: DecimalMark | None = None,
    encoding: str = "utf-8",
    max_lost: float = 1.0,
) -> Source:
    """Returns a source that reads a catalogue file or folder.

    `columns` maps a product's fields to columns; a field outside it takes the column of its own name, if there is one. `attributes` are as
    `AttributeSpec.parse` reads them; `mark`, `encoding` and `max_lost` are those of CatalogueReader. Raises CatalogueError when the file
    or the mapping cannot be used.
    """
    digits = currency_digits(currency)
    specs = tuple(map(AttributeSpec.parse, attributes))
    types = tuple(spec for spec in specs if spec.type)
    named: dict[str, Any] = {
        **columns,
        "text": text,
        "attributes": tuple(spec.name for spec in specs),
        "identifiers": identifiers,
        "types": types,
    }
    try:
        by_name = ColumnMapping.by_name(open_source(path, encoding).columns)
        mapping = dataclasses.replace(by_name, **named)
        reader = CatalogueReader(
            path, mapping, currency_digits=digits, currency=currency, mark=mark, encoding=encoding, max_lost=max_lost
        )
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        hashes = [file_sha256(file) for file in files]
    except OSError as error:
        raise CatalogueError(f"{error.filename or path}: cannot be read ({error.strerror})") from None
    return Source(
        name=path.resolve().name,
        fingerprint=hashlib.sha256(
            json.dumps([hashes, dataclasses.asdict(mapping), digits, currency, mark, encoding]).encode()
        ).hexdigest(),
        products=reader.products,
        report=lambda: dict(reader.report.as_json()) | {"unread": list(reader.unread_columns)},
        attributes=reader.plain_attributes,
        text_attributes=mapping.text,
        identifiers=mapping.identifiers,
        keeps_rare=reader.has_keys,
        types=types,
        num_products=reader.num_rows,
    )


def sample_source(num_products: int, seed: int) -> Source:
    """Returns a source of simulated products."""
    store = SampleStore(num_products, seed=seed)
    report: dict[str, Any] = dict(CatalogueReport(rows=num_products, products=num_products).as_json())
    return Source(
        name=f"sample store, simulated, seed {seed}",
        fingerprint=f"sample {num_products} {seed} {importlib.metadata.version('aisle')}",
        products=store.products,
        report=lambda: report,
        attributes=SAMPLE_COLUMNS.attribute_columns(),
        text_attributes=SAMPLE_COLUMNS.text,
        num_products=num_products,
    )
