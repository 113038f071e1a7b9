"""The encoder's network in PyTorch: on CUDA in bf16 with captured graphs, on a CPU in fp32 as the numerical reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel

from models.arrays import Floats, Ints
from models.text_encoder.cuda_graphs import CapturedCalls, rounded_up
from models.text_encoder.spec import EncoderSpec

LENGTH_STEPS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
BATCH_STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class PooledEncoder(torch.nn.Module):
    """A Hugging Face encoder with mean or first-token pooling, from ids and mask (batch, length) to unit vectors (batch, dim)."""

    def __init__(self, transformer: torch.nn.Module, pooling: str) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.pool(hidden, attention_mask)

    def pool(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Pools hidden states (batch, length, dim) into unit vectors (batch, dim)."""
        hidden = hidden.float()
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            weights = attention_mask.unsqueeze(-1).float()
            pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0)
        return torch.nn.functional.normalize(pooled, dim=-1)


def load_pooled_encoder(folder: Path, dtype: torch.dtype = torch.float32) -> PooledEncoder:
    """Loads an exported encoder, ready for inference."""
    transformer = AutoModel.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    return PooledEncoder(transformer, pooling_of(folder)).eval()


def pooling_of(folder: Path) -> str:
    """Returns "cls" or "mean" as the files of sentence-transformers state it, and "mean" without them. Raises ValueError for others."""
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("pooling_mode_cls_token") or config.get("pooling_mode") == "cls":
        return "cls"
    if config.get("pooling_mode_mean_tokens") or config.get("pooling_mode") == "mean":
        return "mean"
    stated = [name for name, on in config.items() if on is True] or config.get("pooling_mode")
    raise ValueError(f"the encoder pools by {stated}; Aisle serves mean and cls pooling")


class TorchBackend:
    """Runs the encoder on any device. Safe to call from several threads."""

    def __init__(self, folder: Path, device: str = "cuda") -> None:
        where = torch.device(device)
        on_gpu = where.type == "cuda"
        self._encoder = load_pooled_encoder(folder, torch.bfloat16 if on_gpu else torch.float32).to(where)
        spec = EncoderSpec.load(folder)
        # No text is longer. A position past the model's last would kill the process.
        self._max_length = max(spec.max_query_tokens, spec.max_product_tokens)
        self._captured = CapturedCalls(self._encoder, where, _padding) if on_gpu else None
        self.name = f"torch {torch.cuda.get_device_name(where)} bf16" if on_gpu else "torch cpu fp32"

    @torch.inference_mode()
    def __call__(self, ids: Ints, mask: Ints) -> Floats:
        if self._captured is None:
            vectors: Floats = self._encoder(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
            return vectors
        batch, length = ids.shape
        if batch > BATCH_STEPS[-1]:
            middle = batch // 2
            return np.concatenate([self(ids[:middle], mask[:middle]), self(ids[middle:], mask[middle:])])
        padded = max(length, min(rounded_up(length, LENGTH_STEPS), self._max_length))
        return self._captured((ids, mask), (rounded_up(batch, BATCH_STEPS), padded))


def _padding(batch: int, length: int) -> tuple[Ints, Ints]:
    mask = np.zeros((batch, length), np.int64)
    mask[:, 0] = 1
    return np.zeros((batch, length), np.int64), mask
