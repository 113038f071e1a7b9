"""The trained classifier as serving loads it: NumPy and safetensors.

A folder holds `types.json`, what the model is, and `types.safetensors`, its weights in float16; where a Hugging Face encoder reads the
queries also `encoder/`, as `models.text_encoder.export` writes it, and the weights are those of the head on it. Such a model needs
OpenVINO, or PyTorch on CUDA, besides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.arrays import Bools, Floats, Ints
from models.errors import InputError
from models.query_types.calibration import Calibration, log_odds_of_softmax, sigmoid
from models.query_types.encoder_net import EncoderMismatch, EncoderNet
from models.query_types.head import AGNOSTIC, HeadSpec
from models.query_types.recipe import LocaleInput, Loss, TypesRecipe, Variant
from models.query_types.tokens import LocaleRows, QueryHashing
from models.query_types.type_net import NetSpec, TypeNet

FORMAT_VERSION = 2  # 1: without "encoder", which was always n-grams
READ_VERSIONS = (1, FORMAT_VERSION)
SPEC_FILE = "types.json"
WEIGHTS_FILE = "types.safetensors"
ENCODER_FOLDER = "encoder"


class EncoderKind(StrEnum):
    """What reads the queries."""

    NGRAMS = "n-grams"
    TRANSFORMER = "transformer"


class Net(Protocol):
    """Queries and locales in, the scores of types out. Safe to call from several threads."""

    @property
    def spec(self) -> HeadSpec: ...

    @property
    def weights(self) -> Mapping[str, Floats]:
        """Of the names and shapes of `spec.shapes()`."""

    @property
    def backend(self) -> str:
        """Where it computes, and in what precision."""

    def scores(self, queries: Sequence[str], locales: Sequence[int]) -> tuple[Floats, Bools]:
        """Scores (queries, types), and (queries,) whether there was anything to read; locales are numbers, or AGNOSTIC."""


class TypeModelError(InputError):
    """The folder holds no query-type model that can be used; the message says why."""


@dataclass(frozen=True, slots=True)
class TypePrediction:
    """What a query asks for.

    Unless `abstained`, `types` are those at or above the model's threshold. A model that abstains is not sure enough of any:
    `types` are then its best guesses, or none where there was nothing to read.
    """

    types: tuple[tuple[str, float], ...]  # (type, probability), most probable first
    abstained: bool
    locale_used: str  # "" is the way without a locale


@dataclass(frozen=True, slots=True)
class Certainty:
    """What scores in a locale are worth."""

    calibration: Calibration
    threshold: float  # of the probability; calibration.NEVER abstains always
    tier: str  # of locales that share these numbers: "high", "mid", "low"; "all" the whole model; or "own"


class TypeModel:
    """Types of queries, by locale. Any text is accepted, of any length; safe to call from several threads.

    `nets` is one network per locale for NU, otherwise one network. `certainty` is by locale, with "" for the way without
    one. A locale that the model does not know is answered without a locale (`TypePrediction.locale_used` is "" then); NU
    has no such way and abstains.
    """

    def __init__(
        self,
        types: Sequence[str],
        locales: Sequence[str],
        recipe: TypesRecipe,
        nets: Sequence[Net],
        certainty: Mapping[str, Certainty],
        allowed: Bools | None = None,
    ) -> None:
        self.types = tuple(types)
        self.locales = tuple(locales)
        self.recipe = recipe
        self.nets = tuple(nets)
        self.certainty = dict(certainty)
        self.allowed = np.ones(len(self.types), np.bool_) if allowed is None else allowed
        self._locale_at = {_plain(name): at for at, name in enumerate(self.locales)}

    def probabilities(self, queries: Sequence[str], locales: Sequence[str]) -> Floats:
        """(queries, types) the chance that a type is among those wanted, calibrated: rows need not sum to 1.

        0 throughout for a query without anything to read.
        """
        used = self.locales_used(queries, locales)
        odds, filled = self.log_odds(queries, used)
        found = self._calibrated(odds, used)
        found[~filled] = 0
        found[:, ~self.allowed] = 0
        return found

    def log_odds(self, queries: Sequence[str], used: Sequence[str]) -> tuple[Floats, Bools]:
        """What calibration starts from (queries, types), and (queries,) whether there was anything to read.

        `used` are locales of the model, or "" for the way without one.
        """
        odds = np.zeros((len(queries), len(self.types)), np.float32)
        filled = np.zeros(len(queries), np.bool_)
        for rows, scores, readable in self._scores(queries, used):
            odds[rows] = scores if self.recipe.loss != Loss.SOFTMAX else log_odds_of_softmax(scores)
            filled[rows] = readable
        return odds, filled

    def classify(self, queries: Sequence[str], locales: Sequence[str], max_types: int = 3) -> list[TypePrediction]:
        """The most probable types of each query, at most `max_types`. Raises ValueError unless that is 1 or more."""
        if max_types < 1:
            raise ValueError(f"max_types must be 1 or more, not {max_types}")
        used = self.locales_used(queries, locales)
        odds, filled = self.log_odds(queries, used)
        odds[:, ~self.allowed] = -np.inf
        # Calibration keeps the order, so that only what is shown needs it.
        most = min(max_types, len(self.types))
        top = np.argpartition(-odds, most - 1, axis=1)[:, :most]
        best = np.take_along_axis(odds, top, axis=1)
        order = np.argsort(-best, axis=1, kind="stable")
        top, best = np.take_along_axis(top, order, axis=1), np.take_along_axis(best, order, axis=1)
        values = np.where(np.isfinite(best) & filled[:, None], self._calibrated(best, used), 0)
        return [
            self._prediction(types, chances, locale)
            for types, chances, locale in zip(top.tolist(), values.tolist(), used, strict=True)
        ]

    def locales_used(self, queries: Sequence[str], locales: Sequence[str]) -> list[str]:
        """Which locale's way each query is answered by; "" where the model does not know the locale, or none."""
        if len(queries) != len(locales):
            raise ValueError(f"{len(queries)} queries and {len(locales)} locales differ in number")
        if self.recipe.variant == Variant.U_AG:
            return [""] * len(locales)
        at = {name: self._locale_at.get(_plain(name), AGNOSTIC) for name in set(locales)}
        return ["" if at[name] == AGNOSTIC else self.locales[at[name]] for name in locales]

    def knows(self, locale: str) -> bool:
        """Whether the locale is among the model's, in whatever case it is written."""
        return _plain(locale) in self._locale_at

    def excluding(self, types: Iterable[str]) -> TypeModel:
        """The same model, which never predicts these types: their probability is 0, that of the others stays as it was.

        What a query asks for does not change when the shop stops selling it; the model then abstains rather than sends
        the shopper elsewhere. Types that the model does not know are ignored.
        """
        gone = set(types)
        allowed = self.allowed & np.array([name not in gone for name in self.types], np.bool_)
        return TypeModel(self.types, self.locales, self.recipe, self.nets, self.certainty, allowed)

    def _scores(self, queries: Sequence[str], used: Sequence[str]) -> Iterable[tuple[Ints, Floats, Bools]]:
        """By network: the queries (rows,) it answers, their scores (rows, types), and whether there was something to read."""
        if not queries:
            return
        at = [self._locale_at.get(_plain(name), AGNOSTIC) if name else AGNOSTIC for name in used]
        if self.recipe.variant != Variant.NU:
            scores, filled = self.nets[0].scores(queries, at)
            yield np.arange(len(queries)), scores, filled
            return
        for locale in sorted(set(at) - {AGNOSTIC}):
            rows = np.flatnonzero(np.array(at) == locale)
            scores, filled = self.nets[locale].scores([queries[row] for row in rows.tolist()], [AGNOSTIC] * len(rows))
            yield rows, scores, filled

    def _calibrated(self, odds: Floats, used: Sequence[str]) -> Floats:
        plain = Calibration()
        mine = [self.certainty[name].calibration if name in self.certainty else plain for name in used]
        slope = np.array([one.slope for one in mine], np.float32)[:, None]
        offset = np.array([one.offset for one in mine], np.float32)[:, None]
        ceiling = np.array([one.ceiling for one in mine], np.float32)[:, None]
        return ceiling * sigmoid(odds * slope + offset)

    def _prediction(self, types: list[int], chances: list[float], locale: str) -> TypePrediction:
        ranked = [(self.types[at], chance) for at, chance in zip(types, chances, strict=True) if chance > 0]
        threshold = self.certainty[locale].threshold if locale in self.certainty else np.inf
        sure = [(name, chance) for name, chance in ranked if chance >= threshold]
        return TypePrediction(tuple(sure or ranked), not sure, locale)

    def save(self, folder: Path) -> None:
        """Writes the folder, which must not exist or be empty. Types that were masked by `excluding` stay masked."""
        folder.mkdir(parents=True, exist_ok=True)
        kind = EncoderKind.NGRAMS
        for net in self.nets:
            if isinstance(net, EncoderNet):
                kind = EncoderKind.TRANSFORMER
                net.save_encoder(folder / ENCODER_FOLDER)
        weights = {
            f"{at}.{name}": np.ascontiguousarray(value, np.float16)
            for at, net in enumerate(self.nets)
            for name, value in net.weights.items()
        }
        save_file(weights, folder / WEIGHTS_FILE)
        spec = {
            "format_version": FORMAT_VERSION,
            "encoder": kind,
            "types": self.types,
            "gone": [name for name, allowed in zip(self.types, self.allowed.tolist(), strict=True) if not allowed],
            "locales": self.locales,
            "recipe": asdict(self.recipe),
            "nets": [asdict(net.spec) for net in self.nets],
            "certainty": {name: asdict(one) for name, one in self.certainty.items()},
        }
        (folder / SPEC_FILE).write_text(json.dumps(spec, ensure_ascii=False, indent=1), encoding="utf-8")

    @property
    def backend(self) -> str:
        """Where it computes, and in what precision."""
        return self.nets[0].backend

    @classmethod
    def load(cls, folder: Path, device: str = "auto", threads: int = 0) -> TypeModel:
        """`device` and `threads` are those of the encoder, as `TextEncoder` takes them; n-grams compute on the CPU.

        Raises TypeModelError where a file is missing or damaged, of another format, or of other shapes than types.json says.
        """
        values = _read_spec(folder)
        try:
            kind = EncoderKind(values.get("encoder", EncoderKind.NGRAMS))
            read = _head_spec if kind == EncoderKind.TRANSFORMER else _net_spec
            specs: list[HeadSpec] = [read(one) for one in values["nets"]]
            certainty = {
                name: Certainty(Calibration(**one["calibration"]), one["threshold"], one["tier"])
                for name, one in values["certainty"].items()
            }
            recipe = TypesRecipe.from_json(values["recipe"])
            types, locales, gone = values["types"], values["locales"], values["gone"]
        except (KeyError, TypeError, ValueError) as error:
            raise TypeModelError(f"{SPEC_FILE} is damaged: {error!r}") from None
        if (recipe.encoder is None) != (kind == EncoderKind.NGRAMS):
            raise TypeModelError(f"{SPEC_FILE} says that the encoder is {kind}, and its recipe is of another kind")
        if len(specs) != (len(locales) if recipe.variant == Variant.NU else 1):
            raise TypeModelError(
                f"{SPEC_FILE} has {len(specs)} networks for {len(locales)} locales of {recipe.variant}"
            )
        for spec in specs:
            if spec.num_types != len(types):
                raise TypeModelError(f"{SPEC_FILE} names {len(types)} types and its network has {spec.num_types}")
        weights = _read_weights(folder, specs)
        nets = [_net_of(spec, own, folder, device, threads) for spec, own in zip(specs, weights, strict=True)]
        return cls(types, locales, recipe, nets, certainty).excluding(gone)


def _read_spec(folder: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TypeModelError(f"{folder.name} holds no query-type model: {error}") from None
    if values.get("format_version") not in READ_VERSIONS:
        raise TypeModelError(
            f"format version {values.get('format_version')} is not {' or '.join(map(str, READ_VERSIONS))}; train the model again"
        )
    return values


def _read_weights(folder: Path, specs: Sequence[HeadSpec]) -> list[dict[str, npt.NDArray[np.generic]]]:
    """By network."""
    try:
        weights = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise TypeModelError(f"{WEIGHTS_FILE} cannot be read: {error}") from None
    wanted = {f"{at}.{name}": shape for at, spec in enumerate(specs) for name, shape in spec.shapes().items()}
    for name in sorted(set(wanted) | set(weights)):
        if name not in weights or name not in wanted:
            there, missing = (WEIGHTS_FILE, SPEC_FILE) if name in weights else (SPEC_FILE, WEIGHTS_FILE)
            raise TypeModelError(f"{name} is in {there} and not in {missing}")
        if weights[name].shape != wanted[name]:
            raise TypeModelError(
                f"{name} has shape {weights[name].shape} in {WEIGHTS_FILE}, and {wanted[name]} by {SPEC_FILE}"
            )
    return [{name: weights[f"{at}.{name}"] for name in spec.shapes()} for at, spec in enumerate(specs)]


def _net_of(
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


def _head_spec(values: dict[str, Any]) -> HeadSpec:
    locale_input = values["locale_input"]
    return HeadSpec(
        **{
            **values,
            "locale_input": None if locale_input is None else LocaleInput(locale_input),
            "locales": tuple(values["locales"]),
        }
    )


def _net_spec(values: dict[str, Any]) -> NetSpec:
    hashing = {**values["hashing"], "ngrams": tuple(values["hashing"]["ngrams"])}
    locale_input = values["locale_input"]
    return NetSpec(
        **{
            **values,
            "hashing": QueryHashing(**hashing),
            "locale_input": None if locale_input is None else LocaleInput(locale_input),
            "locales": tuple(values["locales"]),
            "languages": tuple(values["languages"]),
            "rows": tuple(LocaleRows(**one) for one in values["rows"]),
        }
    )


def _plain(locale: str) -> str:
    return locale.replace("_", "-").casefold()
