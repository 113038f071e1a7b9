"""A transformer text encoder as plain compute: texts in, unit vectors out.

A folder holds the encoder in two forms, made by `models.text_encoder.export`: the Hugging Face files (`config.json`,
`model.safetensors`, `tokenizer.json`) for PyTorch on CUDA, and `openvino_model.xml/.bin` for OpenVINO on a CPU. Both give
the same vectors: cosine at least `SAME_VECTOR_COSINE` for any text. Serving on a CPU imports neither torch nor
transformers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from models.arrays import Floats, Ints
from models.text_encoder.backends import load_backend
from models.text_encoder.spec import EncoderSpec, Text

# One more call of the model costs about as much as computing this many padding tokens (1.1 ms a call, 0.07 ms a token on two
# cores), so texts of different lengths are computed apart when padding them would waste more.
CALL_COST_TOKENS = 48
MAX_CALL_TOKENS = 4096  # padded; keeps the activations of bulk encoding small


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Texts ready for one call of the model: where they stood, and their padded tokens (batch, length)."""

    rows: list[int]
    ids: Ints
    mask: Ints


class TextEncoder:
    """Encodes queries and products. `device` is "auto" (CUDA where there is one), "cpu" or "cuda"; `threads` 0 is all."""

    def __init__(self, folder: Path, device: str = "auto", threads: int = 0) -> None:
        self.spec = EncoderSpec.load(folder)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a batch of short texts is faster on one thread
        self._tokenizers = {
            "query": _tokenizer(folder, self.spec.max_query_tokens - bool(self.spec.locale_tokens)),
            "product": _tokenizer(folder, self.spec.max_product_tokens),
        }
        self._locale_place = locale_place(self._tokenizers["query"])
        self._pad_id = _pad_id(folder)
        self.backend = load_backend(folder, device, threads)

    def encode(self, texts: Sequence[Text]) -> Floats:
        """texts -> unit vectors (len(texts), dim)."""
        vectors = np.empty((len(texts), self.spec.dim), np.float32)
        for batch in self.prepare(texts):
            vectors[batch.rows] = self.backend(batch.ids, batch.mask)
        return vectors

    def prepare(self, texts: Sequence[Text]) -> list[PaddedBatch]:
        """Tokens of texts, in groups of similar length; each text is in exactly one."""
        token_ids = self._tokenize(texts)
        groups = group_by_length([len(ids) for ids in token_ids])
        return [PaddedBatch(rows, *_pad([token_ids[row] for row in rows], self._pad_id)) for rows in groups]

    def count_tokens(self, texts: Sequence[Text]) -> list[int]:
        return [len(ids) for ids in self._tokenize(texts)]

    def warm_up(self, max_tokens: int) -> None:
        """Runs the shapes that short queries make, so that the first caller does not pay for their preparation."""
        for length in range(3, 17):
            for batch in sorted({1, 2, 4, 8, 16, 32, max(1, max_tokens // length)}):
                if batch * length <= max_tokens:
                    self.backend(np.full((batch, length), self._pad_id), np.ones((batch, length), np.int64))

    def _tokenize(self, texts: Sequence[Text]) -> list[list[int]]:
        token_ids: list[list[int]] = [[]] * len(texts)
        for side, prefix in (("query", self.spec.query_prefix), ("product", self.spec.product_prefix)):
            rows = [row for row, text in enumerate(texts) if text.side == side]
            if rows:
                encodings = self._tokenizers[side].encode_batch_fast([prefix + texts[row].text for row in rows])
                for row, encoding in zip(rows, encodings, strict=True):
                    token_ids[row] = encoding.ids
                    token = self.spec.locale_tokens.get(texts[row].locale) if side == "query" else None
                    if token is not None:
                        token_ids[row].insert(self._locale_place, token)
        return token_ids


def cut_to(vectors: Floats, dimensions: int) -> Floats:
    """Matryoshka prefix of unit vectors (batch, dim), again of unit length: (batch, dimensions)."""
    if dimensions == vectors.shape[1]:
        return vectors
    prefix = vectors[:, :dimensions]
    return np.asarray(prefix / np.maximum(np.linalg.norm(prefix, axis=1, keepdims=True), 1e-12), np.float32)


def group_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Rows grouped so that texts of similar length are padded together; each row is in exactly one group."""
    groups: list[list[int]] = []
    waste = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        group = groups[-1] if groups else []
        more = len(group) * (lengths[row] - lengths[group[-1]]) if group else 0
        padded = (len(group) + 1) * lengths[row]
        if not group or waste + more > CALL_COST_TOKENS + padded // 5 or padded > MAX_CALL_TOKENS:
            groups.append([row])
            waste = 0
        else:
            group.append(row)
            waste += more
    return groups


def locale_place(tokenizer: Tokenizer) -> int:
    """Where the token of a locale goes: first, but behind a token that the tokenizer begins every text with, as [CLS]."""
    return int(tokenizer.encode("a").special_tokens_mask[:1] == [1])


def _tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _pad_id(folder: Path) -> int:
    """What fills the places that the mask hides: any token of the vocabulary where the model names none."""
    stated = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("pad_token_id")
    return max(0, int(stated or 0))  # -1 also means none


def _pad(token_ids: Sequence[list[int]], pad_id: int) -> tuple[Ints, Ints]:
    """ids, mask (batch, longest). A text without a token attends to one padding token: of nothing the softmax would be NaN."""
    longest = max(1, *map(len, token_ids))
    ids = np.full((len(token_ids), longest), pad_id, np.int64)
    mask = np.zeros((len(token_ids), longest), np.int64)
    for row, values in enumerate(token_ids):
        ids[row, : len(values)] = values
        mask[row, : max(1, len(values))] = 1
    return ids, mask
