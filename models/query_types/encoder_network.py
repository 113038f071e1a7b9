"""The query encoder in training, with a head on it.

With PREFIX, the locale is a token of its own before the query, and a query without a locale has none. Until the export, the token's
vector is kept apart from the vocabulary's table: it learns at the head's rate, also over frozen layers, and the tokenizer does not know
it, so that no query can spell it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.arrays import Bools, Ints
from models.query_types.encoder_net import encoder_text
from models.query_types.head import AGNOSTIC, HeadSpec
from models.query_types.head_network import HeadNetwork, Reader, States
from models.query_types.recipe import ALL_LAYERS, EncoderTuning, LocaleInput, TypesRecipe
from models.text_encoder.encoder import locale_place
from models.text_encoder.spec import EncoderError
from models.text_encoder.torch_backend import PooledEncoder
from models.text_tuning.encoder_network import Padded, TokenTable, chunks_by_length, computing_in, precision_of
from models.unified.words import Ragged

_CHUNK = 256  # queries encoded together, without gradients


@dataclass(frozen=True, slots=True)
class QueryTokenizer:
    """Tokenises queries for the exported encoder, without the tokens of locales."""

    tokenizer: Any  # a fast one of transformers
    prefix: str  # text before every query
    max_tokens: int  # of a query, including its locale

    def table(self, queries: Sequence[str], *, room: int) -> TokenTable:
        """Leaves room for `room` tokens of the locale."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.enable_truncation(self.max_tokens - room)
        texts = [self.prefix + encoder_text(query) for query in queries]
        ids = [encoding.ids for encoding in backend.encode_batch(texts)]
        return TokenTable(Ragged.from_rows(ids), max(0, int(self.tokenizer.pad_token_id or 0)))

    @property
    def locale_place(self) -> int:
        return locale_place(self.tokenizer.backend_tokenizer)


class EncoderTypeNetwork(HeadNetwork):
    """`EncoderNet` in training."""

    def __init__(
        self, spec: HeadSpec, encoder: PooledEncoder, tokenizer: QueryTokenizer, tuning: EncoderTuning, device: str
    ) -> None:
        """Raises EncoderError if some layers shall be frozen and the encoder's layers cannot be identified."""
        super().__init__(spec)
        self.encoder = encoder
        self._tokenizer, self._tuning = tokenizer, tuning
        self._place = tokenizer.locale_place
        words = encoder.transformer.get_input_embeddings()
        self.vocabulary = int(words.num_embeddings)
        self.is_probed = False
        self.tune(tuning.tuned_layers)
        self.locale_tokens: nn.Embedding | None = None
        if spec.locale_input == LocaleInput.PREFIX:
            self.locale_tokens = nn.Embedding(len(spec.locales), words.embedding_dim)
            self.locale_tokens.weight.data[:] = words.weight.detach().mean(dim=0)
        self.to(device)
        self._precision = precision_of(tuning.precision, device)

    def tune(self, layers: int) -> None:
        """Lets the topmost `layers` learn, see `EncoderTuning.tuned_layers`; with 0 each query is encoded only once."""
        _freeze(self.encoder.transformer, layers)
        self.is_probed = not layers

    def reader(self, queries: Sequence[str], locales: Sequence[int]) -> Reader:
        if self.is_probed:
            return self._read_once(queries)
        table = self._tokenizer.table(queries, room=int(self.locale_tokens is not None))
        numbers = np.asarray(locales, np.int64)

        def read(rows: Ints, with_locale: Bools, keep: float) -> States:
            used = np.where(with_locale, numbers[rows], AGNOSTIC)
            with computing_in(self, self._precision):
                return States(self.vectors(table.padded(rows), used, keep))

        return read

    def optimizers(self, recipe: TypesRecipe) -> tuple[torch.optim.Optimizer, ...]:
        layers = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
        ids = {id(parameter) for parameter in layers}
        groups: list[dict[str, Any]] = [
            {
                "params": [parameter for parameter in self.dense() if id(parameter) not in ids],
                "lr": recipe.learning_rate,
                "weight_decay": 0.0,
            }
        ]
        if layers:
            groups.append(
                {"params": layers, "lr": self._tuning.learning_rate, "weight_decay": self._tuning.weight_decay}
            )
        return (torch.optim.AdamW(groups),)

    def vectors(self, texts: Padded, locales: Ints, keep: float = 1.0) -> Tensor:
        """Maps texts and (texts,) numbers of locales, or AGNOSTIC, to scaled vectors (texts, dim)."""
        ids, mask = texts.ids, texts.mask
        if self.locale_tokens is not None:
            ids, mask = _with_tokens(
                texts, np.where(locales == AGNOSTIC, AGNOSTIC, self.vocabulary + locales), self._place
            )
        if keep < 1:
            is_kept = torch.rand(mask.shape) < keep
            is_kept[:, 0] = True
            mask = mask * (is_kept | (ids >= self.vocabulary))
        ids, mask = ids.to(self.device), mask.to(self.device)
        embedded = self.encoder.transformer.get_input_embeddings()(ids.clamp(max=self.vocabulary - 1))
        if self.locale_tokens is not None:
            locale_vectors = self.locale_tokens((ids - self.vocabulary).clamp(min=0))
            embedded = torch.where((ids >= self.vocabulary)[:, :, None], locale_vectors, embedded)
        hidden = self.encoder.transformer(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        return self.encoder.pool(hidden, mask) * math.sqrt(self.spec.dim)

    @torch.inference_mode()
    def encoded(self, queries: Sequence[str], locales: Ints, precision: torch.dtype) -> Tensor:
        """Returns scaled vectors (queries, dim) on the CPU."""
        self.eval()
        table = self._tokenizer.table(queries, room=int(self.locale_tokens is not None))
        vectors = torch.empty(len(queries), self.spec.dim)
        for places in chunks_by_length(table.rows.lengths, _CHUNK):
            with computing_in(self, precision):
                vectors[places] = self.vectors(table.padded(places), locales[places]).float().cpu()
        return vectors

    def _read_once(self, queries: Sequence[str]) -> Reader:
        distinct = {query: at for at, query in enumerate(dict.fromkeys(queries))}
        vectors = self.encoded(list(distinct), np.full(len(distinct), AGNOSTIC), self._precision).clone()
        numbers = np.array([distinct[query] for query in queries], np.int64)

        def read(rows: Ints, _with_locale: Bools, _keep: float) -> States:
            return States(vectors[torch.from_numpy(numbers[rows])].to(self.device))

        return read


def _with_tokens(texts: Padded, tokens: Ints, place: int) -> tuple[Tensor, Tensor]:
    """Returns ids and mask (texts, longest + 1) with each text's token at `place`, unless the token is AGNOSTIC."""
    has_token = torch.from_numpy(tokens != AGNOSTIC)[:, None]
    without = torch.nn.functional.pad(texts.ids, (0, 1)), torch.nn.functional.pad(texts.mask, (0, 1))
    own = torch.from_numpy(tokens)[:, None]
    ids = torch.cat([texts.ids[:, :place], own, texts.ids[:, place:]], dim=1)
    mask = torch.cat([texts.mask[:, :place], torch.ones_like(own), texts.mask[:, place:]], dim=1)
    return torch.where(has_token, ids, without[0]), torch.where(has_token, mask, without[1])


def _freeze(transformer: nn.Module, tuned_layers: int) -> None:
    """Freezes all layers but the topmost ones."""
    transformer.requires_grad_(tuned_layers == ALL_LAYERS)
    if tuned_layers in (0, ALL_LAYERS):
        return
    count = getattr(transformer.config, "num_hidden_layers", 0)
    stacks = [
        module for module in transformer.modules() if isinstance(module, nn.ModuleList) and len(module) == count > 0
    ]
    if not stacks:
        raise EncoderError(
            f"the layers of a {type(transformer).__name__} cannot be tuned separately; take a recipe that tunes all of them, or none"
        )
    for layer in list(stacks[0])[-tuned_layers:]:
        layer.requires_grad_(True)
