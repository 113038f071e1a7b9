"""Reads real queries in ten languages, each with a category path and a judgement whether the path fits.

The file (CSV, may be gzipped) has the columns language, origin_query, category_path and label; label 1 means that the path fits. Paths are
in English whatever the language of the query; a comma without a following space separates their steps. The data is not part of Aisle.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.arrays import Ints
from models.errors import InputError
from models.query_types.match_paths import QueryPaths
from models.query_types.tokens import normalise

FILE = "multilingual_query_category.csv.gz"
_COLUMNS = ("language", "origin_query", "category_path", "label")
_STEP_END = re.compile(r",(?! )")
_REMARK = re.compile("\uff08.*?\uff09")  # in full-width brackets


class QueryPathsError(InputError):
    """The file does not hold judged pairs; the message says what is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class JudgedQueries:
    """Judged pairs of a query and a category path."""

    pairs: QueryPaths
    languages: tuple[str, ...]  # of each pair
    num_repeated: int  # duplicate pairs with the same judgement, left out
    num_disputed: int  # pairs with contradicting judgements, left out


def read_query_paths(path: Path) -> JudgedQueries:
    """Reads the file. Raises QueryPathsError."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise QueryPathsError(f"{path.name} cannot be read: {error}") from None
    rows = csv.DictReader(io.StringIO(text))
    missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise QueryPathsError(f"{path.name}: the columns {', '.join(missing)} are missing")
    judged: dict[tuple[str, str, str], list[bool]] = {}
    for number, row in enumerate(rows, start=2):
        if row["label"] not in ("0", "1"):
            raise QueryPathsError(f"{path.name}, line {number}: label is {row['label']!r} and must be 0 or 1")
        judged.setdefault((row["language"], normalise(row["origin_query"]), row["category_path"]), []).append(
            row["label"] == "1"
        )
    agreed = {key: fits for key, fits in judged.items() if len(set(fits)) == 1 and key[1] and steps_of(key[2])}
    if len({fits[0] for fits in agreed.values()}) < 2:
        raise QueryPathsError(f"{path.name} holds no pair that fits, or none that does not")
    return JudgedQueries(
        QueryPaths(
            [query for _, query, _ in agreed],
            [steps_of(category) for _, _, category in agreed],
            np.array([fits[0] for fits in agreed.values()], np.bool_),
        ),
        tuple(language for language, _, _ in agreed),
        sum(len(fits) - 1 for fits in agreed.values()),
        sum(len(set(fits)) > 1 for fits in judged.values()),
    )


def steps_of(category_path: str) -> tuple[str, ...]:
    """Splits a path: "a,b & c, d" -> ("a", "b & c, d"). Drops remarks in full-width brackets."""
    steps = (_REMARK.sub("", step).strip() for step in _STEP_END.split(category_path))
    return tuple(step for step in steps if step)


def folds_by_query(queries: list[str], num_folds: int) -> Ints:
    """Returns the fold of each pair (pairs,) by a hash of the query, so that equal queries of any language share a fold."""
    return np.array([zlib.crc32(f"fold {query}".encode()) % num_folds for query in queries], np.int64)
