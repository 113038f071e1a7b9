"""The teacher in a bundle, next to the ranker distilled from it."""

from __future__ import annotations

from pathlib import Path

from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.bundles.part import Part
from models.ranking.feature_names import FEATURES
from models.ranking.teacher.spec import TeacherError, TeacherSpec


def _checked(_: Bundle, folder: Path) -> Path:
    """Raises BundleError, which names the differences, if the teacher was trained on other features."""
    try:
        TeacherSpec.load(folder).check_features(FEATURES)
    except TeacherError as error:
        raise BundleError(f"{folder}: {error}") from None
    return folder


TEACHER_PART = Part("teacher", _checked)
"""Opens as the folder for `Teacher.load`."""
