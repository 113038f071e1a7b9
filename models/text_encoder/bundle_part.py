"""The text encoder in a bundle. A bundle has it or the unified model."""

from __future__ import annotations

from pathlib import Path

from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.bundles.part import Part
from models.text_encoder.spec import EncoderSpec


def _checked(bundle: Bundle, folder: Path) -> Path:
    spec = EncoderSpec.load(folder)
    if spec.dim != bundle.manifest.dim:
        raise BundleError(
            f"{folder.name}: the encoder makes {spec.dim} dimensions, the manifest says {bundle.manifest.dim}"
        )
    return folder


TEXT_ENCODER_PART = Part("encoder", _checked)
"""Opens as the folder for `TextEncoder`."""
