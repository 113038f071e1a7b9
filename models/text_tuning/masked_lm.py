"""A Hugging Face encoder with the head of its masked language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def load_masked_lm(base: Path) -> tuple[Any, bool]:
    """Returns the network in fp32, and whether any of its head is new, since the base lacks it. Raises as transformers does."""
    from transformers import AutoModelForMaskedLM

    model, info = AutoModelForMaskedLM.from_pretrained(
        base,
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    return model, bool(info["missing_keys"])
