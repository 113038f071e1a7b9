"""Embedders: encoders that turn queries and products into unit vectors."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.arrays import Floats, Progress
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.export import export_encoder
from models.text_encoder.hugging_face import PACKAGED, encoder_fingerprint, find_encoder
from models.text_encoder.spec import EncoderError, Side, Text

WEIGHTS_FILE = "model.safetensors"
_WORD_WEIGHTS = ("word_embeddings.weight", "embed_tokens.weight", "wte.weight")
_BLOCK = 1_024  # texts between two reports of progress


class Embedder(Protocol):
    """Encodes texts. `fingerprint` changes when the vectors change; it is the key of cached vectors."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def embed_queries(self, texts: Sequence[str]) -> Floats:
        """Returns (texts, dim) unit vectors."""
        ...

    def embed_products(self, texts: Sequence[str]) -> Floats:
        """Returns (texts, dim) unit vectors."""
        ...


class EncoderEmbedder:
    """A Hugging Face or sentence-transformers encoder: the packaged MiniLM, a folder or a model name; see `find_encoder`.

    It is exported into `work` once. Raises EncoderError for an encoder that is missing or cannot be served.
    """

    def __init__(self, name: str, encoder: str, work: Path, *, max_product_tokens: int = 128, threads: int = 0) -> None:
        self.name = name
        exported = [encoder_fingerprint(encoder), max_product_tokens]
        self.fingerprint = hashlib.sha256(json.dumps(exported).encode()).hexdigest()[:16]
        folder = work / f"encoder-{self.fingerprint}"
        if not folder.exists():
            partial = folder.with_name(folder.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            export_encoder(encoder, partial, max_product_tokens=max_product_tokens)
            partial.rename(folder)
        self._encoder = TextEncoder(folder, "cpu", threads)

    def embed_queries(self, texts: Sequence[str]) -> Floats:
        return self._embed(texts, "query")

    def embed_products(self, texts: Sequence[str]) -> Floats:
        return self._embed(texts, "product")

    def _embed(self, texts: Sequence[str], side: Side) -> Floats:
        return self._encoder.encode([Text(text, side) for text in texts])


class StaticEmbedder:
    """The mean of an encoder's word vectors, without its transformer layers.

    It stands in for an encoder without similarity tuning, because no raw BERT is installed. Its word vectors were tuned with the rest of
    the encoder, so it is not a raw encoder and must not be called one.
    """

    def __init__(self, name: str, encoder: str = PACKAGED, *, max_tokens: int = 128) -> None:
        from safetensors import safe_open
        from tokenizers import Tokenizer

        self.name = name
        self.fingerprint = f"static-{encoder_fingerprint(encoder)[:12]}-{max_tokens}"
        folder = find_encoder(encoder)
        try:
            with safe_open(folder / WEIGHTS_FILE, "np") as weights:
                named = [key for key in weights.keys() if key.endswith(_WORD_WEIGHTS)]  # noqa: SIM118 - not a mapping
                if not named:
                    raise EncoderError(f"{folder / WEIGHTS_FILE} holds no word vectors (*{', *'.join(_WORD_WEIGHTS)})")
                self._words = np.asarray(weights.get_tensor(named[0]), np.float32)
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except OSError as error:
            raise EncoderError(f"{folder}: {WEIGHTS_FILE} cannot be read ({error})") from None
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

    def embed_queries(self, texts: Sequence[str]) -> Floats:
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        vectors = np.stack([self._words[text].mean(axis=0) if text else np.zeros(self._words.shape[1]) for text in ids])
        return unit(vectors)

    def embed_products(self, texts: Sequence[str]) -> Floats:
        return self.embed_queries(texts)


@dataclass(frozen=True, slots=True)
class VectorCache:
    """Product vectors cached in a folder by encoder and texts, because encoding takes most of an evaluation's time."""

    folder: Path

    def product_vectors(self, embedder: Embedder, texts: Sequence[str], progress: Progress) -> Floats:
        """Returns (texts, dim) unit vectors, always rounded to float16."""
        key = hashlib.sha256("\0".join([embedder.fingerprint, *texts]).encode()).hexdigest()[:24]
        path = self.folder / f"vectors-{key}.npy"
        if path.exists():
            return np.asarray(np.load(path), np.float32)
        blocks = []
        for start in range(0, len(texts), _BLOCK):
            progress(f"{embedder.name}: encode products", start, len(texts))
            blocks.append(checked(embedder, embedder.embed_products(texts[start : start + _BLOCK])).astype(np.float16))
        progress(f"{embedder.name}: encode products", len(texts), len(texts))
        vectors = np.concatenate(blocks)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name("partial-" + path.name)
        np.save(partial, vectors)
        partial.replace(path)
        return vectors.astype(np.float32)


def unit(vectors: npt.NDArray[np.floating]) -> Floats:
    """Scales vectors (n, dim) to length 1; a zero vector stays zero."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


def checked(embedder: Embedder, vectors: Floats) -> Floats:
    """Returns `vectors`. Raises ValueError if they are not finite."""
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(f"{embedder.name} returned vectors of shape {vectors.shape} that are not all finite")
    return vectors
