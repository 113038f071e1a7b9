"""The verbs that put a part into a bundle: the same bundle, with `types/` or with `ranker/` and `teacher/`, under another version.

Files that stay the same are linked, not copied, so that a bundle of many gigabytes is extended in a second.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.bundles.build import check_out, put_in_place
from models.bundles.bundle import (
    FORMAT_VERSION,
    MANIFEST,
    RANKER,
    TEACHER,
    TYPES,
    Bundle,
    BundleError,
    Manifest,
    content_version,
    file_sha256,
    record_files,
    sync_files,
)
from models.query_types.type_model import TypeModel
from models.ranking.ranker import DEFAULT_BLEND, Ranker, RankerError
from models.ranking.teacher.teacher import TeacherError, TeacherSpec


def add_types(bundle: Bundle, model: TypeModel, out: Path, *, replace: bool = False) -> Manifest:
    """Writes `out`, which may be the bundle itself where `replace`; a classifier that is there is replaced.

    The locales that the model has learned become locales of the bundle. Raises BundleError when `out` exists (unless `replace`),
    and when the bundle holds none of the model's types.
    """
    _, sold = bundle.products().distinct("category")
    known = set(model.types) & set(sold)
    if not known:
        raise BundleError(
            f"{bundle.folder} sells nothing of the {len(model.types)} types that the model knows, as {model.types[0]!r}; "
            f"its categories are {', '.join(sorted(name for name in sold if name)[:3]) or 'empty'}"
        )
    there = {locale.casefold() for locale in bundle.manifest.locales}
    facts = {
        "locales": (
            *bundle.manifest.locales,
            *(locale for locale in model.locales if locale.casefold() not in there),
        ),
        "query_types": {
            "types": len(known),
            "locales": list(model.locales),
            "precision": model.recipe.precision,
            "variant": model.recipe.variant,
        },
    }
    return _extend(bundle, (TYPES,), lambda folder: model.save(folder / TYPES), facts, out, replace)


def add_ranker(
    bundle: Bundle,
    ranker: Ranker,
    out: Path,
    *,
    report: dict[str, Any],
    teacher: Path | None = None,
    replace: bool = False,
) -> Manifest:
    """Writes `out`, which may be the bundle itself where `replace`; a ranker that is there is replaced, and its teacher with it.

    `report` is what training told (`TrainedRanker.report`), `teacher` the folder of the cross-encoder that the ranker learned from.
    Raises BundleError when `out` exists (unless `replace`), for a bundle without the unified model, and for a ranker or a teacher of
    other features than this Aisle computes.
    """
    if not bundle.is_unified:
        raise BundleError(
            f"{bundle.folder}: a ranker needs the unified model, and the bundle has none; make one with 'aisle train unified'"
        )

    def write(folder: Path) -> None:
        ranker.save(folder / RANKER)
        try:
            Ranker.load(folder / RANKER)
            if teacher is not None:
                TeacherSpec.load(teacher).check_features(ranker.features)
        except (RankerError, TeacherError) as error:
            raise BundleError(str(error)) from None
        if teacher is not None:
            _link_folder(teacher, folder / TEACHER)

    facts = {
        "recipe": ranker.recipe.name,
        "structure": str(ranker.recipe.structure),
        "transfer": str(ranker.recipe.transfer),
        "features": len(ranker.features),
        "blend": list(DEFAULT_BLEND),
        "pages": report.get("pages", 0),
        "last_page_ms": report.get("last_page_ms", 0),
        "calibration_error": report.get("holdout_calibration_error", {}),
        "teacher": _teacher_facts(teacher),
    }
    return _extend(bundle, (RANKER, TEACHER), write, {"ranker": facts}, out, replace)


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


def link_bundle(bundle: Bundle, out: Path, *, replace: bool = False) -> None:
    """The same bundle under another name. Raises BundleError when `out` exists (unless `replace`, and it is a bundle)."""
    out = out.resolve()
    check_out(out, replace)
    partial = _linked(bundle, bundle.manifest.files, out, "link")
    _link(bundle.folder / MANIFEST, partial / MANIFEST)
    sync_files(partial, [partial / MANIFEST])
    put_in_place(partial, out)


def _extend(
    bundle: Bundle,
    parts: tuple[str, ...],
    write: Callable[[Path], None],
    facts: dict[str, Any],
    out: Path,
    replace: bool,
) -> Manifest:
    """The bundle without its `parts`, with what `write` puts in their place and the manifest's `facts`."""
    out = out.resolve()
    check_out(out, replace)
    replaced = tuple(f"{part}/" for part in parts)
    # What is replaced may be damaged or of another version's features: that is why it is replaced.
    files = {name: record for name, record in bundle.manifest.files.items() if not name.startswith(replaced)}
    partial = _linked(bundle, files, out, parts[0])
    write(partial)
    for part in parts:
        if (partial / part).is_dir():
            files |= {f"{part}/{name}": record for name, record in record_files(partial / part).items()}
    manifest = dataclasses.replace(
        bundle.manifest,
        format_version=FORMAT_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        aisle_version=importlib.metadata.version("aisle"),
        files=dict(sorted(files.items())),
        **facts,
    )
    manifest = dataclasses.replace(manifest, version=content_version(manifest))
    sync_files(partial, [partial / name for name in files if name.startswith(replaced)])
    (partial / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    sync_files(partial, [partial / MANIFEST])
    put_in_place(partial, out)
    return manifest


def _linked(bundle: Bundle, names: Iterable[str], out: Path, what: str) -> Path:
    """A folder beside `out` with these files of the bundle, verified. Not that of a build, which may be an unfinished one's hours of
    work."""
    names = list(names)
    bundle.verify(*names)
    partial = out.with_name(f"{out.name}.{what}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in names:
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        _link(bundle.folder / name, partial / name)
    return partial


def _link_folder(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file():
            to = target / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            _link(path, to)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, target)
        if file_sha256(source) != file_sha256(target):
            raise BundleError(f"{target} differs from {source}: the disk does not keep what is written") from None
