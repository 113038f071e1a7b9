"""The teacher in a bundle, next to the ranker distilled from it."""

from __future__ import annotations

from pathlib import Path

from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.bundles.part import Part
from models.ranking.feature_names import FEATURES
from models.ranking.teacher.pair_tokens import PairTokens
from models.ranking.teacher.spec import TeacherError, TeacherSpec
from models.text_encoder.openvino_session import read_network
from models.text_encoder.spec import OPENVINO_FILE


def _checked(_: Bundle, folder: Path) -> Path:
    """Raises BundleError, which names the differences, if the teacher was trained on other features."""
    try:
        TeacherSpec.load(folder).check_features(FEATURES)
    except TeacherError as error:
        raise BundleError(f"{folder}: {error}") from None
    return folder


def _read_rest(folder: Path) -> None:
    PairTokens.load(folder)
    read_network(folder / OPENVINO_FILE)


TEACHER_PART = Part("teacher", _checked, _read_rest)
"""Opens as the folder for `Teacher.load`."""
