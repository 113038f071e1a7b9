"""Adds a ranker, and the teacher that it learned from, to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.bundles.bundle import Bundle
from models.bundles.extend import link_folder, replace_parts
from models.bundles.manifest import BundleError, Manifest
from models.ranking.bundle_part import RANKER_PART
from models.ranking.column_files import COLUMNS_PART
from models.ranking.product_columns import compute_columns, price_bands
from models.ranking.ranker import DEFAULT_BLEND, Ranker, RankerError
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.ranking.teacher.spec import TeacherError, TeacherSpec
from models.unified.bundle_part import UNIFIED_PART


def add_ranker(
    bundle: Bundle,
    ranker: Ranker,
    out: Path,
    *,
    report: dict[str, Any],
    teacher: Path | None = None,
    replace: bool = False,
) -> Manifest:
    """Writes `out`, which may be the bundle itself if `replace`. An earlier ranker is replaced together with its teacher.

    `report` is the report of training (`TrainedRanker.report`), `teacher` the folder of the cross-encoder that the ranker learned from.
    Raises BundleError when `out` exists (unless `replace`), for a bundle without the unified model, and for a ranker or a teacher that
    was trained on other features than this Aisle computes.
    """
    if not UNIFIED_PART.is_in(bundle):
        raise BundleError(
            f"{bundle.folder}: a ranker needs the unified model, and the bundle has none; make one with 'aisle train unified'"
        )

    def write(folder: Path) -> None:
        ranker.save(folder / RANKER_PART.name)
        try:
            Ranker.load(folder / RANKER_PART.name)
            if teacher is not None:
                TeacherSpec.load(teacher).check_features(ranker.features)
        except (RankerError, TeacherError) as error:
            raise BundleError(str(error)) from None
        if teacher is not None:
            link_folder(teacher, folder / TEACHER_PART.name)
        table, dim = bundle.products(), bundle.manifest.dim
        columns = compute_columns(table, price_bands(bundle, table), bundle.vectors()[:, dim:], bundle.manifest.boosts)
        columns.save(folder / COLUMNS_PART.name)

    facts = {
        "recipe": ranker.recipe.name,
        "structure": str(ranker.recipe.structure),
        "transfer": str(ranker.recipe.transfer),
        "features": len(ranker.features),
        "blend": list(DEFAULT_BLEND),
        "pages": report.get("pages", 0),
        "last_page_ms": report.get("last_page_ms", 0),
        "clicks_until_ms": report.get("clicks_until_ms", 0),
        "calibration_error": report.get("holdout_calibration_error", {}),
        "teacher": _teacher_facts(teacher),
    }
    return replace_parts(
        bundle, (RANKER_PART, TEACHER_PART, COLUMNS_PART), write, {"ranker": facts}, out, replace=replace
    )


def _teacher_facts(folder: Path | None) -> dict[str, Any]:
    if folder is None:
        return {}
    try:
        facts = TeacherSpec.load(folder).facts
    except TeacherError as error:
        raise BundleError(str(error)) from None
    return {
        "recipe": facts.get("recipe", {}).get("name", ""),
        "base": facts.get("base", ""),
        "pages": facts.get("data", {}).get("pages", 0),
    }
