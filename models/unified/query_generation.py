"""Pre-trains the text block by query generation (after docT5query, Nogueira and Lin, 2019).

A small encoder reads the product and a decoder writes the query that led to it; the encoder becomes the text block. Shoppers often use
other words than sellers: to generate them, the encoder has to learn what the seller means.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.arrays import Codes, Floats, Ints
from models.errors import InputError
from models.unified.recipe import QueryGeneration
from models.unified.vocabulary import PAD, START


class TextReader(nn.Module):
    """The encoder: maps the tokens of a product's text to one vector."""

    def __init__(self, spec: QueryGeneration) -> None:
        super().__init__()
        self.tokens = nn.Embedding(spec.vocabulary, spec.dim, padding_idx=PAD)
        self.places = nn.Parameter(torch.randn(spec.max_product_words, spec.dim) * 0.02)
        self.layers = nn.ModuleList(_Layer(spec, reads_product=False) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(spec.dim)
        nn.init.normal_(self.tokens.weight, std=0.05)

    def states(self, tokens: Tensor) -> Tensor:
        """Maps tokens (batch, words) to (batch, words, dim)."""
        states = self.tokens(tokens) + self.places[: tokens.shape[1]]
        present = _attended(tokens)
        for layer in self.layers:
            states = layer(states, present)
        return self.norm(states)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens (batch, words), filled up with PAD, to the mean over words (batch, dim)."""
        present = (tokens != PAD).unsqueeze(2)
        return (self.states(tokens) * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)


class QueryWriter(nn.Module):
    """Encoder and decoder; the decoder's output layer shares the encoder's table of tokens."""

    def __init__(self, spec: QueryGeneration) -> None:
        super().__init__()
        self.reader = TextReader(spec)
        self.places = nn.Parameter(torch.randn(spec.max_query_words, spec.dim) * 0.02)
        self.layers = nn.ModuleList(_Layer(spec, reads_product=True) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(spec.dim)

    def loss(self, products: Tensor, queries: Tensor) -> Tensor:
        """Returns the cross-entropy of every word of the queries (batch, words), given the product and the words before it.

        The first word depends on the product's mean alone, so that the mean has to carry the meaning.
        """
        encoded = self.reader.states(products)
        present = (products != PAD).unsqueeze(2)
        mean = (encoded * present).sum(dim=1, keepdim=True) / present.sum(dim=1, keepdim=True).clamp(min=1)
        before = torch.cat([torch.full_like(queries[:, :1], START), queries[:, :-1]], dim=1)
        states = self.reader.tokens(before) + self.places[: before.shape[1]] + mean
        length = before.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=before.device).tril()
        for layer in self.layers:
            states = layer(states, causal, encoded, _attended(products))
        written = queries != PAD  # most queries are short, and the vocabulary is the costly part
        logits = self.norm(states[written]) @ self.reader.tokens.weight.T
        return F.cross_entropy(logits, queries[written])


class _Layer(nn.Module):
    """Self-attention, attention to the product (decoder only), and two dense layers, each after a layer norm."""

    def __init__(self, spec: QueryGeneration, *, reads_product: bool) -> None:
        super().__init__()
        self.heads = spec.heads
        self.own = nn.Linear(spec.dim, 3 * spec.dim)
        self.own_out = nn.Linear(spec.dim, spec.dim)
        self.ask = nn.Linear(spec.dim, spec.dim) if reads_product else None
        self.answer = nn.Linear(spec.dim, 2 * spec.dim) if reads_product else None
        self.answer_out = nn.Linear(spec.dim, spec.dim) if reads_product else None
        self.widen = nn.Linear(spec.dim, spec.wide * spec.dim)
        self.narrow = nn.Linear(spec.wide * spec.dim, spec.dim)
        self.norms = nn.ModuleList(nn.LayerNorm(spec.dim) for _ in range(3 if reads_product else 2))

    def forward(
        self, states: Tensor, mask: Tensor, product: Tensor | None = None, product_mask: Tensor | None = None
    ) -> Tensor:
        queries, keys, values = self.own(self.norms[0](states)).chunk(3, dim=2)
        states = states + self.own_out(self._attend(queries, keys, values, mask))
        if self.ask is not None and self.answer is not None and self.answer_out is not None:
            keys, values = self.answer(product).chunk(2, dim=2)
            read = self._attend(self.ask(self.norms[1](states)), keys, values, product_mask)
            states = states + self.answer_out(read)
        return states + self.narrow(F.gelu(self.widen(self.norms[-1](states))))

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        def by_head(x: Tensor) -> Tensor:
            return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

        read = F.scaled_dot_product_attention(by_head(queries), by_head(keys), by_head(values), attn_mask=mask)
        return read.transpose(1, 2).flatten(2)


def _attended(tokens: Tensor) -> Tensor:
    """Returns (batch, 1, 1, words) the attention mask; a text without words attends to all, which avoids a division by 0."""
    present = tokens != PAD
    return (present | ~present.any(dim=1, keepdim=True))[:, None, None, :]


def train_query_writer(
    products: Codes,
    queries: Codes,
    pairs: Ints,
    spec: QueryGeneration,
    seed: int,
    progress: Callable[[int, int], None],
    device: str = "cpu",
) -> TextReader:
    """Learns to write queries[pairs[i, 1]] from products[pairs[i, 0]], and returns the encoder in evaluation mode."""
    torch.manual_seed(seed)
    random = np.random.default_rng([seed, 0x71])
    writer = QueryWriter(spec).to(device).train()
    optimizer = torch.optim.AdamW(writer.parameters(), lr=spec.learning_rate, weight_decay=0.01)
    for step in range(spec.steps if len(pairs) else 0):
        share = (step + 1) / spec.steps
        for group in optimizer.param_groups:
            group["lr"] = spec.learning_rate * min(1.0, share * 10) * 0.5 * (1 + math.cos(math.pi * share))
        chosen = pairs[random.integers(0, len(pairs), spec.batch)]
        read = torch.from_numpy(products[chosen[:, 0]].astype(np.int64)).to(device)
        written = torch.from_numpy(queries[chosen[:, 1]].astype(np.int64)).to(device)
        loss = writer.loss(read[:, : max(1, int((read != PAD).sum(1).max()))], written)
        if not torch.isfinite(loss):
            raise InputError(f"the loss of query generation at step {step} is {loss.item()}; lower its learning_rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(writer.parameters(), 1.0)
        optimizer.step()
        progress(step + 1, spec.steps)
    return writer.reader.eval()


@torch.inference_mode()
def read_products(reader: TextReader, products: Codes, device: str = "cpu") -> Floats:
    """Maps tokens (products, words) to vectors (products, dim)."""
    out = np.empty((len(products), reader.norm.normalized_shape[0]), np.float32)
    order = np.argsort(
        (products != PAD).sum(axis=1), kind="stable"
    )  # texts of similar length together, which saves padding
    for start in range(0, len(order), 1024):
        rows = order[start : start + 1024]
        tokens = products[rows]
        tokens = tokens[:, : max(1, int((tokens != PAD).sum(axis=1).max()))]
        out[rows] = reader(torch.from_numpy(tokens.astype(np.int64)).to(device)).float().cpu().numpy()
    return out
