"""The encoder's network in PyTorch: on CUDA in bf16 with captured graphs, on a CPU in fp32 as the numerical reference."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from models.text_encoder import EncoderSpec, Floats, Ints

LENGTH_BUCKETS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class PooledEncoder(torch.nn.Module):
    """A Hugging Face encoder with mean or first-token pooling; ids, mask (batch, length) -> unit vectors (batch, dim)."""

    def __init__(self, transformer: torch.nn.Module, pooling: str) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.pool(hidden, attention_mask)

    def pool(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """hidden (batch, length, dim) -> unit vectors (batch, dim)."""
        hidden = hidden.float()
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            weights = attention_mask.unsqueeze(-1).float()
            pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0)
        return torch.nn.functional.normalize(pooled, dim=-1)


def load_pooled_encoder(folder: Path, dtype: torch.dtype = torch.float32) -> PooledEncoder:
    transformer = AutoModel.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    return PooledEncoder(transformer, pooling_of(folder)).eval()


def pooling_of(folder: Path) -> str:
    """The pooling that sentence-transformers files state, else "mean"."""
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("pooling_mode_cls_token") or config.get("pooling_mode") == "cls":
        return "cls"
    if config.get("pooling_mode_mean_tokens") or config.get("pooling_mode") == "mean":
        return "mean"
    asked = [name for name, on in config.items() if on is True] or config.get("pooling_mode")
    raise ValueError(f"the encoder pools by {asked}; Aisle serves mean and cls pooling")


class TorchBackend:
    """On CUDA each padded shape is captured once as a graph and replayed: launching a small transformer's kernels one by one
    costs more than running them. One lock, since a graph's buffers are shared by its replays."""

    def __init__(self, folder: Path, device: str = "cuda") -> None:
        self._device = torch.device(device)
        on_gpu = self._device.type == "cuda"
        self._encoder = load_pooled_encoder(folder, torch.bfloat16 if on_gpu else torch.float32).to(self._device)
        spec = EncoderSpec.load(folder)
        # No text is longer, and a position past the model's last would end the process.
        self._max_length = max(spec.max_query_tokens, spec.max_product_tokens)
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor, torch.Tensor]] = {}
        self._lock = threading.Lock()
        self.name = f"torch {torch.cuda.get_device_name(self._device)} bf16" if on_gpu else "torch cpu fp32"

    @torch.inference_mode()
    def __call__(self, ids: Ints, mask: Ints) -> Floats:
        if self._device.type != "cuda":
            return _to_numpy(self._encoder(torch.from_numpy(ids), torch.from_numpy(mask)))
        batch, length = ids.shape
        if batch > BATCH_BUCKETS[-1]:
            middle = batch // 2
            return np.concatenate([self(ids[:middle], mask[:middle]), self(ids[middle:], mask[middle:])])
        padded = max(length, min(_bucket(length, LENGTH_BUCKETS), self._max_length))
        shape = (_bucket(batch, BATCH_BUCKETS), padded)
        with self._lock:
            graph, ids_in, mask_in, out = self._graphs.get(shape) or self._capture(shape)
            mask_in.zero_()
            mask_in[:, 0] = 1  # a padding row attends to something, or its softmax would be NaN
            ids_in[:batch, :length].copy_(torch.from_numpy(ids))
            mask_in[:batch, :length].copy_(torch.from_numpy(mask))
            graph.replay()
            return _to_numpy(out[:batch])

    def _capture(self, shape: tuple[int, int]) -> Any:
        ids = torch.zeros(shape, dtype=torch.int64, device=self._device)
        mask = torch.ones(shape, dtype=torch.int64, device=self._device)
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._encoder(ids, mask)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # By default what other threads do on the device, such as a search, would spoil the capture.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            out = self._encoder(ids, mask)
        self._graphs[shape] = (graph, ids, mask, out)
        return self._graphs[shape]


def _bucket(value: int, buckets: tuple[int, ...]) -> int:
    return next((bucket for bucket in buckets if value <= bucket), value)


def _to_numpy(vectors: torch.Tensor) -> Floats:
    return vectors.float().cpu().numpy()
