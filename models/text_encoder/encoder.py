"""A transformer text encoder as plain compute: texts in, unit vectors out.

A folder holds the encoder in two forms, made by `models.text_encoder.export`: the Hugging Face files (`config.json`,
`model.safetensors`, `tokenizer.json`) for PyTorch on CUDA, and `openvino_model.xml/.bin` for OpenVINO on a CPU. Both give
the same vectors: cosine at least `SAME_VECTOR_COSINE` for any text. A build adds `openvino_eight_bit.xml/.bin`, whose vectors are as close
as the spec says, for processors that are faster so. Serving on a CPU imports neither torch nor
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
# cores), so texts of different lengths are computed separately when padding them together would waste more.
CALL_COST_TOKENS = 48
MAX_CALL_TOKENS = 4096  # padded; keeps the activations of bulk encoding small


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Texts for one call of the model: their places among all texts, and their padded tokens (batch, length)."""

    rows: list[int]
    ids: Ints
    mask: Ints


class TextEncoder:
    """Encodes queries and products. `device` is "auto" (CUDA if usable), "cpu" or "cuda"; `threads` 0 uses all cores."""

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
        """Returns unit vectors (texts, dim)."""
        vectors = np.empty((len(texts), self.spec.dim), np.float32)
        for batch in self.prepare(texts):
            vectors[batch.rows] = self.backend(batch.ids, batch.mask)
        return vectors

    def prepare(self, texts: Sequence[Text]) -> list[PaddedBatch]:
        """Tokenises texts and groups them by similar length; each text is in one group."""
        token_ids = self._tokenize(texts)
        groups = group_by_length([len(ids) for ids in token_ids])
        return [PaddedBatch(rows, *_pad([token_ids[row] for row in rows], self._pad_id)) for rows in groups]

    def warm_up(self, max_tokens: int) -> None:
        """Runs single short queries, and two of the largest batches. The first run of a network and of its largest batch takes 30 to 50 ms
        more, that of any other shape 4 ms: what they would cost beforehand, the gateways that serve would lack during an update."""
        for length in range(3, 17):
            self._run_padding(1, length)
        for length in (6, 16):
            self._run_padding(max(1, max_tokens // length), length)

    def _run_padding(self, batch: int, length: int) -> None:
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


def matryoshka_prefix(vectors: Floats, dimensions: int) -> Floats:
    """Returns the first `dimensions` of unit vectors (batch, dim), scaled to unit length (Kusupati et al., 2022)."""
    if dimensions == vectors.shape[1]:
        return vectors
    prefix = vectors[:, :dimensions]
    return np.asarray(prefix / np.maximum(np.linalg.norm(prefix, axis=1, keepdims=True), 1e-12), np.float32)


def group_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Groups rows by similar length, to be padded together; each row is in one group."""
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
    """Returns the position of a locale's token: first, or second if the tokenizer begins every text with a token such as [CLS]."""
    return int(tokenizer.encode("a").special_tokens_mask[:1] == [1])


def _tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _pad_id(folder: Path) -> int:
    """Returns the padding token, or token 0 if the model names none: the mask hides it."""
    stated = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("pad_token_id")
    return max(0, int(stated or 0))  # -1 also means none


def _pad(token_ids: Sequence[list[int]], pad_id: int) -> tuple[Ints, Ints]:
    """Returns ids and mask (batch, longest). A text without tokens attends to one padding token, since a softmax over nothing is NaN."""
    longest = max(1, *map(len, token_ids))
    ids = np.full((len(token_ids), longest), pad_id, np.int64)
    mask = np.zeros((len(token_ids), longest), np.int64)
    for row, values in enumerate(token_ids):
        ids[row, : len(values)] = values
        mask[row, : max(1, len(values))] = 1
    return ids, mask
