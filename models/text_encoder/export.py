"""Converts a Hugging Face encoder into the folder that `TextEncoder` loads. Needs the extra `aisle[train]`."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.text_encoder.backends import OpenVinoBackend
from models.text_encoder.hugging_face import (
    PACKAGED,
    check_modules,
    find_encoder,
    quiet_transformers,
    read_config,
    read_prompts,
)
from models.text_encoder.spec import OPENVINO_FILE, SAME_VECTOR_COSINE, SPEC_FILE, EncoderError, EncoderSpec

if TYPE_CHECKING:
    from models.text_encoder.torch_backend import PooledEncoder

SPARE_BYTES = 4 << 20  # bytes for the tokenizer and the graph


def export_encoder(
    name: str,
    folder: Path,
    *,
    dimensions: tuple[int, ...] = (),
    max_query_tokens: int = 64,
    max_product_tokens: int = 128,
) -> EncoderSpec:
    """Writes the encoder `name` to `folder` for both backends and returns its spec. An encoder that is already exported, such as one in a
    bundle, is copied.

    `dimensions` are the Matryoshka prefixes that the model was trained for; without them only the full vector is served.
    Raises EncoderError for an encoder that cannot be served, and OSError when the disk is full.
    """
    source = find_encoder(name)
    config = read_config(source)
    wrong = [d for d in dimensions if not 0 < d <= config.get("hidden_size", d)]
    if wrong:
        raise EncoderError(f"dimensions {wrong} do not fit the encoder's {config['hidden_size']}")
    longest = int(config.get("max_position_embeddings") or 514) - 2  # RoBERTa's first two are never used
    query_tokens, product_tokens = min(max_query_tokens, longest), min(max_product_tokens, longest)
    if (source / SPEC_FILE).is_file():
        return _copy_exported(source, folder, dimensions, query_tokens, product_tokens)
    encoder, tokenizer = load_encoder(source)
    dim = int(getattr(encoder.transformer.config, "hidden_size", 0))
    prompts = read_prompts(source)
    spec = EncoderSpec(
        model="all-MiniLM-L6-v2" if name == PACKAGED else Path(name).resolve().name,
        dim=dim,
        dimensions=tuple(sorted({*dimensions, dim})),
        max_query_tokens=query_tokens,
        max_product_tokens=product_tokens,
        query_prefix=prompts.get("query") or "",
        product_prefix=prompts.get("document") or prompts.get("passage") or "",
    )
    _write(encoder, tokenizer, spec, source, folder)
    _compare(encoder, folder, min(spec.max_query_tokens, spec.max_product_tokens))
    return spec


def _copy_exported(
    source: Path, folder: Path, dimensions: tuple[int, ...], query_tokens: int, product_tokens: int
) -> EncoderSpec:
    exported = EncoderSpec.load(source)
    spec = dataclasses.replace(
        exported,
        dimensions=tuple(sorted({*dimensions, exported.dim})),
        max_query_tokens=query_tokens,
        max_product_tokens=product_tokens,
    )
    shutil.copytree(source, folder, dirs_exist_ok=True)
    spec.save(folder)
    return spec


def _write(encoder: PooledEncoder, tokenizer: Any, spec: EncoderSpec, source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # PyTorch's file has 4 bytes a weight, OpenVINO's has 2. OpenVINO reports a full disk only as "iostream error".
    needed = 6 * sum(weights.numel() for weights in encoder.parameters()) + SPARE_BYTES
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    encoder.transformer.save_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    pooling = Path("1_Pooling", "config.json")
    if (source / pooling).is_file():
        (folder / pooling).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / pooling, folder / pooling)
    spec.save(folder)
    _save_openvino(encoder, folder)
    for path in folder.glob("*.safetensors"):
        path.chmod((folder / "config.json").stat().st_mode)  # safetensors writes files that only their owner can read


def load_encoder(source: Path) -> tuple[PooledEncoder, Any]:
    """Returns the network in fp32 and its tokenizer. Raises EncoderError for an encoder that cannot be served."""
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer

        from models.text_encoder.torch_backend import PooledEncoder, pooling_of
    except ImportError as error:
        raise EncoderError(f"building needs {error.name}: pip install 'aisle[train]'") from error
    quiet_transformers()
    check_modules(source)
    try:
        transformer = AutoModel.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        encoder = PooledEncoder(transformer, pooling_of(source)).eval()
    except Exception as error:
        raise EncoderError(f"{source} cannot be loaded: {error}") from error
    if not tokenizer.is_fast:
        raise EncoderError(f"{source} has no fast tokenizer (tokenizer.json)")
    return encoder, tokenizer


def _save_openvino(encoder: PooledEncoder, folder: Path) -> None:
    import openvino
    import torch

    ones = torch.ones(2, 8, dtype=torch.int64)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns about branches that do not depend on the text
        try:
            graph = openvino.convert_model(encoder, example_input={"input_ids": ones, "attention_mask": ones})
        except Exception as error:
            raise EncoderError(f"the encoder cannot be converted: {str(error)[:500]}") from error
    openvino.save_model(graph, folder / OPENVINO_FILE, compress_to_fp16=True)


def _compare(encoder: PooledEncoder, folder: Path, longest: int) -> None:
    """Raises EncoderError unless both backends give the same vectors, also for shapes other than the traced one."""
    import torch

    exported = OpenVinoBackend(folder)
    vocabulary = encoder.transformer.get_input_embeddings().num_embeddings
    rng = np.random.default_rng(0)
    for batch, length in ((1, 3), (3, 5), (2, longest)):
        ids = rng.integers(0, vocabulary, (batch, length))
        mask = np.ones((batch, length), np.int64)
        mask[-1, max(1, length // 2) :] = 0
        with torch.inference_mode():
            expected = encoder(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        cosine = float((exported(ids, mask) * expected).sum(1).min())
        if not cosine >= SAME_VECTOR_COSINE:
            raise EncoderError(
                f"the converted encoder differs from the original: cosine {cosine:.5f}, at least {SAME_VECTOR_COSINE} is needed"
            )
