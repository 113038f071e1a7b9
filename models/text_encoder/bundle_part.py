"""The text encoder in a bundle. A bundle has it or the unified model."""

from __future__ import annotations

from pathlib import Path

from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.bundles.part import Part
from models.products.spelling import vocabulary_words
from models.text_encoder.openvino_session import read_network
from models.text_encoder.spec import EIGHT_BIT_FILE, OPENVINO_FILE, EncoderSpec


def _checked(bundle: Bundle, folder: Path) -> Path:
    spec = EncoderSpec.load(folder)
    if spec.dim != bundle.manifest.dim:
        raise BundleError(
            f"{folder.name}: the encoder makes {spec.dim} dimensions, the manifest says {bundle.manifest.dim}"
        )
    return folder


def _read_rest(folder: Path) -> None:
    vocabulary_words(folder / "tokenizer.json")
    read_network(folder / OPENVINO_FILE)
    if EncoderSpec.load(folder).eight_bit_cosine:
        read_network(folder / EIGHT_BIT_FILE)


TEXT_ENCODER_PART = Part("encoder", _checked, _read_rest)
"""Opens as the folder for `TextEncoder`."""
