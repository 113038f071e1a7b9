"""Fetches a bundle from where it was put: a folder, a web server, an object store.

PyArrow opens `s3://`, `gs://` and `abfs://` with the credentials of the environment, fsspec `https://`, `file://` and whatever else it
has a package for. The manifest comes first and names every other file with its size and hash. Files that are whole are kept through
interruptions, and a file that was begun goes on where it ended if the server can. The bundle gets its name when all files are as the
manifest says.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from models.arrays import Progress, silent
from models.bundles.bundle import Bundle
from models.bundles.files import file_sha256, sync_files
from models.bundles.manifest import MANIFEST, BundleError, FileRecord, Manifest, content_version
from models.bundles.work_folder import PROGRESS, check_replaceable, move_into_place, open_work_folder
from models.errors import InputError

T = TypeVar("T")
STORES = ("s3://", "gs://", "gcs://", "abfs://", "abfss://")
BLOCK = 1 << 20
STREAMS = 4  # files at a time
TRIES = 4
ABSENT = (401, 403, 404, 410)  # of HTTP
PAUSE_S = 0.5  # before the second try; twice as long before each further one
MAX_MANIFEST_BYTES = 64 * 1024**2


def fetch_bundle(
    url: str, out: Path, *, version: str = "", replace: bool = False, progress: Progress = silent
) -> Manifest:
    """Fetches the bundle at `url` to `out` and returns its manifest. What an interrupted call had fetched stays; if `out` is this bundle
    already, its files are verified and nothing is fetched.

    `version` refuses a bundle of another version. Raises BundleError, which names the file and the address, and InputError for an address
    that cannot be read.
    """
    place, root = _open_place(url)
    text = _with_retries(lambda: _read_manifest(place, f"{root}/{MANIFEST}"), f"{url}/{MANIFEST}")
    manifest = _manifest(text, url)
    if version and manifest.version != version:
        raise BundleError(f"{url} is version {manifest.version}, and {version} is asked for")
    if (out / MANIFEST).is_file() and (out / MANIFEST).read_bytes() == text:
        Bundle(out).verify()
        (out / PROGRESS).unlink(missing_ok=True)
        return manifest
    check_replaceable(out, replace)
    partial = out.with_name(out.name + ".partial")
    with open_work_folder(partial, f"fetch {manifest.version} {hashlib.sha256(text).hexdigest()}"):
        done, total = 0, sum(record.bytes for record in manifest.files.values())

        def fetch(item: tuple[str, FileRecord]) -> int:
            name, record = item
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (
                target.is_file() and target.stat().st_size == record.bytes and file_sha256(target) == record.sha256
            ):
                _with_retries(lambda: _fetch_file(place, f"{root}/{name}", target, record), f"{url}/{name}")
            return record.bytes

        with ThreadPoolExecutor(max_workers=STREAMS) as pool:
            for size in pool.map(fetch, manifest.files.items()):
                done += size
                progress("fetch", done, total)
        (partial / MANIFEST).write_bytes(text)
        sync_files(partial, [partial / name for name in (MANIFEST, *manifest.files)])
        move_into_place(partial, out)
    return manifest


def _open_place(url: str) -> tuple[Any, str]:
    """Returns the file system of an address, and the path of the folder in it."""
    if "://" not in url:
        raise InputError(f"{url!r} is no address: state one with its scheme, as file:///..., https://... or s3://...")
    try:
        from fsspec.core import url_to_fs
        from fsspec.implementations.arrow import ArrowFSWrapper
    except ModuleNotFoundError:
        raise InputError("fetching a bundle needs the package fsspec: pip install 'aisle[fetch]'") from None
    try:
        if url.startswith(STORES):
            from pyarrow.fs import FileSystem

            store, root = FileSystem.from_uri(url)
            place: Any = ArrowFSWrapper(store)
        else:
            place, root = url_to_fs(url)
    except (ImportError, OSError, ValueError) as error:  # a scheme that nobody knows, or whose package is not here
        raise InputError(f"{url}: {error}") from None
    return place, str(root).rstrip("/")


def _manifest(text: bytes, url: str) -> Manifest:
    try:
        manifest = Manifest.from_json(text.decode())
    except BundleError as error:
        raise BundleError(f"{url}/{error}") from None
    except ValueError as error:
        raise BundleError(f"{url}/{MANIFEST} is no manifest: {error}") from None
    if content_version(manifest) != manifest.version:
        raise BundleError(
            f"{url}/{MANIFEST} was altered: it says version {manifest.version}, its content is {content_version(manifest)}"
        )
    return manifest


def _read_manifest(place: Any, path: str) -> bytes:
    with place.open(path, "rb") as source:
        text: bytes = source.read(MAX_MANIFEST_BYTES + 1)
    if len(text) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path} has more than {MAX_MANIFEST_BYTES} bytes, the most that a manifest has")
    return text


def _fetch_file(place: Any, path: str, target: Path, record: FileRecord) -> None:
    """Fetches one file, from where an earlier call ended. Raises OSError for what a further try may mend, BundleError for a file that is
    not the manifest's."""
    digest, begun = hashlib.sha256(), target.with_name(target.name + ".begun")
    with begun.open("a+b") as file, place.open(path, "rb") as source:
        size = _resume(file, source, digest, record.bytes)
        while block := source.read(BLOCK):
            size += len(block)
            if size > record.bytes:
                break
            digest.update(block)
            file.write(block)
    if size < record.bytes:
        raise OSError(f"it ended after {size} of {record.bytes} bytes")
    if size > record.bytes or digest.hexdigest() != record.sha256:
        begun.unlink()
        found = (
            f"more than {record.bytes} bytes" if size > record.bytes else f"the SHA-256 {digest.hexdigest()[:16]}..."
        )
        raise BundleError(f"{path} has {found}, the manifest says {record.bytes} bytes and {record.sha256[:16]}...")
    begun.replace(target)


def _resume(file: Any, source: Any, digest: Any, size: int) -> int:
    """Moves `source` behind what `file` holds, and returns that number of bytes: 0 if the server cannot begin in the middle."""
    held = file.seek(0, os.SEEK_END)
    if 0 < held <= size:
        try:
            source.seek(held)
        except (OSError, ValueError, NotImplementedError):
            held = 0
    else:
        held = 0
    file.truncate(held)
    file.seek(0)
    while block := file.read(BLOCK):
        digest.update(block)
    return held


def _with_retries(step: Callable[[], T], what: str) -> T:
    """Runs a step again after errors of the network. A file that is not there, or may not be read, stays so."""
    for attempt in range(1, TRIES + 1):
        try:
            return step()
        except BundleError:
            raise
        except Exception as error:  # each store has its own
            cause = error.__cause__ or error  # a server that does not answer is a file that is not there, to fsspec
            reason = f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:200]}"
            if isinstance(cause, FileNotFoundError | PermissionError) or getattr(cause, "status", 0) in ABSENT:
                raise BundleError(f"{what} cannot be read: {reason}") from None
            if attempt == TRIES:
                raise BundleError(f"{what} cannot be read, {TRIES} times: {reason}") from None
        time.sleep(PAUSE_S * 2 ** (attempt - 1))
    raise AssertionError
