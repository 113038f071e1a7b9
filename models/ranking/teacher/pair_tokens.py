"""Tokenises queries and products, and joins pairs of them for the cross-encoder:

[CLS] [EN-US] wool rug [SEP] [TITLE] halden loop rug [BRAND] halden [TYPE] rugs [COLOUR] grey [PRICE] cheap [SEP]

The two sides are tokenised apart, since a query pairs with many products and a product with many queries.
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
_BLOCK = 1 << 14  # products tokenised together
_QUERY_CHARS_PER_TOKEN = 24  # a longer query is cut


@dataclass(frozen=True, slots=True)
class TextSpec:
    """How texts are tokenised; saved with the teacher."""

    fields: tuple[Field, ...]
    locales: tuple[str, ...]
    max_query_tokens: int  # without [CLS], the locale and [SEP]
    start_id: int  # [CLS] or <s>
    end_id: int  # [SEP] or </s>
    pad_id: int
    num_segments: int  # 2 if the base distinguishes first and second text, else 1

    @property
    def max_tokens(self) -> int:
        """The longest pair."""
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
    """Pairs for one call of the network, padded to the longest."""

    ids: Ints  # (pairs, longest)
    mask: Ints  # (pairs, longest)
    segments: Ints  # (pairs, longest) 0 for the query, 1 for the product


class PairTokens:
    """Tokenises texts. Safe to call from several threads."""

    def __init__(self, tokenizer: Tokenizer, spec: TextSpec) -> None:
        """Raises ValueError if `tokenizer` lacks a marker."""
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
        """Returns (queries,) the first part of a pair: start, locale, words, end."""
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
        """Returns (rows,) the second part of a pair: a marker and the words of each field that is not empty, then end.

        `rows` None is all products; a product takes 80 us.
        """
        chosen = np.arange(len(table)) if rows is None else rows
        blocks = [
            self._products(table, bands, chosen[start : start + _BLOCK])
            for start in range(0, max(1, len(chosen)), _BLOCK)
        ]
        return Ragged.concatenate(blocks)

    def _products(self, table: ProductTable | ProductList, bands: PriceBands, rows: npt.NDArray[np.integer]) -> Ragged:
        tokens: list[list[int]] = [[] for _ in rows]
        for field in self.spec.fields:
            marker = self._marker_ids[field.marker]
            for row, words in zip(tokens, self._words(field_texts(field, table, bands, rows)), strict=True):
                if words:
                    row.append(marker)
                    row.extend(words[: field.max_tokens])
        for row in tokens:
            row.append(self.spec.end_id)
        return Ragged.from_rows(tokens)

    def _words(self, texts: list[str]) -> list[list[int]]:
        encodings: list[Any] = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]


def join_pairs(queries: Ragged, products: Ragged, spec: TextSpec) -> PairBatch:
    """Joins query i and product i. Raises ValueError if their numbers differ."""
    if len(queries) != len(products):
        raise ValueError(f"{len(queries)} queries do not pair with {len(products)} products")
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
    """Groups rows by length; no group but a single row has more than `max_tokens` tokens, padding included."""
    order = np.argsort(lengths, kind="stable")
    groups: list[Ints] = []
    start = 0
    while start < len(order):
        sizes = np.arange(1, len(order) - start + 1) * lengths[order[start:]]  # ascending: the last row is the longest
        count = max(1, int(np.searchsorted(sizes, max_tokens, side="right")))
        groups.append(order[start : start + count])
        start += count
    return groups
