from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.arrays import Ints
from models.index.product_vectors import ProductVectors
from models.index.spec import IndexSpec
from models.index.vector_index import VectorIndex
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text

if TYPE_CHECKING:
    from pathlib import Path

    import torch

WIDTH = 16


@pytest.mark.parametrize(
    ("value", "step"), [(1, 4), (4, 4), (5, 8), (9, 9)], ids=["below", "on a step", "between", "above all"]
)
def test_a_size_is_rounded_up_to_a_step(value: int, step: int) -> None:
    pytest.importorskip("torch")
    from models.text_encoder.cuda_graphs import rounded_up

    assert rounded_up(value, (4, 8)) == step


@pytest.mark.gpu
def test_captured_calls_return_what_the_network_returns_whatever_the_padding_and_the_thread() -> None:
    import torch

    from models.text_encoder.cuda_graphs import CapturedCalls

    torch.manual_seed(0)
    weights = torch.randn(100, WIDTH, device="cuda")

    def network(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The mean of the tokens' rows, which a wrong mask or a row of another call would move."""
        kept = mask.unsqueeze(-1).float()
        return (weights[ids] * kept).sum(1) / kept.sum(1)

    def padding(batch: int, length: int) -> tuple[Ints, Ints]:
        mask = np.zeros((batch, length), np.int64)
        mask[:, 0] = 1
        return np.zeros((batch, length), np.int64), mask

    calls = CapturedCalls(network, torch.device("cuda"), padding)
    table = weights.cpu().numpy()

    def ask(number: int) -> None:
        random = np.random.default_rng(number)
        batch, length = (int(size) for size in random.integers(1, 9, 2))
        ids = random.integers(0, 100, (batch, length))
        lengths = random.integers(1, length + 1, batch)
        mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
        expected = np.stack([table[row[:size]].mean(axis=0) for row, size in zip(ids, lengths, strict=True)])
        padded = (batch + number % 2, length + number % 3)
        np.testing.assert_allclose(calls((ids, mask), padded), expected, atol=1e-5)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(400)))


@pytest.mark.gpu
def test_shapes_are_captured_while_other_threads_search(exported_encoder: Path) -> None:
    """As in serving: the encoder and the index share the device."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(5_000, 32)).astype(np.float16)
    queries = random.normal(size=(8, 32)).astype(np.float32)
    index = VectorIndex(IndexSpec("exact"), ProductVectors(vectors), device="cuda")
    first = index.search(queries, 10)
    encoder, on_cpu = TextEncoder(exported_encoder, "cuda"), TextEncoder(exported_encoder, "cpu")
    groups = [[Text("velvet sofa " * words)] * batch for words in (1, 2, 4, 8) for batch in (1, 3, 9, 20)]
    with ThreadPoolExecutor(4) as threads:
        searches = [threads.submit(index.search, queries, 10) for _ in range(200)]
        encoded = list(threads.map(encoder.encode, groups))
        assert all((search.result().ids == first.ids).all() for search in searches)
    for group, found in zip(groups, encoded, strict=True):
        assert ((found * on_cpu.encode(group)).sum(axis=1) > 0.995).all()
