"""Reads ESCI as published: Amazon's Shopping Queries Dataset (Reddy et al., 2022, arXiv 2206.06588; Apache-2.0; amazon-science/esci-data).

The protocol is that of its task 1, query-product ranking: the small version, the test split, one locale at a time, a ranking of all
products judged for a query, and NDCG with gains Exact 1, Substitute 0.1, Complement 0.01, Irrelevant 0. (The script published with the data
swaps the gains of Substitute and Complement; this module uses those of the paper.) The data is not part of Aisle; name its folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.arrays import Codes, Ints
from models.products.text import clean_text
from models.studies.text_encoder.judged_set import JudgedSet, JudgedSetError, Pool, Protocol

EXAMPLES_FILE, PRODUCTS_FILE = "shopping_queries_dataset_examples.parquet", "shopping_queries_dataset_products.parquet"
LOCALES = ("us", "es", "jp")
VERSIONS = {"small": "small_version", "large": "large_version"}
SPLITS = ("train", "test")
GAINS = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}
FIELDS = ("product_title",)  # as in the published baselines

_EXAMPLE_COLUMNS = ("query", "query_id", "product_id", "product_locale", "esci_label", "split")


def read_esci(
    folder: Path,
    *,
    locale: str = "us",
    split: str = "test",
    version: str = "small",
    fields: Sequence[str] = FIELDS,
    max_queries: int | None = None,
) -> JudgedSet:
    """Reads one locale's queries, judged products and judgements.

    The product text consists of the `fields` of the products file, in this order. `max_queries` keeps the first queries by id, for a quick
    run. Raises JudgedSetError.
    """
    for name, value, allowed in (("locale", locale, LOCALES), ("split", split, SPLITS), ("version", version, VERSIONS)):
        if value not in allowed:
            raise JudgedSetError(f"{name} is {value!r}, ESCI has {', '.join(allowed)}")
    flag = VERSIONS[version]
    filters = [("product_locale", "=", locale), ("split", "=", split), (flag, "=", 1)]
    examples = _read(folder / EXAMPLES_FILE, (*_EXAMPLE_COLUMNS, flag), filters)
    if max_queries is not None:
        first = pc.unique(examples["query_id"]).sort()[:max_queries]
        examples = examples.filter(pc.is_in(examples["query_id"], first))
    if not examples.num_rows:
        raise JudgedSetError(f"{EXAMPLES_FILE}: no judgement of locale {locale}, split {split}, {version} version")
    product_ids, product_rows = _numbered(examples["product_id"])
    query_ids, query_rows = _numbered(examples["query_id"])
    queries = [""] * len(query_ids)
    for row, query in zip(query_rows.tolist(), examples["query"].to_pylist(), strict=True):
        queries[row] = clean_text(query or "")
    protocol = Protocol(
        GAINS,
        ("E",),
        Pool.JUDGED,
        ndcg_at=None,
        ks=(10,),
        split=f"{split}, {version} version, locale {locale}"
        + (f", the first {len(queries):,} queries" if max_queries is not None else ""),
        text=", ".join(fields),
        source="Reddy et al., 2022, task 1.",
    )
    texts = _texts(folder / PRODUCTS_FILE, fields, locale, product_ids)
    judgements = (query_rows, product_rows, _labels(examples["esci_label"]))
    return JudgedSet.from_judgements(f"ESCI {locale}", protocol, queries, texts, judgements)


def _read(path: Path, columns: Sequence[str], filters: list[tuple[str, str, Any]]) -> pa.Table:
    try:
        missing = [name for name in columns if name not in pq.read_schema(path).names]
        if missing:
            raise JudgedSetError(f"{path.name}: the columns {', '.join(missing)} are missing")
        return pq.read_table(path, columns=list(columns), filters=filters)
    except OSError as error:
        raise JudgedSetError(f"{path}: cannot be read ({error.strerror or error}); ESCI needs {path.name}") from None
    except pa.ArrowInvalid as error:
        raise JudgedSetError(f"{path.name}: cannot be read as Parquet ({error})") from None


def _texts(path: Path, fields: Sequence[str], locale: str, product_ids: Sequence[str]) -> list[str]:
    """Returns the text of each of `product_ids`."""
    table = _read(path, ("product_id", "product_locale", *fields), [("product_locale", "=", locale)])
    row_of = {product_id: row for row, product_id in enumerate(product_ids)}
    texts: list[str | None] = [None] * len(product_ids)
    columns = [table[name].to_pylist() for name in fields]
    for product_id, *parts in zip(table["product_id"].to_pylist(), *columns, strict=True):
        if (row := row_of.get(product_id)) is not None:
            texts[row] = ". ".join(text for part in parts if (text := clean_text(part or "").rstrip(" .")))
    missing = [product_id for product_id, text in zip(product_ids, texts, strict=True) if text is None]
    if missing:
        raise JudgedSetError(
            f"{path.name}: {len(missing):,} judged products of locale {locale} are missing, for example {missing[0]!r}"
        )
    return [text or "" for text in texts]


def _numbered(column: pa.ChunkedArray) -> tuple[list[str], Ints]:
    """Returns the distinct values, sorted, and the position of each row's value among them."""
    encoded = column.combine_chunks().dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    order = sorted(range(len(distinct)), key=distinct.__getitem__)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return [distinct[at] for at in order], place[encoded.indices.to_numpy(zero_copy_only=False)]


def _labels(column: pa.ChunkedArray) -> Codes:
    places = pc.index_in(column, pa.array(list(GAINS)))
    if places.null_count:
        wrong = column.filter(pc.is_null(places))[0].as_py()
        raise JudgedSetError(f"{EXAMPLES_FILE}: esci_label {wrong!r} is not one of {', '.join(GAINS)}")
    return np.asarray(places.to_numpy(), np.int32)
