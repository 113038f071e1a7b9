"""The base goes on as a language model of the shop's fields and queries (stage "mlm"), before it learns what is bought."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from models.arrays import Progress
from models.errors import TrainingError
from models.ranking.teacher.pair_tokens import TextSpec
from models.text_tuning.encoder_network import EncoderNetwork, TokenTable
from models.text_tuning.mlm_recipe import MlmStage
from models.text_tuning.mlm_stage import MlmLearner
from models.text_tuning.stages import LossPoint, run_stage
from models.unified.train_unified import WriteScalar
from models.unified.words import Ragged


def learn_language(
    base: Path,
    products: Ragged,
    queries: Ragged,
    spec: TextSpec,
    stage: MlmStage,
    *,
    key: str,
    checkpoint: Path,
    seed: int,
    device: str,
    precision: torch.dtype,
    weight_decay: float,
    progress: Progress,
    write: WriteScalar,
) -> list[LossPoint]:
    """Trains the base in its folder, and leaves it there; `products` and `queries` are halves of pairs. Raises TrainingError without the
    extra `aisle[tune]`."""
    try:
        network = EncoderNetwork(base, device)
    except ImportError as error:
        raise TrainingError(f"the stage mlm needs {error.name}: pip install 'aisle[tune]'") from error
    tables = (
        TokenTable(whole_texts(products, spec.start_id, stage.max_tokens), spec.pad_id),
        TokenTable(queries, spec.pad_id),
    )
    learner = MlmLearner(base, network, *tables, stage, seed, precision)
    losses = run_stage(learner, key, checkpoint, weight_decay, progress, write)
    learner.finish()
    network.transformer.save_pretrained(base)
    return losses


def whole_texts(halves: Ragged, start_id: int, max_tokens: int) -> Ragged:
    """Second halves of pairs as texts of their own: behind a start, and cut."""
    starts = Ragged(np.full(len(halves), start_id, np.int32), np.arange(len(halves) + 1))
    both = Ragged.concatenate([starts, halves])
    places = np.arange(len(halves))
    joined = both.take(np.stack([places, places + len(halves)], axis=1).ravel())
    offsets = joined.offsets[::2]
    whole = Ragged(joined.values, offsets)
    kept = np.arange(len(whole.values)) - np.repeat(offsets[:-1], whole.lengths) < max_tokens
    lengths = np.minimum(whole.lengths, max_tokens)
    return Ragged(whole.values[kept], np.concatenate(([0], np.cumsum(lengths))))
