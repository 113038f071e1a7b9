"""The encoder of queries while it is trained, with a head on it.

The locale as PREFIX is a token of its own before the query; the way without a locale has none. Its vector stands apart from the
vocabulary's table until it is exported: so it learns at the head's rate, above frozen layers as well, and the tokenizer need not
know it, so that no query can spell it.
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
from models.query_types.encoder_net import plain_text
from models.query_types.head import AGNOSTIC, HeadSpec
from models.query_types.head_network import HeadNetwork, Reader, States
from models.query_types.recipe import ALL_LAYERS, EncoderTuning, LocaleInput, TypesRecipe
from models.text_encoder.encoder import locale_place
from models.text_encoder.spec import EncoderError
from models.text_encoder.torch_backend import PooledEncoder
from models.text_tuning.encoder_network import Padded, TokenTable, chunks_by_length, computing_in, precision_of
from models.unified.words import Ragged

_CHUNK = 256  # queries encoded at once where none learns


@dataclass(frozen=True, slots=True)
class QueryTokenizer:
    """Queries as the ids that the exported encoder will read, without those of locales."""

    tokenizer: Any  # a fast one of transformers
    prefix: str  # put before every query
    max_tokens: int  # of a query with its locale

    def table(self, queries: Sequence[str], *, room: int) -> TokenTable:
        """`room` is left for the token of the locale."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.enable_truncation(self.max_tokens - room)
        texts = [self.prefix + plain_text(query) for query in queries]
        ids = [encoding.ids for encoding in backend.encode_batch(texts)]
        return TokenTable(Ragged.from_rows(ids), max(0, int(self.tokenizer.pad_token_id or 0)))

    @property
    def locale_place(self) -> int:
        return locale_place(self.tokenizer.backend_tokenizer)


class EncoderTypeNetwork(HeadNetwork):
    """What `EncoderNet` computes."""

    def __init__(
        self, spec: HeadSpec, encoder: PooledEncoder, tokenizer: QueryTokenizer, tuning: EncoderTuning, device: str
    ) -> None:
        """Raises EncoderError for an encoder whose layers cannot be told apart, where some of them shall not learn."""
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
        """Lets the topmost `layers` learn, as `EncoderTuning.tuned_layers` counts them; of 0 each query is encoded only once."""
        _freeze(self.encoder.transformer, layers)
        self.is_probed = not layers

    def reader(self, queries: Sequence[str], locales: Sequence[int]) -> Reader:
        if self.is_probed:
            return self._read_once(queries)
        table = self._tokenizer.table(queries, room=int(self.locale_tokens is not None))
        numbers = np.asarray(locales, np.int64)

        def read(rows: Ints, with_locale: Bools, keep: float) -> States:
            known = np.where(with_locale, numbers[rows], AGNOSTIC)
            with computing_in(self, self._precision):
                return States(self.vectors(table.padded(rows), known, keep))

        return read

    def optimizers(self, recipe: TypesRecipe) -> tuple[torch.optim.Optimizer, ...]:
        layers = [one for one in self.encoder.parameters() if one.requires_grad]
        mine = {id(one) for one in layers}
        groups: list[dict[str, Any]] = [
            {
                "params": [one for one in self.dense() if id(one) not in mine],
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
        """Texts and (texts,) numbers of locales, or AGNOSTIC -> what the head reads (texts, dim)."""
        ids, mask = texts.ids, texts.mask
        if self.locale_tokens is not None:
            ids, mask = _with_tokens(
                texts, np.where(locales == AGNOSTIC, AGNOSTIC, self.vocabulary + locales), self._place
            )
        if keep < 1:
            stays = torch.rand(mask.shape) < keep
            stays[:, 0] = True
            mask = mask * (stays | (ids >= self.vocabulary))
        ids, mask = ids.to(self.device), mask.to(self.device)
        embedded = self.encoder.transformer.get_input_embeddings()(ids.clamp(max=self.vocabulary - 1))
        if self.locale_tokens is not None:
            of_locale = self.locale_tokens((ids - self.vocabulary).clamp(min=0))
            embedded = torch.where((ids >= self.vocabulary)[:, :, None], of_locale, embedded)
        hidden = self.encoder.transformer(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        return self.encoder.pool(hidden, mask) * math.sqrt(self.spec.dim)

    @torch.inference_mode()
    def encoded(self, queries: Sequence[str], locales: Ints, precision: torch.dtype) -> Tensor:
        """What the head reads (queries, dim), on the CPU."""
        self.eval()
        table = self._tokenizer.table(queries, room=int(self.locale_tokens is not None))
        found = torch.empty(len(queries), self.spec.dim)
        for places in chunks_by_length(table.rows.lengths, _CHUNK):
            with computing_in(self, precision):
                found[places] = self.vectors(table.padded(places), locales[places]).float().cpu()
        return found

    def _read_once(self, queries: Sequence[str]) -> Reader:
        distinct = {query: at for at, query in enumerate(dict.fromkeys(queries))}
        found = self.encoded(list(distinct), np.full(len(distinct), AGNOSTIC), self._precision).clone()
        numbers = np.array([distinct[query] for query in queries], np.int64)

        def read(rows: Ints, _with_locale: Bools, _keep: float) -> States:
            return States(found[torch.from_numpy(numbers[rows])].to(self.device))

        return read


def _with_tokens(texts: Padded, tokens: Ints, place: int) -> tuple[Tensor, Tensor]:
    """ids and mask (texts, longest + 1), with the token of each text, unless it is AGNOSTIC, at `place`."""
    given = torch.from_numpy(tokens != AGNOSTIC)[:, None]
    behind = torch.nn.functional.pad(texts.ids, (0, 1)), torch.nn.functional.pad(texts.mask, (0, 1))
    own = torch.from_numpy(tokens)[:, None]
    ids = torch.cat([texts.ids[:, :place], own, texts.ids[:, place:]], dim=1)
    mask = torch.cat([texts.mask[:, :place], torch.ones_like(own), texts.mask[:, place:]], dim=1)
    return torch.where(given, ids, behind[0]), torch.where(given, mask, behind[1])


def _freeze(transformer: nn.Module, tuned_layers: int) -> None:
    """Leaves the topmost layers to learn, and what comes behind them."""
    transformer.requires_grad_(tuned_layers == ALL_LAYERS)
    if tuned_layers in (0, ALL_LAYERS):
        return
    count = getattr(transformer.config, "num_hidden_layers", 0)
    stacks = [
        module for module in transformer.modules() if isinstance(module, nn.ModuleList) and len(module) == count > 0
    ]
    if not stacks:
        raise EncoderError(
            f"the layers of a {type(transformer).__name__} cannot be tuned apart; take a recipe that tunes all of them, or none"
        )
    for layer in list(stacks[0])[-tuned_layers:]:
        layer.requires_grad_(True)
