"""Loads what a trained model holds for its training: the weights of the network, and the frozen text block with its words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from models.unified.model_files import LOCALE_WORDS, PRODUCT_FILE, READER_FILE, SEARCH_FILE, VOCABULARY_FILE
from models.unified.query_generation import TextReader
from models.unified.recipe import UnifiedRecipe
from models.unified.vocabulary import Vocabulary


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Returns the weights of the whole network, by name."""
    return {**load_file(folder / SEARCH_FILE), **load_file(folder / PRODUCT_FILE)}


def has_locale_words(weights: Mapping[str, Tensor]) -> bool:
    """Whether a network learned what words mean in single locales; one of a single locale did not."""
    return LOCALE_WORDS in weights


def load_vocabulary(folder: Path) -> Vocabulary:
    """Returns the words that the text block knows."""
    values = json.loads((folder / VOCABULARY_FILE).read_text(encoding="utf-8"))
    return Vocabulary(tuple(values["words"]), values["size"])


def load_reader(folder: Path, recipe: UnifiedRecipe, device: str = "cpu") -> TextReader | None:
    """Returns the frozen text block; None for a recipe without one."""
    if recipe.products.text != "frozen":
        return None
    reader = TextReader(recipe.query_generation)
    reader.load_state_dict(load_file(folder / READER_FILE))
    return reader.to(device).eval()
