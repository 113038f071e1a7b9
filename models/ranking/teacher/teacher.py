"""A trained teacher: pairs and features in, chances out. OpenVINO on a CPU, PyTorch on CUDA; the former needs no torch.

teacher.json          what it is: recipe, features, calibration, losses, what it was trained on
texts.json            how texts become tokens, with tokenizer.json
openvino_model.xml    the network for a CPU, with its weights in .bin
config.json           the encoder, with network.safetensors, for PyTorch
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.arrays import Floats, Progress
from models.errors import InputError
from models.products.product_table import ProductTable
from models.ranking.impressions import Impressions
from models.ranking.recipe import Transfer
from models.ranking.teacher.chances import Calibration, chances_of
from models.ranking.teacher.pair_tokens import PairBatch, PairTokens, join_pairs, length_batches
from models.ranking.teacher.recipe import HeadSizes, Pooling
from models.text_encoder.encoder import OPENVINO_FILE, cuda_is_usable
from models.unified.price_bands import PriceBands
from models.unified.words import Ragged

TEACHER_FILE = "teacher.json"
FORMAT_VERSION = 1
MAX_CALL_TOKENS = 2048  # padded, about 50 pairs: keeps the activations of one call small
_BLOCK = 8_192  # rows whose tokens are made together


class TeacherError(InputError):
    """A teacher cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class TeacherSpec:
    """What a teacher is, beside its weights."""

    features: tuple[str, ...]  # in this order
    transfer: Transfer
    pooling: Pooling
    head: HeadSizes
    calibration: Calibration
    facts: dict[str, Any]  # base, recipe, seed, data, losses, entropies of the gates: for people

    def as_json(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "features": list(self.features),
            "transfer": self.transfer,
            "pooling": self.pooling,
            "head": {name: getattr(self.head, name) for name in HeadSizes.__slots__},
            "calibration": {"scales": list(self.calibration.scales), "shifts": list(self.calibration.shifts)},
            "facts": self.facts,
        }

    @classmethod
    def load(cls, folder: Path) -> TeacherSpec:
        try:
            values = json.loads((folder / TEACHER_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TeacherError(f"{folder} is no teacher: its {TEACHER_FILE} cannot be read ({error})") from None
        if values.get("format_version") != FORMAT_VERSION:
            raise TeacherError(
                f"{folder}: format_version is {values.get('format_version')}, this Aisle reads {FORMAT_VERSION}; train it again"
            )
        calibration = values["calibration"]
        return cls(
            features=tuple(values["features"]),
            transfer=Transfer(values["transfer"]),
            pooling=values["pooling"],
            head=HeadSizes(**values["head"]),
            calibration=Calibration(tuple(calibration["scales"]), tuple(calibration["shifts"])),
            facts=values["facts"],
        )

    def check_features(self, features: Sequence[str]) -> None:
        """Raises TeacherError, which says what differs, unless they are those that the teacher reads."""
        if tuple(features) != self.features:
            differ = sorted(set(features) ^ set(self.features)) or ["their order"]
            raise TeacherError(
                f"the teacher was trained on other features; what differs: {', '.join(differ)}; train it again"
            )


class Network(Protocol):
    """Logits (pairs, tasks) of a batch of pairs and their features (pairs, features). Safe to call from several threads."""

    name: str
    max_call_tokens: int
    warm_up_pairs: tuple[int, ...]  # sizes of calls that make it ready for what is usual

    def __call__(self, pairs: PairBatch, features: Floats) -> Floats: ...


class Teacher:
    """Safe to call from several threads."""

    def __init__(self, spec: TeacherSpec, texts: PairTokens, network: Network) -> None:
        self.spec, self.texts, self.network = spec, texts, network

    @property
    def features(self) -> tuple[str, ...]:
        return self.spec.features

    @classmethod
    def load(
        cls, folder: Path, device: str = "auto", threads: int = 0, *, features: Sequence[str] | None = None
    ) -> Teacher:
        """`device` is "auto" (CUDA where there is one), "cpu" or "cuda"; `threads` 0 is all. Raises TeacherError for a folder that holds no
        teacher, and where the teacher's features are not `features`, those that the caller will give it."""
        spec = TeacherSpec.load(folder)
        if features is not None:
            spec.check_features(features)
        if device == "auto":
            device = "cuda" if cuda_is_usable() else "cpu"
        network = OpenVinoNetwork(folder, threads) if device == "cpu" else _torch_network(folder, device, spec)
        return cls(spec, PairTokens.load(folder), network)

    def probabilities(self, queries: Ragged, products: Ragged, features: Floats) -> Floats:
        """(rows, 3) chances of click, cart and purchase, P(click) >= P(cart) >= P(purchase).

        Row by row the tokens of a query and of a product, as `texts` makes them, and (rows, features) in the order of `features`. Raises
        ValueError where they do not fit together or a feature is no finite number.
        """
        if features.shape != (len(products), len(self.features)):
            wanted = (len(products), len(self.features))
            raise ValueError(f"features must have the shape {wanted}, not {features.shape}")
        if not np.isfinite(features).all():
            at = self.features[int(np.argmin(np.isfinite(features).all(axis=0)))]
            raise ValueError(f"the feature {at} is not a finite number in every row")
        logits = np.empty((len(products), 3), np.float32)
        for rows in length_batches(queries.lengths + products.lengths, self.network.max_call_tokens):
            pairs = join_pairs(queries.take(rows), products.take(rows), self.texts.spec)
            logits[rows] = self.network(pairs, np.ascontiguousarray(features[rows], np.float32))
        return chances_of(logits, self.spec.transfer, self.spec.calibration)

    def rerank(self, query: str, locale: str, products: Ragged, features: Floats) -> Floats:
        """(candidates, 3) of one search; `products` are the candidates' tokens, kept or made by `texts.products`."""
        asked = self.texts.queries([query], [locale])
        return self.probabilities(asked.take(np.zeros(len(products), np.int64)), products, features)


def soft_labels(
    teacher: Teacher,
    shown: Impressions,
    features: Floats,
    table: ProductTable,
    bands: PriceBands,
    progress: Progress = lambda *_: None,
) -> Floats:
    """(rows, 3) what the teacher thinks of every impression: what a student learns beside the log's labels."""
    queries = teacher.texts.queries(shown.queries, shown.locales)
    distinct, place = np.unique(shown.product, return_inverse=True)
    products = teacher.texts.products(table, bands, distinct)
    found = np.empty((len(shown), 3), np.float32)
    for start in range(0, len(shown), _BLOCK):
        rows = slice(start, start + _BLOCK)
        found[rows] = teacher.probabilities(
            queries.take(shown.page[rows]), products.take(place[rows]), np.asarray(features[rows], np.float32)
        )
        progress("teacher's labels", min(start + _BLOCK, len(shown)), len(shown))
    return found


class OpenVinoNetwork:
    """In bf16 where the processor computes in it."""

    max_call_tokens = MAX_CALL_TOKENS
    warm_up_pairs: tuple[int, ...] = (8, 8)

    def __init__(self, folder: Path, threads: int = 0) -> None:
        import openvino

        core = openvino.Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if native else "f32",
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._model = core.compile_model(folder / OPENVINO_FILE, "CPU", settings)
        self._local = threading.local()
        self.name = f"openvino cpu {'bf16' if native else 'fp32'}"

    def __call__(self, pairs: PairBatch, features: Floats) -> Floats:
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._model.create_infer_request()
        outputs = request.infer([pairs.ids, pairs.mask, pairs.segments, features], share_inputs=True)
        return np.array(outputs[0], np.float32)


def _torch_network(folder: Path, device: str, spec: TeacherSpec) -> Network:
    try:
        from models.ranking.teacher.torch_network import TorchNetwork
    except ImportError as error:
        raise TeacherError(f"device '{device}' needs {error.name}: pip install 'aisle[gpu]'") from error
    if not cuda_is_usable() and device.startswith("cuda"):
        raise TeacherError(f"device '{device}': this process sees no CUDA device; use 'auto' or 'cpu'")
    return TorchNetwork(folder, device, spec)
