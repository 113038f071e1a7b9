"""The query classifier in serving, on NumPy and safetensors.

Its folder holds `types.json` (the settings) and `types.safetensors` (the weights in float16). With a Hugging Face encoder it also holds
`encoder/`, as `models.text_encoder.export` writes it, and the weights are those of the head; such a model also needs OpenVINO, or
PyTorch on CUDA.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from models.arrays import Bools, Floats, Ints
from models.query_types.calibration import Calibration, log_odds_of_softmax, sigmoid
from models.query_types.encoder_net import EncoderNet
from models.query_types.head import AGNOSTIC, HeadSpec
from models.query_types.recipe import Loss, TypesRecipe, Variant
from models.query_types.type_files import (
    ENCODER_FOLDER,
    FORMAT_VERSION,
    SPEC_FILE,
    WEIGHTS_FILE,
    EncoderKind,
    Net,
    TypeModelError,
    head_spec,
    load_net,
    net_spec,
    read_spec,
    read_weights,
)


@dataclass(frozen=True, slots=True)
class TypePrediction:
    """The predicted types of a query.

    Unless `abstained`, `types` are those at or above the model's threshold. A model abstains if no type reaches it: `types` are then
    its best guesses, or none for a query without tokens.
    """

    types: tuple[tuple[str, float], ...]  # (type, probability), most probable first
    abstained: bool
    locale_used: str  # "" if the query was classified without a locale


@dataclass(frozen=True, slots=True)
class Certainty:
    """The calibration and the threshold of a locale."""

    calibration: Calibration
    threshold: float  # of the probability; with calibration.NEVER the model always abstains
    tier: str  # of locales that share the calibration: "high", "mid" or "low"; "all" for the whole model; "own" for one locale


class TypeModel:
    """Classifies queries of any length. Safe to call from several threads.

    `nets` is one network for each locale with NU, otherwise one network. `certainty` is by locale, with "" for no locale. A query in a
    locale that is not in the model is classified without a locale (`TypePrediction.locale_used` is "" then); NU cannot, and abstains.
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
        """Returns (queries, types) the calibrated probability that a type is a label of the query; rows need not sum to 1.

        It is 0 throughout for a query without tokens.
        """
        used = self.locales_used(queries, locales)
        odds, filled = self.log_odds(queries, used)
        probabilities = self._calibrated(odds, used)
        probabilities[~filled] = 0
        probabilities[:, ~self.allowed] = 0
        return probabilities

    def log_odds(self, queries: Sequence[str], used: Sequence[str]) -> tuple[Floats, Bools]:
        """Returns uncalibrated log odds (queries, types), and (queries,) whether a query has any token.

        `used` are locales of the model, or "" for none.
        """
        odds = np.zeros((len(queries), len(self.types)), np.float32)
        filled = np.zeros(len(queries), np.bool_)
        for rows, scores, readable in self._scores(queries, used):
            odds[rows] = scores if self.recipe.loss != Loss.SOFTMAX else log_odds_of_softmax(scores)
            filled[rows] = readable
        return odds, filled

    def classify(self, queries: Sequence[str], locales: Sequence[str], max_types: int = 3) -> list[TypePrediction]:
        """Returns the most probable types of each query, at most `max_types`. Raises ValueError unless that is 1 or more."""
        if max_types < 1:
            raise ValueError(f"max_types must be 1 or more, not {max_types}")
        used = self.locales_used(queries, locales)
        odds, filled = self.log_odds(queries, used)
        odds[:, ~self.allowed] = -np.inf
        # Calibration keeps the order, so that only the returned types need it.
        most = min(max_types, len(self.types))
        top = np.argpartition(-odds, most - 1, axis=1)[:, :most]
        best = np.take_along_axis(odds, top, axis=1)
        order = np.argsort(-best, axis=1, kind="stable")
        top, best = np.take_along_axis(top, order, axis=1), np.take_along_axis(best, order, axis=1)
        values = np.where(np.isfinite(best) & filled[:, None], self._calibrated(best, used), 0)
        return [
            self._prediction(types, probabilities, locale)
            for types, probabilities, locale in zip(top.tolist(), values.tolist(), used, strict=True)
        ]

    def locales_used(self, queries: Sequence[str], locales: Sequence[str]) -> list[str]:
        """Returns the locale with which each query is classified; "" if the model does not have its locale."""
        if len(queries) != len(locales):
            raise ValueError(f"{len(queries)} queries and {len(locales)} locales differ in number")
        if self.recipe.variant == Variant.U_AG:
            return [""] * len(locales)
        at = {name: self._locale_at.get(_plain(name), AGNOSTIC) for name in set(locales)}
        return ["" if at[name] == AGNOSTIC else self.locales[at[name]] for name in locales]

    def knows(self, locale: str) -> bool:
        """Whether the model has the locale, ignoring case."""
        return _plain(locale) in self._locale_at

    def excluding(self, types: Iterable[str]) -> TypeModel:
        """Returns the same model without these types: their probability is 0, that of the others stays.

        A query's intent does not change when the shop stops selling its type: the model then abstains instead of sending the shopper
        elsewhere. Types that are not in the model are ignored.
        """
        gone = set(types)
        allowed = self.allowed & np.array([name not in gone for name in self.types], np.bool_)
        return TypeModel(self.types, self.locales, self.recipe, self.nets, self.certainty, allowed)

    def _scores(self, queries: Sequence[str], used: Sequence[str]) -> Iterable[tuple[Ints, Floats, Bools]]:
        """Yields, by network, the queries (rows,) that it classifies, their scores (rows, types), and whether they have any token."""
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
        calibrations = [self.certainty[name].calibration if name in self.certainty else plain for name in used]
        slope = np.array([each.slope for each in calibrations], np.float32)[:, None]
        offset = np.array([each.offset for each in calibrations], np.float32)[:, None]
        ceiling = np.array([each.ceiling for each in calibrations], np.float32)[:, None]
        return ceiling * sigmoid(odds * slope + offset)

    def _prediction(self, types: list[int], probabilities: list[float], locale: str) -> TypePrediction:
        ranked = [(self.types[at], value) for at, value in zip(types, probabilities, strict=True) if value > 0]
        threshold = self.certainty[locale].threshold if locale in self.certainty else np.inf
        sure = [(name, value) for name, value in ranked if value >= threshold]
        return TypePrediction(tuple(sure or ranked), not sure, locale)

    def save(self, folder: Path) -> None:
        """Writes the folder, which must be new or empty. Types masked by `excluding` stay masked."""
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
            "certainty": {name: asdict(certainty) for name, certainty in self.certainty.items()},
        }
        (folder / SPEC_FILE).write_text(json.dumps(spec, ensure_ascii=False, indent=1), encoding="utf-8")

    @property
    def backend(self) -> str:
        """The library, device and precision, e.g. "numpy cpu fp32"."""
        return self.nets[0].backend

    @classmethod
    def load(cls, folder: Path, device: str = "auto", threads: int = 0) -> TypeModel:
        """Loads a model; `device` and `threads` are those of `TextEncoder`, and n-gram networks compute on the CPU.

        Raises TypeModelError for a missing or damaged file, another format, or shapes that differ from types.json.
        """
        values = read_spec(folder)
        try:
            kind = EncoderKind(values.get("encoder", EncoderKind.NGRAMS))
            read = head_spec if kind == EncoderKind.TRANSFORMER else net_spec
            specs: list[HeadSpec] = [read(net) for net in values["nets"]]
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
        weights = read_weights(folder, specs)
        nets = [load_net(spec, own, folder, device, threads) for spec, own in zip(specs, weights, strict=True)]
        return cls(types, locales, recipe, nets, certainty).excluding(gone)


def _plain(locale: str) -> str:
    return locale.replace("_", "-").casefold()
