"""The files of a query classifier: `types.json`, `types.safetensors`, and `encoder/` if a Hugging Face encoder reads the queries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from models.arrays import Bools, Floats
from models.errors import InputError
from models.query_types.encoder_net import EncoderMismatch, EncoderNet
from models.query_types.head import HeadSpec
from models.query_types.recipe import LocaleInput
from models.query_types.tokens import LocaleRows, QueryHashing
from models.query_types.type_net import NetSpec, TypeNet

FORMAT_VERSION = 2  # version 1 had no "encoder": it was always n-grams
READ_VERSIONS = (1, FORMAT_VERSION)
SPEC_FILE = "types.json"
WEIGHTS_FILE = "types.safetensors"
ENCODER_FOLDER = "encoder"


class EncoderKind(StrEnum):
    """The encoder of the queries."""

    NGRAMS = "n-grams"
    TRANSFORMER = "transformer"


class Net(Protocol):
    """Scores the types of queries. Safe to call from several threads."""

    @property
    def spec(self) -> HeadSpec: ...

    @property
    def weights(self) -> Mapping[str, Floats]:
        """Weights with the names and shapes of `spec.shapes()`."""

    @property
    def backend(self) -> str:
        """The library, device and precision, e.g. "numpy cpu fp32"."""

    def scores(self, queries: Sequence[str], locales: Sequence[int]) -> tuple[Floats, Bools]:
        """Returns scores (queries, types), and (queries,) whether a query has any token; locales are numbers or AGNOSTIC."""


class TypeModelError(InputError):
    """The folder holds no usable query classifier; the message says why."""


def read_spec(folder: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TypeModelError(f"{folder.name} holds no query-type model: {error}") from None
    if values.get("format_version") not in READ_VERSIONS:
        raise TypeModelError(
            f"format version {values.get('format_version')} is not {' or '.join(map(str, READ_VERSIONS))}; train the model again"
        )
    return values


def read_weights(folder: Path, specs: Sequence[HeadSpec]) -> list[dict[str, npt.NDArray[np.generic]]]:
    """Returns the weights of each network."""
    try:
        weights = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise TypeModelError(f"{WEIGHTS_FILE} cannot be read: {error}") from None
    expected = {f"{at}.{name}": shape for at, spec in enumerate(specs) for name, shape in spec.shapes().items()}
    for name in sorted(set(expected) | set(weights)):
        if name not in weights or name not in expected:
            there, missing = (WEIGHTS_FILE, SPEC_FILE) if name in weights else (SPEC_FILE, WEIGHTS_FILE)
            raise TypeModelError(f"{name} is in {there} and not in {missing}")
        if weights[name].shape != expected[name]:
            raise TypeModelError(
                f"{name} has shape {weights[name].shape} in {WEIGHTS_FILE}, and {expected[name]} by {SPEC_FILE}"
            )
    return [{name: weights[f"{at}.{name}"] for name in spec.shapes()} for at, spec in enumerate(specs)]


def load_net(
    spec: HeadSpec, weights: Mapping[str, npt.NDArray[np.generic]], folder: Path, device: str, threads: int
) -> Net:
    if isinstance(spec, NetSpec):
        return TypeNet(spec, weights)
    try:
        return EncoderNet(spec, weights, folder / ENCODER_FOLDER, device, threads)
    except EncoderMismatch as error:
        raise TypeModelError(f"{ENCODER_FOLDER} and {SPEC_FILE} differ: {error}") from None
    except Exception as error:  # tokenizers raises no narrower one
        raise TypeModelError(f"{ENCODER_FOLDER} cannot be loaded: {error}") from error


def head_spec(values: dict[str, Any]) -> HeadSpec:
    locale_input = values["locale_input"]
    return HeadSpec(
        **{
            **values,
            "locale_input": None if locale_input is None else LocaleInput(locale_input),
            "locales": tuple(values["locales"]),
        }
    )


def net_spec(values: dict[str, Any]) -> NetSpec:
    hashing = {**values["hashing"], "ngrams": tuple(values["hashing"]["ngrams"])}
    locale_input = values["locale_input"]
    return NetSpec(
        **{
            **values,
            "hashing": QueryHashing(**hashing),
            "locale_input": None if locale_input is None else LocaleInput(locale_input),
            "locales": tuple(values["locales"]),
            "languages": tuple(values["languages"]),
            "rows": tuple(LocaleRows(**rows) for rows in values["rows"]),
        }
    )
