"""The BERT that a teacher starts from, with tokens for the markers and fewer layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.ranking.teacher.fields import Marker
from models.text_encoder.hugging_face import quiet_transformers
from models.text_encoder.spec import EncoderError
from models.text_tuning.masked_lm import load_masked_lm


def prepare_base(base: Path, markers: Sequence[Marker], layers: int | None, folder: Path) -> None:
    """Writes the base to `folder` with `layers` of its layers, evenly spread, and with a token for each marker. A token's vector starts as
    the mean over the words of its marker's meaning. Raises EncoderError for a base that is no BERT or cannot be loaded."""
    from transformers import AutoTokenizer

    quiet_transformers()
    try:
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        model, head_is_new = load_masked_lm(base)
    except Exception as error:
        raise EncoderError(f"{base} cannot be the teacher's base: {str(error)[:300]}") from error
    if not tokenizer.is_fast:
        raise EncoderError(f"{base} has no fast tokenizer (tokenizer.json)")
    if layers is not None:
        _cut(model, layers, base)
    _add_markers(model, tokenizer, markers)
    folder.mkdir(parents=True, exist_ok=True)
    # A new head is not saved, so that the stage "mlm" finds none and trains it alone at first.
    (model.base_model if head_is_new else model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.glob("*.safetensors"):
        path.chmod((folder / "config.json").stat().st_mode)  # safetensors writes files that only their owner can read


def special_id(tokenizer: Any, names: Sequence[str], base: Path) -> int:
    """Returns the id of the first of these special tokens that the tokenizer has. Raises EncoderError if it has none."""
    for name in names:
        number = getattr(tokenizer, f"{name}_token_id", None)
        if number is not None:
            return int(number)
    raise EncoderError(f"{base}: its tokenizer has no {' or '.join(names)} token, which a pair of texts needs")


def _cut(model: Any, layers: int, base: Path) -> None:
    stack = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    if not isinstance(stack, torch.nn.ModuleList):
        raise EncoderError(f"{base}: layers can be removed from BERT-like encoders only; leave `layers` out")
    if layers > len(stack):
        raise EncoderError(f"{base} has {len(stack)} layers, {layers} are requested")
    kept = [round((at + 1) * len(stack) / layers) - 1 for at in range(layers)]  # the last layer is always among them
    model.base_model.encoder.layer = torch.nn.ModuleList(stack[at] for at in kept)
    model.config.num_hidden_layers = layers


def _add_markers(model: Any, tokenizer: Any, markers: Sequence[Marker]) -> None:
    meanings = [tokenizer(marker.meaning, add_special_tokens=False)["input_ids"] for marker in markers]
    tokenizer.add_tokens([marker.token for marker in markers], special_tokens=True)
    model.resize_token_embeddings(max(len(tokenizer), model.config.vocab_size), mean_resizing=False)
    table = model.get_input_embeddings().weight.data
    for marker, words in zip(markers, meanings, strict=True):
        if words:
            table[tokenizer.convert_tokens_to_ids(marker.token)] = table[words].mean(dim=0)
