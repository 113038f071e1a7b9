"""Trains a teacher from impressions, their features and the catalogue's texts, and writes a folder for `Teacher.load`.

Needs the extra `aisle[train]`, and `aisle[tune]` if the recipe has the stage "mlm".
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.arrays import Floats, Ints, Progress
from models.bundles.work_folder import WorkFolder, open_work_folder
from models.devices import check_training_device
from models.errors import TrainingError
from models.ranking.impressions import Impressions
from models.ranking.tasks import TASKS
from models.ranking.teacher.base import prepare_base, special_id
from models.ranking.teacher.catalogue_view import CatalogueView
from models.ranking.teacher.export import save_openvino
from models.ranking.teacher.fields import attribute_fields, available_fields, markers
from models.ranking.teacher.language import learn_language
from models.ranking.teacher.learners import FeatureLearner, TeacherExamples, TextLearner, encode_rows, score_rows
from models.ranking.teacher.network import TeacherNetwork, num_segments, start_network
from models.ranking.teacher.pair_tokens import PairTokens, TextSpec
from models.ranking.teacher.probabilities import Calibration
from models.ranking.teacher.recipe import SMALL, PageSample, TeacherRecipe
from models.ranking.teacher.run_text import run_text
from models.ranking.teacher.samples import RowSample, draw_sample, split_pages
from models.ranking.teacher.spec import TEACHER_FILE, TeacherSpec
from models.text_encoder.hugging_face import PACKAGED, find_encoder
from models.text_encoder.spec import EncoderError
from models.text_tuning.encoder_network import base_fingerprint, precision_of
from models.text_tuning.stages import LossPoint, run_stage
from models.unified.train_unified import WriteScalar, open_scalars

# Held-out pages, at most, and not engaged products of each, that calibration scores.
_HELD_SAMPLE = PageSample(pages=600, others=4)
_OBSERVED_PAIRS = 256  # to estimate the spread of the encoder's vectors


@dataclass(frozen=True, slots=True)
class TrainedTeacher:
    """A trained teacher's folder and the report of its training."""

    folder: Path
    losses: dict[str, list[LossPoint]]  # by stage
    gates: dict[str, float]  # by task: entropy of the expert weights, 0 (one expert) to 1 (all alike)
    calibration: Calibration
    openvino_difference: float  # largest difference of a logit
    seconds: float  # of this run, without the time before an interruption


def train_teacher(
    catalogue: CatalogueView,
    shown: Impressions,
    features: Floats,
    feature_names: Sequence[str],
    out: Path,
    recipe: TeacherRecipe = SMALL,
    base: str = PACKAGED,
    seed: int = 0,
    progress: Progress = lambda *_: None,
    device: str = "cpu",
    *,
    shuffled_labels: bool = False,
    logs: Path | None = None,
) -> TrainedTeacher:
    """Trains a teacher and writes the folder `out`; after an interruption the same call resumes.

    The same seed gives the same weights on the same machine with as many threads. `shown` must be later than the training window of the
    bundle's unified model: earlier pages leak through its cosines (in a simulated store the NDCG@10 of purchases by `search_cosine` was
    0.84 in the window and 0.45 after it), and training on them does harm. `features` (rows, features) are those of the impressions, by
    `CandidateFeatures`. `base` is "minilm" (packaged), or the directory or Hugging Face name of a BERT-like encoder. `shuffled_labels`
    is the control: it gives each impression the labels of another. Raises TrainingError for invalid input and if `out` exists,
    EncoderError for an unusable base, BundleError if another training works in `out`.partial, DegenerateLoss if the loss is not a
    number.
    """
    started = time.monotonic()
    _check(shown, features, feature_names, out, device)
    if shuffled_labels:
        order = np.random.default_rng([seed, 0x5F]).permutation(len(shown))
        shown = dataclasses.replace(shown, labels=shown.labels[order])
    # A constant feature is ignored, in training and in serving.
    features = np.ascontiguousarray(features if recipe.use_features else np.zeros_like(features), np.float32)
    names = tuple(feature_names)
    facts = {
        "base": PACKAGED if base == PACKAGED else find_encoder(base).resolve().name,
        "base_sha256": base_fingerprint(base),
        "recipe": asdict(recipe),
        "seed": seed,
        "shuffled_labels": shuffled_labels,
        "data": {
            "pages": shown.num_pages,
            "rows": len(shown),
            **{task: int(count) for task, count in zip(TASKS, shown.labels.sum(axis=0).tolist(), strict=True)},
            "sha256": _fingerprint(shown, features),
        },
        "device": device,
        "precision": str(precision_of(recipe.precision, device)).removeprefix("torch."),
        "versions": {name: importlib.metadata.version(name) for name in ("aisle", "transformers", "torch")},
    }
    key = hashlib.sha256(json.dumps([facts, names], sort_keys=True).encode()).hexdigest()
    with open_work_folder(out.resolve().with_name(f"{out.name}.partial"), key) as state, open_scalars(logs) as write:
        training = _Training(catalogue, shown, features, recipe, find_encoder(base), seed, device, state, key)
        losses = training.run(progress, write)
        progress("calibrate", 0, None)
        calibration, gates = training.calibrate()
        progress("write the teacher", 0, None)
        made = state.folder / "teacher"
        difference = training.write(made)
        report = facts | {
            "losses": {stage: [asdict(point) for point in points] for stage, points in losses.items()},
            "gate_entropies": gates,
            "openvino_difference": round(difference, 4),
        }
        spec = TeacherSpec(
            features=names,
            transfer=recipe.transfer,
            pooling=recipe.pooling,
            head=recipe.head,
            calibration=calibration,
            facts=report,
        )
        (made / TEACHER_FILE).write_text(json.dumps(spec.as_json(), indent=1) + "\n", encoding="utf-8")
        made.replace(out)
        shutil.rmtree(state.folder)
    return TrainedTeacher(out, losses, gates, calibration, difference, time.monotonic() - started)


class _Training:
    """The stages of one training: base, language, features, text."""

    def __init__(
        self,
        catalogue: CatalogueView,
        shown: Impressions,
        features: Floats,
        recipe: TeacherRecipe,
        base: Path,
        seed: int,
        device: str,
        state: WorkFolder,
        key: str,
    ) -> None:
        self._recipe, self._seed, self._device, self._state, self._key = recipe, seed, device, state, key
        self._precision = precision_of(recipe.precision, device)
        self._base = state.folder / "base"
        self._done: dict[str, Any] = state.values.setdefault("done", {})
        self._texts = self._prepare(catalogue, base)
        self._examples = TeacherExamples(
            shown,
            features,
            self._texts.queries(shown.queries, shown.locales),
            self._texts.products(catalogue.table, catalogue.bands),
        )
        learned, self._held = split_pages(shown.num_pages, recipe.holdout_share, seed)
        self._learned = learned
        self._network: TeacherNetwork | None = None

    def run(self, progress: Progress, write: WriteScalar) -> dict[str, list[LossPoint]]:
        recipe, folder, decay = self._recipe, self._state.folder, self._recipe.weight_decay
        losses: dict[str, list[LossPoint]] = {}
        if recipe.mlm is not None and recipe.use_text:
            losses["mlm"] = self._language(progress, write)
        torch.manual_seed(self._seed)
        num_features = self._examples.features.shape[1]
        network = start_network(self._base, recipe.pooling, num_features, recipe.head).to(self._device)
        self._network = network
        shown = self._examples.shown
        rows = np.flatnonzero(np.isin(shown.page, self._learned))
        network.head.observe(
            torch.from_numpy(self._examples.features[rows]).to(self._device),
            torch.from_numpy(shown.position[rows].astype(np.int64)).to(self._device),
        )
        if recipe.use_features and recipe.features.max_steps:
            everything = self._sample(PageSample(pages=None, others=None))
            feature_learner = FeatureLearner(network, self._examples, everything, recipe, self._seed)
            checkpoint = folder / "features.pt"
            losses["features"] = run_stage(feature_learner, f"{self._key} features", checkpoint, decay, progress, write)
        if recipe.use_text:
            self._observe_text(network)
            text_learner = TextLearner(
                network,
                self._texts.spec,
                self._examples,
                self._sample(recipe.sample),
                recipe,
                self._seed,
                self._precision,
            )
            losses["text"] = run_text(text_learner, f"{self._key} text", folder / "text.pt", decay, progress, write)
        return losses

    def _observe_text(self, network: TeacherNetwork) -> None:
        rows = np.random.default_rng([self._seed, 0x0B]).choice(len(self._examples.shown), _OBSERVED_PAIRS)
        network.eval()
        with torch.inference_mode():
            text = encode_rows(network, self._texts.spec, self._examples, rows, self._precision, 64)
        network.head.observe_text(text.clone())

    def calibrate(self) -> tuple[Calibration, dict[str, float]]:
        """Fits the calibration on held-out pages; also returns the entropies of the gates."""
        assert self._network is not None  # noqa: S101 - `run` came before
        shown = self._examples.shown
        sample = self._sample(_HELD_SAMPLE, self._held)
        logits, gates = score_rows(
            self._network, self._texts.spec, self._examples, sample.rows, self._precision, self._recipe.use_text
        )
        labels = shown.labels[sample.rows]
        return Calibration.fit(logits, labels, sample.weight, self._recipe.transfer), gates

    def write(self, folder: Path) -> float:
        assert self._network is not None  # noqa: S101 - `run` came before
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self._texts.spec.save(folder)
        shutil.copyfile(self._base / "tokenizer.json", folder / "tokenizer.json")
        self._network.save(folder)
        return save_openvino(self._network, folder, self._texts.spec)

    def _sample(self, sample: PageSample, pages: Ints | None = None) -> RowSample:
        """Draws rows of the training pages, or of the given ones."""
        return draw_sample(self._examples.shown, sample, self._seed, self._learned if pages is None else pages)

    def _prepare(self, catalogue: CatalogueView, base: Path) -> PairTokens:
        """Writes the base with its markers to the work folder, and returns its tokenizer."""
        from tokenizers import Tokenizer
        from transformers import AutoConfig, AutoTokenizer

        texts = self._recipe.texts
        table = catalogue.table
        stated = available_fields(texts.fields, table)
        chosen = attribute_fields(table, texts.attributes, texts.attribute_tokens, texts.prose_tokens, stated)
        fields = (*stated, *chosen)
        if not fields:
            raise TrainingError(f"the catalogue has none of the fields {', '.join(f.name for f in texts.fields)}")
        if "base" not in self._done:
            shutil.rmtree(self._base, ignore_errors=True)
            prepare_base(base, markers(fields, catalogue.locales), self._recipe.layers, self._base)
            self._done["base"] = True
            self._state.save()
        config = AutoConfig.from_pretrained(self._base, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(self._base, local_files_only=True, trust_remote_code=False)
        spec = TextSpec(
            fields=fields,
            locales=catalogue.locales,
            max_query_tokens=texts.max_query_tokens,
            start_id=special_id(tokenizer, ("cls", "bos"), base),
            end_id=special_id(tokenizer, ("sep", "eos"), base),
            pad_id=max(0, int(tokenizer.pad_token_id or 0)),
            num_segments=num_segments(config),
        )
        longest = int(getattr(config, "max_position_embeddings", 514)) - 2  # RoBERTa's first two are never used
        if spec.max_tokens > longest:
            raise EncoderError(f"{base} reads {longest} tokens, the recipe's texts have up to {spec.max_tokens}")
        return PairTokens(Tokenizer.from_file(str(self._base / "tokenizer.json")), spec)

    def _language(self, progress: Progress, write: WriteScalar) -> list[LossPoint]:
        """Runs once; the result is kept in case the training is interrupted."""
        stage = self._recipe.mlm
        assert stage is not None  # noqa: S101 - the caller checked it
        if "mlm" not in self._done:
            points = learn_language(
                self._base,
                self._examples.products,
                self._examples.queries.take(self._learned),
                self._texts.spec,
                stage,
                key=f"{self._key} mlm",
                checkpoint=self._state.folder / "mlm.pt",
                seed=self._seed,
                device=self._device,
                precision=self._precision,
                weight_decay=self._recipe.weight_decay,
                progress=progress,
                write=write,
            )
            self._done["mlm"] = [asdict(point) for point in points]
            self._state.save()
        return [LossPoint(**point) for point in self._done["mlm"]]


def _check(shown: Impressions, features: Floats, names: Sequence[str], out: Path, device: str) -> None:
    if out.exists():
        raise TrainingError(f"{out} exists; choose another folder")
    if features.shape != (len(shown), len(names)):
        raise TrainingError(f"features must have the shape {(len(shown), len(names))}, not {features.shape}")
    if not np.isfinite(features).all():
        at = names[int(np.argmin(np.isfinite(features).all(axis=0)))]
        raise TrainingError(f"the feature {at} is not a finite number in every row")
    if not shown.labels[:, 0].any():
        raise TrainingError("no product of the impressions was clicked; there is nothing to learn")
    check_training_device(device)


def _fingerprint(shown: Impressions, features: Floats) -> str:
    digest = hashlib.sha256()
    for array in (shown.page, shown.product, shown.position, shown.labels, features):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update("\0".join([*shown.queries, *shown.locales]).encode())
    return digest.hexdigest()
