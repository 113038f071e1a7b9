"""Reads WANDS as published: Wayfair's annotated searches (Chen et al., ECIR 2022; MIT; github.com/wayfair/WANDS, folder `dataset`).

480 queries, 42,994 products and 233,448 judgements in three tab-separated files. The data is not part of Aisle; name its folder.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from models.products.text import clean_text
from models.studies.text_encoder.judged_set import JudgedSet, JudgedSetError, Pool, Protocol

QUERY_FILE, PRODUCT_FILE, LABEL_FILE = "query.csv", "product.csv", "label.csv"

# The usual gains for three grades; MAP and Recall only count Exact.
GAINS = {"Exact": 1.0, "Partial": 0.5, "Irrelevant": 0.0}

FIELDS = ("product_name", "product_class", "product_description")
# The published description writes category_hierarchy, the file has a blank.
_ALIASES = {"category_hierarchy": "category hierarchy"}


def read_wands(folder: Path, *, fields: Sequence[str] = FIELDS, pool: Pool = Pool.CATALOGUE) -> JudgedSet:
    """Reads all queries and judgements. The product text consists of the `fields` of product.csv, in this order. Raises JudgedSetError."""
    queries: dict[str, int] = {}
    query_texts: list[str] = []
    for row in _rows(folder / QUERY_FILE, ("query_id", "query")):
        queries[row["query_id"]] = len(query_texts)
        query_texts.append(clean_text(row["query"]))
    products: dict[str, int] = {}
    texts: list[str] = []
    for row in _rows(folder / PRODUCT_FILE, ("product_id", *fields)):
        products[row["product_id"]] = len(texts)
        texts.append(_sentences([row[name] for name in fields]))
    labels = {label: place for place, label in enumerate(GAINS)}
    judged: list[tuple[int, int, int]] = []
    for line, row in enumerate(_rows(folder / LABEL_FILE, ("query_id", "product_id", "label")), 2):
        for name, allowed in (("query_id", queries), ("product_id", products), ("label", labels)):
            if row[name] not in allowed:
                raise JudgedSetError(f"{LABEL_FILE}, record {line}: {name} {row[name]!r} is unknown")
        judged.append((queries[row["query_id"]], products[row["product_id"]], labels[row["label"]]))
    table = np.array(judged, np.int64).reshape(-1, 3)
    protocol = Protocol(
        GAINS,
        ("Exact",),
        pool,
        split="all 480 queries (there is no training part)",
        text=", ".join(fields),
        source="Chen et al., ECIR 2022; the gains are the usual choice.",
    )
    return JudgedSet.from_judgements(
        "WANDS", protocol, query_texts, texts, (table[:, 0], table[:, 1], table[:, 2].astype(np.int32))
    )


def _rows(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, str]]:
    """Yields records of a tab-separated file with these `columns`; a missing field at the end is ""."""
    csv.field_size_limit(min(sys.maxsize, 1 << 31))
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", restval="")
            present = reader.fieldnames or []
            named = {name: name if name in present else _ALIASES.get(name, name) for name in columns}
            missing = [name for name, column in named.items() if column not in present]
            if missing:
                raise JudgedSetError(
                    f"{path.name}: the columns {', '.join(missing)} are missing; tab separated, it has {', '.join(present) or 'none'}"
                )
            for row in reader:
                yield {name: row[column] for name, column in named.items()}
    except OSError as error:
        raise JudgedSetError(f"{path}: cannot be read ({error.strerror}); WANDS needs {path.name}") from None
    except UnicodeDecodeError:
        raise JudgedSetError(f"{path.name}: is not UTF-8") from None


def _sentences(parts: Sequence[str]) -> str:
    """Joins fields as sentences; "|" separates classes, as in "Beds|Bunk Beds"."""
    cleaned = (clean_text(part.replace("|", ", ")).rstrip(" .") for part in parts)
    return ". ".join(part for part in cleaned if part)
