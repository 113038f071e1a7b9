"""Queries and products as tokens, and the two joined for the cross-encoder:

[CLS] [EN-US] wool rug [SEP] [TITLE] halden loop rug [BRAND] halden [TYPE] rugs [COLOUR] grey [PRICE] cheap [SEP]

The two sides are made apart, since a query stands beside many products and a product beside many queries.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from models.arrays import Ints
from models.products.product_table import ProductList, ProductTable
from models.ranking.teacher.fields import UNKNOWN_LOCALE, Field, field_texts, locale_marker, markers
from models.unified.price_bands import PriceBands
from models.unified.words import Ragged

_FILE = "texts.json"
_BLOCK = 1 << 14  # products that are made into tokens together
_QUERY_CHARS_PER_TOKEN = 24  # of a query no more is read


@dataclass(frozen=True, slots=True)
class TextSpec:
    """How texts become tokens; saved with the teacher."""

    fields: tuple[Field, ...]
    locales: tuple[str, ...]
    max_query_tokens: int  # without [CLS], the locale and [SEP]
    start_id: int  # [CLS] or <s>
    end_id: int  # [SEP] or </s>
    pad_id: int
    num_segments: int  # 2 where the base tells first and second text apart, else 1

    @property
    def max_tokens(self) -> int:
        """Of a pair."""
        return self.max_query_tokens + 3 + sum(field.max_tokens + 1 for field in self.fields) + 1

    def save(self, folder: Path) -> None:
        (folder / _FILE).write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> TextSpec:
        values = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        fields = tuple(Field(**value) for value in values["fields"])
        return cls(**{**values, "fields": fields, "locales": tuple(values["locales"])})


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """Pairs ready for one call of the network, each padded to the longest."""

    ids: Ints  # (pairs, longest)
    mask: Ints  # (pairs, longest)
    segments: Ints  # (pairs, longest) 0 for the query, 1 for the product


class PairTokens:
    """Makes tokens of texts. Safe to call from several threads."""

    def __init__(self, tokenizer: Tokenizer, spec: TextSpec) -> None:
        """`tokenizer` knows the markers. Raises ValueError where it lacks one."""
        self.spec = spec
        self._tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # What shoppers and sellers write is text, even where it looks like a marker.
        tokenizer.encode_special_tokens = True
        self._marker_ids: dict[str, int] = {}
        for marker in markers(spec.fields, spec.locales):
            number = tokenizer.token_to_id(marker.token)
            if number is None:
                raise ValueError(f"the tokenizer does not know the marker {marker.token}; train the teacher again")
            self._marker_ids[marker.token] = number

    @classmethod
    def load(cls, folder: Path) -> PairTokens:
        return cls(Tokenizer.from_file(str(folder / "tokenizer.json")), TextSpec.load(folder))

    def queries(self, texts: Sequence[str], locales: Sequence[str]) -> Ragged:
        """(queries,) the first half of a pair: start, locale, words, end."""
        spec = self.spec
        unknown = self._marker_ids[UNKNOWN_LOCALE]
        rows = []
        cut = [text[: _QUERY_CHARS_PER_TOKEN * spec.max_query_tokens] for text in texts]
        for words, locale in zip(self._words(cut), locales, strict=True):
            marker = self._marker_ids.get(locale_marker(locale), unknown)
            rows.append([spec.start_id, marker, *words[: spec.max_query_tokens], spec.end_id])
        return Ragged.from_rows(rows)

    def products(
        self, table: ProductTable | ProductList, bands: PriceBands, rows: npt.NDArray[np.integer] | None = None
    ) -> Ragged:
        """(rows,) the second half of a pair: each field that is not empty behind its marker, then end. None is all products: 80 us
        each."""
        wanted = np.arange(len(table)) if rows is None else rows
        blocks = [
            self._products(table, bands, wanted[start : start + _BLOCK])
            for start in range(0, max(1, len(wanted)), _BLOCK)
        ]
        return Ragged.concatenate(blocks)

    def _products(self, table: ProductTable | ProductList, bands: PriceBands, rows: npt.NDArray[np.integer]) -> Ragged:
        found: list[list[int]] = [[] for _ in rows]
        for field in self.spec.fields:
            marker = self._marker_ids[field.marker]
            for row, words in zip(found, self._words(field_texts(field, table, bands, rows)), strict=True):
                if words:
                    row.append(marker)
                    row.extend(words[: field.max_tokens])
        for row in found:
            row.append(self.spec.end_id)
        return Ragged.from_rows(found)

    def _words(self, texts: list[str]) -> list[list[int]]:
        encodings: list[Any] = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]


def join_pairs(queries: Ragged, products: Ragged, spec: TextSpec) -> PairBatch:
    """Row by row the query's tokens, then the product's. Raises ValueError where the two are not as many."""
    if len(queries) != len(products):
        raise ValueError(f"{len(queries)} queries stand beside {len(products)} products")
    first, both = queries.lengths, queries.lengths + products.lengths
    places = np.arange(max(1, int(both.max(initial=1))))[None, :]
    ids = np.full((len(both), places.shape[1]), spec.pad_id, np.int64)
    of_query = places < first[:, None]
    of_either = places < both[:, None]
    ids[of_query] = queries.values
    ids[of_either & ~of_query] = products.values
    segments = (of_either & ~of_query).astype(np.int64) * (spec.num_segments - 1)
    return PairBatch(ids, of_either.astype(np.int64), segments)


def length_batches(lengths: Ints, max_tokens: int) -> list[Ints]:
    """Rows in groups of similar length, none of more than `max_tokens` with its padding unless it is a single row."""
    order = np.argsort(lengths, kind="stable")
    groups: list[Ints] = []
    start = 0
    while start < len(order):
        sizes = np.arange(1, len(order) - start + 1) * lengths[order[start:]]  # ascending: the last row is the longest
        count = max(1, int(np.searchsorted(sizes, max_tokens, side="right")))
        groups.append(order[start : start + count])
        start += count
    return groups
