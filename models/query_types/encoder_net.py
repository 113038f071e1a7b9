"""A head on the vectors of a Hugging Face encoder, for serving: OpenVINO on a CPU, PyTorch on CUDA."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Floats
from models.errors import InputError
from models.query_types.head import Head, HeadSpec
from models.query_types.recipe import LocaleInput
from models.query_types.tokens import MAX_CHARS, normalise, tokens_of
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text


class EncoderMismatch(InputError):
    """The encoder is not the one that the head was trained on; the message names the difference."""


class EncoderNet:
    """One encoder for all locales, in a folder of `models.text_encoder.export`. Safe to call from several threads.

    `weights` have the names and shapes of `spec.shapes()`; float16 is read as float32. A folder that only this network needs may be a
    TemporaryDirectory, which then lives as long as the network. Raises EncoderMismatch, and the errors of `TextEncoder`.
    """

    def __init__(
        self,
        spec: HeadSpec,
        weights: Mapping[str, npt.NDArray[np.generic]],
        folder: Path | TemporaryDirectory[str],
        device: str = "auto",
        threads: int = 0,
    ) -> None:
        self.spec = spec
        self.weights: dict[str, Floats] = {name: np.asarray(value, np.float32) for name, value in weights.items()}
        self._folder = folder
        self._head = Head(self.weights)
        self._encoder = TextEncoder(self._path, device, threads)
        encoder = self._encoder.spec
        if encoder.dim != spec.dim:
            raise EncoderMismatch(f"the encoder makes {encoder.dim} dimensions, its head takes {spec.dim}")
        prefixed = spec.locales if spec.locale_input == LocaleInput.PREFIX else ()
        if set(encoder.locale_tokens) != set(prefixed):
            raise EncoderMismatch(
                f"the encoder has tokens of {len(encoder.locale_tokens)} locales, its head reads {len(prefixed)}: "
                f"{', '.join(sorted(set(encoder.locale_tokens) ^ set(prefixed))[:3])} not in both"
            )

    @property
    def backend(self) -> str:
        return self._encoder.backend.name

    @property
    def _path(self) -> Path:
        return self._folder if isinstance(self._folder, Path) else Path(self._folder.name)

    def scores(self, queries: Sequence[str], locales: Sequence[int]) -> tuple[Floats, Bools]:
        """Returns scores (queries, types), and (queries,) whether a query has any token; locales are numbers or AGNOSTIC."""
        names = (*self.spec.locales, "")
        texts = [Text(encoder_text(query), "query", names[at]) for query, at in zip(queries, locales, strict=True)]
        filled = np.array([bool(tokens_of(query, pairs=False)) for query in queries], np.bool_)
        states = scaled_vectors(self._encoder.encode(texts))
        return self._head.read(states, np.asarray(locales, np.int64)), filled

    def save_encoder(self, folder: Path) -> None:
        shutil.copytree(self._path, folder)


def encoder_text(query: str) -> str:
    """Returns the text that the encoder reads in training and serving: the normalised beginning of the query."""
    return normalise(query[:MAX_CHARS]).encode("utf-8", "replace").decode()


def scaled_vectors(vectors: Floats) -> Floats:
    """Scales unit vectors (queries, dim) to numbers of about 1, which layers are initialised for."""
    return np.asarray(vectors * np.sqrt(vectors.shape[1], dtype=np.float32), np.float32)
