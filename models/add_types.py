"""The verb that puts a classifier of queries into a bundle: the same bundle, with `types/`, under another version.

Files that stay the same are linked, not copied, so that a bundle of many gigabytes is extended in a second.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from models.build_bundle import check_out, put_in_place
from models.bundle import (
    FORMAT_VERSION,
    MANIFEST,
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


def add_types(bundle: Bundle, model: TypeModel, out: Path, *, replace: bool = False) -> Manifest:
    """Writes `out`, which may be the bundle itself where `replace`; a classifier that is there is replaced.

    The locales that the model has learned become locales of the bundle. Raises BundleError when `out` exists (unless `replace`),
    and when the bundle holds none of the model's types.
    """
    out = out.resolve()
    check_out(out, replace)
    bundle.verify()
    _, sold = bundle.products().distinct("category")
    known = set(model.types) & set(sold)
    if not known:
        raise BundleError(
            f"{bundle.folder} sells nothing of the {len(model.types)} types that the model knows, as {model.types[0]!r}; "
            f"its categories are {', '.join(sorted(name for name in sold if name)[:3]) or 'empty'}"
        )
    partial = out.with_name(
        out.name + ".types.partial"
    )  # not that of a build, which may be an unfinished one's hours of work
    shutil.rmtree(partial, ignore_errors=True)
    for name in bundle.manifest.files:
        if not name.startswith(f"{TYPES}/"):
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            _link(bundle.folder / name, partial / name)
    model.save(partial / TYPES)
    manifest = _with_types(bundle.manifest, model, len(known), partial)
    sync_files(partial, list((partial / TYPES).iterdir()))
    (partial / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    sync_files(partial, [partial / MANIFEST])
    put_in_place(partial, out)
    return manifest


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, target)
        if file_sha256(source) != file_sha256(target):
            raise BundleError(f"{target} differs from {source}: the disk does not keep what is written") from None


def _with_types(manifest: Manifest, model: TypeModel, num_sold: int, partial: Path) -> Manifest:
    files = {name: record for name, record in manifest.files.items() if not name.startswith(f"{TYPES}/")}
    files |= {f"{TYPES}/{name}": record for name, record in record_files(partial / TYPES).items()}
    known = {locale.casefold() for locale in manifest.locales}
    manifest = dataclasses.replace(
        manifest,
        format_version=FORMAT_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        aisle_version=importlib.metadata.version("aisle"),
        locales=(*manifest.locales, *(locale for locale in model.locales if locale.casefold() not in known)),
        files=dict(sorted(files.items())),
        query_types={
            "types": num_sold,
            "locales": list(model.locales),
            "precision": model.recipe.precision,
            "variant": model.recipe.variant,
        },
    )
    return dataclasses.replace(manifest, version=content_version(manifest))
