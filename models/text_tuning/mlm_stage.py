"""The stage "mlm": continued masked-language modelling on the shop's own texts (Gururangan et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from models.text_encoder.spec import EncoderError
from models.text_tuning.encoder_network import EncoderNetwork, TokenTable, computing_in
from models.text_tuning.masked_lm import load_masked_lm
from models.text_tuning.mlm_recipe import MlmStage
from models.text_tuning.stages import step_seed
from models.unified.words import Ragged

_MASKED, _REPLACED = 0.8, 0.1  # shares of the chosen tokens; the rest stays
# Share of the steps in which a new head learns alone: gradients through a random head would only harm the encoder.
_HEAD_ALONE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The facts of a tokenizer that masking needs."""

    size: int
    mask_id: int
    special_ids: tuple[int, ...]  # never masked


@dataclass(frozen=True, slots=True)
class MaskedTexts:
    ids: Tensor  # (texts, longest)
    chosen: Tensor  # (texts, longest) bool: tokens to predict
    targets: Tensor  # (chosen tokens,) the original tokens


def mask_tokens(
    ids: Tensor, mask: Tensor, vocabulary: Vocabulary, share: float, random: np.random.Generator
) -> MaskedTexts:
    """Chooses `share` of the tokens that are not special, at least one if there are any, and masks them."""
    eligible = (mask.numpy() > 0) & ~np.isin(ids.numpy(), vocabulary.special_ids)
    luck = np.where(eligible, random.random(ids.shape), np.inf)
    chosen = luck < share
    if not chosen.any() and eligible.any():
        chosen.flat[np.argmin(luck)] = True
    how = random.random(ids.shape)
    other = random.integers(0, vocabulary.size, ids.shape)
    written = np.where(chosen & (how < _MASKED), vocabulary.mask_id, ids.numpy())
    written = np.where(chosen & (how >= _MASKED) & (how < _MASKED + _REPLACED), other, written)
    at = torch.from_numpy(chosen)
    return MaskedTexts(torch.from_numpy(written), at, ids[at])


class MlmLearner:
    name = "mlm"

    def __init__(
        self,
        base: Path,
        encoder: EncoderNetwork,
        products: TokenTable,
        queries: TokenTable,
        stage: MlmStage,
        seed: int,
        precision: torch.dtype,
    ) -> None:
        """Takes the base's language-model head; sentence encoders have none, and get a new one, which learns alone at first."""
        self.steps, self.learning_rate = stage.steps, stage.learning_rate
        self._stage, self._seed, self._precision, self._encoder = stage, seed, precision, encoder
        self._tables = (products, queries)
        torch.manual_seed(step_seed(seed, 0x3E))  # of a new head
        self.network, head_is_new = _language_model(base, encoder)
        self._head_alone = int(_HEAD_ALONE_SHARE * stage.steps) if head_is_new else 0
        tokenizer = encoder.tokenizer
        if tokenizer.mask_token_id is None:
            raise EncoderError(
                f"{base}: its tokenizer has no mask token, so it cannot be trained by mlm; leave the stage out"
            )
        self._vocabulary = Vocabulary(
            self.network.get_input_embeddings().num_embeddings,
            tokenizer.mask_token_id,
            tuple(tokenizer.all_special_ids),
        )

    def learn(self, step: int) -> float:
        random = np.random.default_rng([self._seed, step, 0x3F])
        of_queries = round(self._stage.batch * self._stage.query_share)
        drawn = (
            self._tables[0].rows.take(random.integers(0, len(self._tables[0].rows), self._stage.batch - of_queries)),
            self._tables[1].rows.take(random.integers(0, len(self._tables[1].rows), of_queries)),
        )
        table = TokenTable(Ragged.concatenate(drawn), self._tables[0].pad_id)
        texts = table.padded(np.arange(self._stage.batch))
        masked = mask_tokens(texts.ids, texts.mask, self._vocabulary, self._stage.masked, random)
        if not len(masked.targets):
            return 0.0  # nothing but special tokens
        torch.manual_seed(step_seed(self._seed, step, 0x3F))
        logits = self._logits(masked, texts.mask)
        loss = F.cross_entropy(logits.float(), masked.targets.to(logits.device))
        loss.backward()
        if step < self._head_alone:
            for parameter in self.network.base_model.parameters():
                parameter.grad = None
        return float(loss.item())

    def finish(self) -> None:
        """Copies the trained weights to the encoder."""
        kept = self._encoder.transformer.load_state_dict(self.network.base_model.state_dict(), strict=False)
        missing = [name for name in kept.missing_keys if not name.startswith("pooler.")]
        if missing or kept.unexpected_keys:
            raise EncoderError(f"the language model does not fit the encoder: {[*missing, *kept.unexpected_keys][:5]}")

    def _logits(self, masked: MaskedTexts, mask: Tensor) -> Tensor:
        """Returns (chosen tokens, vocabulary). The head reads the chosen tokens alone: over all tokens it would cost as much as
        MiniLM's layers, 70 against 64 million operations for each token."""
        device = next(self.network.parameters()).device
        chosen = masked.chosen.to(device)

        def keep_chosen(_module: torch.nn.Module, _inputs: Any, output: Any) -> Any:
            output["last_hidden_state"] = output["last_hidden_state"][chosen][None]
            return output

        hook = self.network.base_model.register_forward_hook(keep_chosen)
        try:
            with computing_in(self.network, self._precision):
                output = self.network(input_ids=masked.ids.to(device), attention_mask=mask.to(device))
        finally:
            hook.remove()
        logits: Tensor = output.logits[0]
        return logits


def _language_model(base: Path, encoder: EncoderNetwork) -> tuple[Any, bool]:
    """Returns a language model with the encoder's weights, and whether any of its head is new."""
    try:
        model, head_is_new = load_masked_lm(base)
    except ValueError as error:
        raise EncoderError(f"{base} cannot be trained by mlm ({str(error)[:200]}); leave the stage out") from error
    weights: dict[str, npt.NDArray[np.generic]] = encoder.transformer.state_dict()
    model.base_model.load_state_dict(weights, strict=False)
    return model.to(next(encoder.parameters()).device), head_is_new
