"""The stage "mlm": trains the base as a language model of the shop's fields and queries, before it learns to rank."""

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
    """Trains the base in its folder; `products` and `queries` are tokens of `PairTokens`. Raises TrainingError without the extra
    `aisle[tune]`."""
    try:
        network = EncoderNetwork(base, device)
    except ImportError as error:
        raise TrainingError(f"the stage mlm needs {error.name}: pip install 'aisle[tune]'") from error
    tables = (
        TokenTable(product_texts(products, spec.start_id, stage.max_tokens), spec.pad_id),
        TokenTable(queries, spec.pad_id),
    )
    learner = MlmLearner(base, network, *tables, stage, seed, precision)
    losses = run_stage(learner, key, checkpoint, weight_decay, progress, write)
    learner.finish()
    network.transformer.save_pretrained(base)
    return losses


def product_texts(products: Ragged, start_id: int, max_tokens: int) -> Ragged:
    """Turns the second parts of pairs into texts of their own: puts a start token first and cuts them to `max_tokens`."""
    starts = Ragged(np.full(len(products), start_id, np.int32), np.arange(len(products) + 1))
    both = Ragged.concatenate([starts, products])
    places = np.arange(len(products))
    joined = both.take(np.stack([places, places + len(products)], axis=1).ravel())
    offsets = joined.offsets[::2]
    texts = Ragged(joined.values, offsets)
    kept = np.arange(len(texts.values)) - np.repeat(offsets[:-1], texts.lengths) < max_tokens
    lengths = np.minimum(texts.lengths, max_tokens)
    return Ragged(texts.values[kept], np.concatenate(([0], np.cumsum(lengths))))
