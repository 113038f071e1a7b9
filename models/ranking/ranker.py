"""The served ranker, on NumPy alone: features of candidates in, calibrated probabilities of a click, a cart and a purchase out.

Its folder holds `ranker.json` (recipe, features, calibration), `ranker.safetensors` (weights), and the query attributes and the click
memory that its features need.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.arrays import Floats
from models.errors import InputError
from models.query_types.calibration import Calibration, sigmoid
from models.ranking.click_memory import ClickMemory
from models.ranking.feature_names import FEATURES
from models.ranking.query_attributes import QueryAttributes
from models.ranking.recipe import RankerRecipe, Structure, Transfer
from models.ranking.tasks import TASKS

FORMAT_VERSION = 4
SPEC_FILE = "ranker.json"
WEIGHTS_FILE = "ranker.safetensors"
MOST = 6.0  # standard deviations from the mean, at which features are clipped
DEFAULT_BLEND = (1.0, 4.0, 16.0)  # weights of a click, a cart and a purchase unless the request names others
_LEAST = np.float32(1e-6)
_AT_ONCE = 512  # candidates computed together: their 0.3 MB of expert outputs stay in a core's own cache


class RankerError(InputError):
    """The folder holds no usable ranker; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Standardises features by the mean and deviation (features,) of the training rows."""

    mean: Floats
    deviation: Floats

    @classmethod
    def fit(cls, features: Floats) -> Scaling:
        """Takes the training rows (rows, features). A feature that is constant in them becomes 0."""
        deviation = features.std(axis=0)
        return cls(features.mean(axis=0), np.where(deviation > _LEAST, deviation, np.float32(np.inf)))

    def apply(self, features: Floats) -> Floats:
        """Replaces an unknown feature (NaN) by its mean, which is 0 after scaling."""
        scaled = (features - self.mean) / self.deviation
        unknown = np.isnan(scaled)
        if unknown.any():
            scaled[unknown] = 0
        return np.clip(scaled, -MOST, MOST, out=scaled).astype(np.float32, copy=False)


class Ranker:
    """Safe to call from several threads.

    `features` are the names of the features that it reads, in order; `calibration` has one entry for each task; `query_attributes`
    and `click_memory` are those that its features are computed with.
    """

    def __init__(
        self,
        recipe: RankerRecipe,
        weights: Mapping[str, Floats],
        scaling: Scaling,
        calibration: Sequence[Calibration] = (Calibration(),) * len(TASKS),
        features: tuple[str, ...] = FEATURES,
        query_attributes: QueryAttributes | None = None,
        click_memory: ClickMemory | None = None,
    ) -> None:
        self.recipe = recipe
        self.features = features
        self.scaling = scaling
        self.calibration = tuple(calibration)
        self.query_attributes = query_attributes or QueryAttributes.none()
        self.click_memory = click_memory or ClickMemory.none()
        self._w = dict(weights)
        self._first, self._first_bias = self._first_layer()
        self._tower = np.ascontiguousarray(
            weights["towers.weight"].transpose(0, 2, 1)
        )  # (TASKS, tower_dim, expert_dim)
        self._tower_bias = weights["towers.bias"][:, :, None]
        self._head = weights["heads.weight"][:, None]  # (TASKS, 1, tower_dim)
        self._slopes = np.array([[task.slope] for task in self.calibration], np.float32)  # (TASKS, 1)
        self._offsets = np.array([[task.offset] for task in self.calibration], np.float32)
        self._ceilings = np.array([[task.ceiling] for task in self.calibration], np.float32)

    def probabilities(self, features: Floats) -> Floats:
        """Maps features (candidates, features) to nested probabilities (candidates, TASKS): P(click) >= P(cart) >= P(purchase).

        A feature that is NaN counts as its mean. Candidates of several searches may be stacked. Raises ValueError for another number of
        features.
        """
        if features.ndim != 2 or features.shape[1] != len(self.features):
            raise ValueError(
                f"features must be (candidates, {len(self.features)}), not {' x '.join(map(str, features.shape))}"
            )
        return self._calibrated(self._log_odds(self.scaling.apply(features)))

    def log_odds(self, features: Floats) -> Floats:
        """Returns (candidates, TASKS) uncalibrated log odds."""
        return self._log_odds(self.scaling.apply(features)).T

    def explain(self, features: Floats, weights: Sequence[float] = DEFAULT_BLEND) -> Floats:
        """Returns (candidates, features) how much each feature contributes to each candidate's blend.

        A contribution is the blend minus the blend with this feature at its mean. Each feature is changed alone, so that the contributions
        need not add up to the blend.
        """
        scaled = self.scaling.apply(features)
        whole = blend(self._calibrated(self._log_odds(scaled)), weights)
        count = len(self.features)
        changed = np.repeat(scaled[None], count, axis=0)  # (features, candidates, features)
        changed[np.arange(count), :, np.arange(count)] = 0
        without = blend(self._calibrated(self._log_odds(changed.reshape(-1, count))), weights)
        contributions = whole[:, None] - without.reshape(count, -1).T
        contributions[scaled == 0] = 0  # at its mean; the last bits of a matrix product depend on the other rows
        return contributions

    def _first_layer(self) -> tuple[Floats, Floats]:
        """Concatenates the layers that read the features (experts, skips, gates): weights (outputs, features) and bias (outputs, 1)."""
        w, is_mixed = self._w, self.recipe.structure == Structure.MMOE
        gates = ([w["gates.weight"]], [w["gates.bias"]]) if is_mixed else ([], [])
        weights = np.concatenate([w["experts.weight"], w["skip.weight"], *gates[0]], axis=1)
        return np.ascontiguousarray(weights.T), np.concatenate([w["experts.bias"], w["heads.bias"], *gates[1]])[:, None]

    def _log_odds(self, inputs: Floats) -> Floats:
        """Maps scaled features to log odds (TASKS, candidates)."""
        odds = np.empty((len(TASKS), len(inputs)), np.float32)
        for start in range(0, len(inputs), _AT_ONCE):
            odds[:, start : start + _AT_ONCE] = self._logits(inputs[start : start + _AT_ONCE])
        if self.recipe.transfer == Transfer.CHAIN:
            probabilities = np.clip(np.cumprod(sigmoid(odds), axis=0), np.float32(1e-9), 1 - _LEAST)
            odds = np.log(probabilities) - np.log1p(-probabilities)
        return odds

    def _logits(self, inputs: Floats) -> Floats:
        """Returns (TASKS, candidates): candidates are the last axis, along which NumPy is fast."""
        experts, count = self.recipe.num_experts * self.recipe.expert_dim, len(inputs)
        first = self._first @ inputs.T
        first += self._first_bias
        hidden = _relu(first[:experts]).reshape(self.recipe.num_experts, self.recipe.expert_dim, count)
        logits, gates = first[experts : experts + len(TASKS)], first[experts + len(TASKS) :]
        if len(gates):
            shares = gates.reshape(len(TASKS), self.recipe.num_experts, count)
            shares = np.exp(shares - shares.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            hidden = np.einsum("ten,edn->tdn", shares, hidden)
        tower = self._tower @ hidden  # (TASKS, tower_dim, candidates); a single expert serves all tasks
        tower += self._tower_bias
        logits += (self._head @ _relu(tower))[:, 0]
        if self.recipe.transfer == Transfer.CHAIN:
            for at, share in enumerate(self._w["carry"], 1):
                logits[at] += share * logits[at - 1]
        return logits

    def _calibrated(self, log_odds: Floats) -> Floats:
        """Maps log odds (TASKS, candidates) to probabilities (candidates, TASKS)."""
        probabilities = self._ceilings * sigmoid(log_odds * self._slopes + self._offsets)
        return np.ascontiguousarray(np.minimum.accumulate(probabilities, axis=0).T)

    def calibrated(self, calibration: Sequence[Calibration]) -> Ranker:
        """Returns the same ranker with another calibration."""
        return self._with(calibration, self.query_attributes, self.click_memory)

    def with_tables(self, query_attributes: QueryAttributes, click_memory: ClickMemory) -> Ranker:
        """Returns the same ranker with the tables that its features are computed with."""
        return self._with(self.calibration, query_attributes, click_memory)

    def _with(
        self, calibration: Sequence[Calibration], query_attributes: QueryAttributes, click_memory: ClickMemory
    ) -> Ranker:
        return Ranker(self.recipe, self._w, self.scaling, calibration, self.features, query_attributes, click_memory)

    def save(self, folder: Path) -> None:
        """Writes the folder, which must be new or empty."""
        folder.mkdir(parents=True, exist_ok=True)
        scaling = {"scaling.mean": self.scaling.mean, "scaling.deviation": self.scaling.deviation}
        weights = {name: np.ascontiguousarray(value, np.float32) for name, value in (self._w | scaling).items()}
        save_file(weights, folder / WEIGHTS_FILE)
        self.query_attributes.save(folder)
        self.click_memory.save(folder)
        spec = {
            "format_version": FORMAT_VERSION,
            "tasks": TASKS,
            "features": self.features,
            "recipe": asdict(self.recipe),
            "calibration": [asdict(task) for task in self.calibration],
        }
        (folder / SPEC_FILE).write_text(json.dumps(spec, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Ranker:
        """Raises RankerError for a missing or damaged file, another format, or features other than FEATURES."""
        values = _read_spec(folder)
        try:
            recipe = RankerRecipe.from_json(values["recipe"])
            calibration = [Calibration(**task) for task in values["calibration"]]
            features = tuple(values["features"])
        except (KeyError, TypeError, ValueError) as error:
            raise RankerError(f"{SPEC_FILE} is damaged: {error!r}") from None
        _check_features(features)
        if len(calibration) != len(TASKS):
            raise RankerError(f"{SPEC_FILE} has calibration of {len(calibration)} tasks, not of {', '.join(TASKS)}")
        weights = _read_weights(folder, shapes(recipe, len(features)))
        scaling = Scaling(weights.pop("scaling.mean"), weights.pop("scaling.deviation"))
        try:
            query_attributes, click_memory = QueryAttributes.load(folder), ClickMemory.load(folder)
        except ValueError as error:
            raise RankerError(str(error)) from None
        return cls(recipe, weights, scaling, calibration, features, query_attributes, click_memory)


def _relu(values: Floats) -> Floats:
    """Works in place. A maximum with an array of zeros takes a third of the time of a maximum with the number 0."""
    return np.maximum(values, np.zeros_like(values), out=values)


def blend(probabilities: Floats, weights: Sequence[float] = DEFAULT_BLEND) -> Floats:
    """Returns the scores (candidates,) to order by: probabilities (candidates, TASKS) times the weights of the tasks.

    Raises ValueError unless `weights` has one number of 0 or more for each task, and one above 0.
    """
    values = np.asarray(weights, np.float32)
    if values.shape != (len(TASKS),) or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise ValueError(
            f"weights of {', '.join(TASKS)} must be {len(TASKS)} numbers from 0, not all 0, not {list(weights)}"
        )
    return np.asarray(probabilities @ values, np.float32)


def shapes(recipe: RankerRecipe, num_features: int) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every array in the weights file."""
    tasks, experts, width, tower = len(TASKS), recipe.num_experts, recipe.expert_dim, recipe.tower_dim
    expected: dict[str, tuple[int, ...]] = {
        "scaling.mean": (num_features,),
        "scaling.deviation": (num_features,),
        "experts.weight": (num_features, experts * width),
        "experts.bias": (experts * width,),
        "towers.weight": (tasks, width, tower),
        "towers.bias": (tasks, tower),
        "heads.weight": (tasks, tower),
        "heads.bias": (tasks,),
        "skip.weight": (num_features, tasks),
    }
    if recipe.structure == Structure.MMOE:
        expected |= {"gates.weight": (num_features, tasks * experts), "gates.bias": (tasks * experts,)}
    if recipe.transfer == Transfer.CHAIN:
        expected["carry"] = (tasks - 1,)
    return expected


def _read_spec(folder: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RankerError(f"{folder.name} holds no ranker: {error}") from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise RankerError(f"format version {version} is not {FORMAT_VERSION}; train the ranker again")
    return values


def _check_features(features: tuple[str, ...]) -> None:
    """Raises RankerError, which names the differences, unless the features are FEATURES."""
    if features == FEATURES:
        return
    lacking = [name for name in features if name not in FEATURES]
    unread = [name for name in FEATURES if name not in features]
    differences = [f"it reads {', '.join(lacking)}, which are not computed"] if lacking else []
    differences += [f"it does not read {', '.join(unread)}"] if unread else []
    raise RankerError(
        f"the ranker was trained for other features: {'; '.join(differences) or 'the same in another order'}; "
        "train it again"
    )


def _read_weights(folder: Path, expected: dict[str, tuple[int, ...]]) -> dict[str, Floats]:
    try:
        weights: dict[str, Floats] = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise RankerError(f"{WEIGHTS_FILE} cannot be read: {error}") from None
    for name in sorted(set(expected) | set(weights)):
        if name not in weights or name not in expected:
            there, missing = (WEIGHTS_FILE, SPEC_FILE) if name in weights else (SPEC_FILE, WEIGHTS_FILE)
            raise RankerError(f"{name} is in {there} and not in {missing}")
        if weights[name].shape != expected[name]:
            raise RankerError(
                f"{name} has shape {weights[name].shape} in {WEIGHTS_FILE}, and {expected[name]} by {SPEC_FILE}"
            )
    return weights
