"""Tunes a text encoder on a shop's catalogue and clicks, and writes a folder for `aisle build --encoder`. Needs the extra `aisle[tune]`."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.arrays import Codes, Progress
from models.bundles.source import Source
from models.bundles.work_folder import WorkFolder, open_work_folder
from models.devices import check_training_device
from models.errors import TrainingError
from models.text_encoder.hugging_face import PACKAGED, find_encoder
from models.text_tuning.click_stage import ClickLearner
from models.text_tuning.encoder_network import EncoderNetwork, TokenTable, base_fingerprint, precision_of
from models.text_tuning.hard_negatives import find_hard_negatives
from models.text_tuning.mlm_stage import MlmLearner
from models.text_tuning.pairs import ClickPairs, PairReport, gather_pairs, read_log
from models.text_tuning.product_texts import ProductTexts, product_texts
from models.text_tuning.recipe import SMALL, Stage, TextRecipe
from models.text_tuning.stages import LossPoint, run_stage
from models.unified.train_unified import WriteScalar, open_scalars

TRAINING_FILE = "training.json"
_VERSIONS = ("aisle", "sentence-transformers", "transformers", "torch")


@dataclass(frozen=True, slots=True)
class TrainedEncoder:
    """The folder of a tuned encoder and the report of its training."""

    folder: Path
    stages: tuple[Stage, ...]
    losses: dict[Stage, list[LossPoint]]
    pairs: PairReport
    seconds: float  # of this run, without the time before an interruption


def train_text_encoder(
    source: Source,
    log_paths: Sequence[Path],
    out: Path,
    recipe: TextRecipe = SMALL,
    stages: Sequence[Stage] = (Stage.CLICK,),
    base: str = PACKAGED,
    seed: int = 0,
    progress: Progress = lambda *_: None,
    excluded_queries: Collection[str] = (),
    before_ms: int | None = None,
    *,
    excluded_products: Collection[str] = (),
    shuffled_clicks: bool = False,
    device: str = "cpu",
    logs: Path | None = None,
) -> TrainedEncoder:
    """Trains the `stages` of the recipe, in the order of Stage, and writes the folder `out`; after an interruption the same call resumes.

    The same seed gives the same weights on the same machine with as many threads. `source` is the catalogue, whose texts are those of a
    bundle's build. `log_paths` are Parquet files of EVENT_SCHEMA, or folders of them, of one shop. `base` is "minilm" (packaged), a
    directory, or a Hugging Face name; a model without a stated pooling, such as a raw BERT or RoBERTa, gets mean pooling. No stage
    trains on `excluded_queries` and their near-duplicates, `excluded_products` (ids), or events at `before_ms` (since 1970, UTC) or
    later, which are for evaluation. `shuffled_clicks` is the control: each product with the query of another. `device` is "cpu" or
    "cuda"; `logs` is a folder for TensorBoard.

    `out` holds sentence-transformers files and training.json: base, recipe, stages with their losses, seed, hashes of the data, and the
    report on the log's events. Raises TrainingError for unknown stages and if `out` exists, LogError if the log has nothing to learn
    from, EncoderError for a base that cannot be loaded or served, BundleError if another training works in `out`.partial,
    DegenerateLoss if the loss is not a number, and ValueError for text fields that the source does not have.
    """
    started = time.monotonic()
    ordered = _ordered(stages)
    if out.exists():
        raise TrainingError(f"{out} exists; choose another folder")
    _check_machine(device)
    folder = find_encoder(base)
    texts = product_texts(source, recipe.fields, progress)
    row_of = {product_id: row for row, product_id in enumerate(texts.ids)}
    held_out = {row_of[product_id] for product_id in excluded_products if product_id in row_of}
    progress("read the log", 0, None)
    pairs = gather_pairs(
        read_log(log_paths, texts.ids),
        recipe.pairs,
        excluded_queries=excluded_queries,
        excluded_products=held_out,
        before_ms=before_ms,
    )
    if shuffled_clicks:
        pairs = pairs.shuffled(seed)
    facts = {
        "format_version": 1,
        "base": PACKAGED if base == PACKAGED else folder.resolve().name,
        "base_sha256": base_fingerprint(base),
        "stages": list(ordered),
        "recipe": asdict(recipe),
        "seed": seed,
        "shuffled_clicks": shuffled_clicks,
        "before_ms": before_ms,
        "excluded_queries": _listed(excluded_queries),
        "excluded_products": _listed(excluded_products),
        "data": {
            "source": source.name,
            "texts_sha256": texts.fingerprint(),
            "pairs_sha256": pairs.fingerprint(),
            "report": asdict(pairs.report),
        },
        "device": device,
        "precision": str(precision_of(recipe.precision, device)).removeprefix("torch."),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    with open_work_folder(out.resolve().with_name(f"{out.name}.partial"), key) as state, open_scalars(logs) as write:
        training = _Training(folder, texts, pairs, held_out, recipe, seed, device, state, key)
        losses = {stage: training.run(stage, progress, write) for stage in ordered}
        progress("write the encoder", 0, None)
        made = state.folder / ordered[-1]
        report = facts | {"losses": {stage: [asdict(point) for point in points] for stage, points in losses.items()}}
        (made / TRAINING_FILE).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        made.replace(out)
        shutil.rmtree(state.folder)
    return TrainedEncoder(out, ordered, losses, pairs.report, time.monotonic() - started)


class _Training:
    """The stages of one training; each starts from the folder that the previous one wrote."""

    def __init__(
        self,
        base: Path,
        texts: ProductTexts,
        pairs: ClickPairs,
        held_out: set[int],
        recipe: TextRecipe,
        seed: int,
        device: str,
        state: WorkFolder,
        key: str,
    ) -> None:
        self._from = base
        self._base = base
        self._texts, self._pairs, self._held_out, self._recipe = texts, pairs, held_out, recipe
        self._seed, self._device, self._state, self._key = seed, device, state, key
        self._precision = precision_of(recipe.precision, device)

    def run(self, stage: Stage, progress: Progress, write: WriteScalar) -> list[LossPoint]:
        """Trains one stage, unless it was finished before an interruption, and writes its encoder to the work folder."""
        made = self._state.folder / stage
        done: dict[str, Any] = self._state.values.setdefault("done", {})
        if stage not in done:
            torch.manual_seed(
                self._seed
            )  # for weights that the base lacks, such as BERT's pooler, which is saved though unused
            network = EncoderNetwork(self._from, self._device)
            learner = self._mlm(network) if stage == Stage.MLM else self._click(network, progress)
            checkpoint = self._state.folder / f"{stage}.pt"
            losses = run_stage(learner, f"{self._key} {stage}", checkpoint, self._recipe.weight_decay, progress, write)
            if isinstance(learner, MlmLearner):
                learner.finish()
            shutil.rmtree(made, ignore_errors=True)
            network.save(made)
            done[stage] = [asdict(point) for point in losses]
            self._state.save()
            checkpoint.unlink(missing_ok=True)
        self._from = made
        return [LossPoint(**point) for point in done[stage]]

    def _mlm(self, network: EncoderNetwork) -> MlmLearner:
        stage = self._recipe.mlm
        rows = [row for row in range(len(self._texts)) if row not in self._held_out]
        texts = [self._texts.texts[row] for row in rows]
        return MlmLearner(
            self._base,
            network,
            network.tokens(texts, "product", stage.max_tokens),
            network.tokens(self._pairs.queries, "query", stage.max_tokens),
            stage,
            self._seed,
            self._precision,
        )

    def _click(self, network: EncoderNetwork, progress: Progress) -> ClickLearner:
        stage = self._recipe.click
        wide = [prefix for prefix in stage.prefixes if prefix > network.dim]
        if wide:
            raise TrainingError(f"prefix {wide[0]} is more than the encoder's {network.dim} dimensions")
        progress("tokenise texts", 0, None)
        tables = (
            network.tokens(self._pairs.queries, "query", stage.max_query_tokens),
            network.tokens(self._texts.texts, "product", stage.max_product_tokens),
        )
        hard = self._hard(network, tables, progress)
        group = self._texts.group
        return ClickLearner(network, self._pairs, group, tables, stage, self._seed, self._precision, hard)

    def _hard(self, network: EncoderNetwork, tables: tuple[TokenTable, TokenTable], progress: Progress) -> Codes | None:
        """Mines hard negatives once; they are kept in case the training is interrupted."""
        spec = self._recipe.click.hard
        if spec is None:
            return None
        path = self._state.folder / "hard.npy"
        if not path.exists():
            progress("mine hard negatives", 0, None)
            negatives = find_hard_negatives(
                network, self._pairs, self._texts.group, self._texts.texts, tables, spec, self._seed, self._precision
            )
            partial = self._state.folder / "hard.partial.npy"
            np.save(partial, negatives)
            partial.replace(path)
        return np.asarray(np.load(path, allow_pickle=False), np.int32)


def _ordered(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    unknown = [stage for stage in stages if stage not in tuple(Stage)]
    if unknown or not stages:
        named = f"there is no stage {unknown[0]!r}" if unknown else "no stage is named"
        raise TrainingError(f"{named}; there are {', '.join(Stage)}")
    return tuple(stage for stage in Stage if stage in stages)


def _check_machine(device: str) -> None:
    try:
        import sentence_transformers  # noqa: F401
    except ImportError as error:
        raise TrainingError(f"tuning a text encoder needs {error.name}: pip install 'aisle[tune]'") from error
    check_training_device(device)


def _listed(names: Collection[str]) -> dict[str, Any]:
    """Returns the number of names and their digest: a report should not contain a test set."""
    distinct = sorted(set(names))
    return {"count": len(distinct), "sha256": hashlib.sha256(json.dumps(distinct).encode()).hexdigest()}
