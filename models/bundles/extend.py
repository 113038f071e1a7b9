"""Writes a bundle again with other parts, under another version, or under another name.

Files that stay the same are linked, not copied, so that a bundle of many gigabytes is extended in a second.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.bundles.bundle import Bundle
from models.bundles.files import follow_umask, link_file, record_files, sync_files, write_manifest
from models.bundles.manifest import FORMAT_VERSION, MANIFEST, Manifest
from models.bundles.part import Part
from models.bundles.work_folder import check_replaceable, move_into_place


def replace_parts(
    bundle: Bundle,
    parts: Sequence[Part[Any]],
    write: Callable[[Path], None],
    facts: dict[str, Any],
    out: Path,
    *,
    replace: bool,
) -> Manifest:
    """Writes `out`, which may be the bundle itself if `replace`: the bundle without its `parts`, with what `write` puts into the new
    bundle's folder instead, and the manifest's `facts`.

    Parts that are replaced are not verified: they may be damaged or of another version's features. Raises BundleError when `out` exists,
    unless `replace`.
    """
    out = out.resolve()
    check_replaceable(out, replace)
    replaced = tuple(f"{part.name}/" for part in parts)
    files = {name: record for name, record in bundle.manifest.files.items() if not name.startswith(replaced)}
    partial = _link_files(bundle, files, out, parts[0].name)
    write(partial)
    for part in parts:
        if (partial / part.name).is_dir():
            written = record_files(partial / part.name)
            files |= {f"{part.name}/{name}": record for name, record in written.items()}
    manifest = dataclasses.replace(
        bundle.manifest,
        format_version=FORMAT_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        aisle_version=importlib.metadata.version("aisle"),
        files=dict(sorted(files.items())),
        **facts,
    )
    manifest = write_manifest(partial, manifest, [name for name in files if name.startswith(replaced)])
    move_into_place(partial, out)
    return manifest


def link_bundle(
    bundle: Bundle,
    out: Path,
    *,
    replace: bool = False,
    catalogue: Mapping[str, Any] | None = None,
    same_as: Bundle | None = None,
) -> None:
    """Writes the same bundle to `out`; facts of its `catalogue` make it one of another version. Files that `same_as` holds too are links
    to its files, so that two generations share the disk.

    Raises BundleError when `out` exists (unless `replace`, and it is a bundle).
    """
    out = out.resolve()
    check_replaceable(out, replace)
    partial = _link_files(bundle, bundle.manifest.files, out, "link", same_as)
    if catalogue is None:
        link_file(bundle.folder / MANIFEST, partial / MANIFEST)
        follow_umask(partial)
        sync_files(partial, [partial / MANIFEST])
    else:
        manifest = bundle.manifest
        write_manifest(partial, dataclasses.replace(manifest, catalogue={**manifest.catalogue, **catalogue}), ())
    move_into_place(partial, out)


def _link_files(bundle: Bundle, names: Iterable[str], out: Path, what: str, same_as: Bundle | None = None) -> Path:
    """Returns a new folder next to `out` with these files of the bundle, verified. It is not the folder of a build, which may hold hours
    of unfinished work."""
    names = list(names)
    bundle.verify(*names)
    held = {} if same_as is None else same_as.manifest.files
    shared = {name for name in names if name in held and held[name].sha256 == bundle.manifest.files[name].sha256}
    if same_as is not None and shared:
        same_as.verify(*shared)
    partial = out.with_name(f"{out.name}.{what}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in names:
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        link_file((same_as if same_as is not None and name in shared else bundle).folder / name, partial / name)
    return partial


def link_folder(source: Path, target: Path) -> None:
    """Links every file of a folder, or copies it where the disk has no links. Raises BundleError for a copy that differs."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            linked = target / path.relative_to(source)
            linked.parent.mkdir(parents=True, exist_ok=True)
            link_file(path, linked)
