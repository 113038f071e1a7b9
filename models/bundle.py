"""The bundle: a versioned directory, and the only door between building and serving.

    manifest.json      what this is, and the SHA-256 and size of every other file
    encoder/           the text encoder (`models.text_encoder`)
    products.arrow     the products (`models.product_table`)
    vectors.npy        their unit vectors, float16 (products, dim)
    index/             the FAISS index (`models.vector_index`)
    identifier_*.npy   exact look-up of model numbers (`models.identifiers`)

A bundle never changes once it has its name. It is written to a folder beside and renamed; it is verified before use, and what does not
fit is refused with both values named.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.identifiers import IdentifierIndex
from models.product_table import ProductTable
from models.text_encoder import EncoderSpec
from models.vector_index import IndexSpec, VectorIndex

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ENCODER = "encoder"
INDEX = "index"
PRODUCTS = "products.arrow"
VECTORS = "vectors.npy"


class BundleError(Exception):
    """A bundle cannot be used. The message names the file and both values."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle holds. `version` is derived from the hashes of all files: the same content has the same version."""

    format_version: int
    name: str
    version: str
    created: str  # ISO 8601, UTC
    aisle_version: str
    commit: str
    products: int
    dim: int
    currency: str
    currency_digits: int
    locales: tuple[str, ...]
    text_attributes: tuple[str, ...]
    catalogue: dict[str, Any]  # source, sha256, the reader's report
    recipe: dict[str, Any]
    encoder: dict[str, Any]
    index: dict[str, Any]  # spec, measured recall, latency, bytes per product
    files: dict[str, FileRecord]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        values = json.loads(text)
        found = values.get("format_version")
        if found != FORMAT_VERSION:
            raise BundleError(
                f"{MANIFEST}: format_version is {found}, this Aisle reads {FORMAT_VERSION}; build the bundle again"
            )
        try:
            return cls(
                **{
                    **values,
                    "locales": tuple(values["locales"]),
                    "text_attributes": tuple(values["text_attributes"]),
                    "files": {name: FileRecord(**record) for name, record in values["files"].items()},
                }
            )
        except (KeyError, TypeError) as error:
            raise BundleError(f"{MANIFEST}: not a manifest of format {FORMAT_VERSION}: {error}") from None


class Bundle:
    """An opened bundle. Nothing but the manifest is read until a part is asked for, and a part is verified first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / MANIFEST
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            hint = "it was not finished" if folder.is_dir() else "there is no such directory"
            raise BundleError(
                f"{folder} is not a bundle ({hint}); make one with 'aisle build --out {folder}'"
            ) from None
        try:
            self.manifest = Manifest.from_json(text)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise BundleError(f"{path} is damaged: {error}; build the bundle again") from None
        version = content_version(self.manifest.files)
        if version != self.manifest.version:
            raise BundleError(f"{path}: version is {self.manifest.version}, its files make {version}")
        self._verified: set[str] = set()

    def verify(self, *parts: str) -> None:
        """Checks size and SHA-256 of the files under `parts` (all files when there are none), each once."""
        records = {
            name: record
            for name, record in self.manifest.files.items()
            if name not in self._verified and (not parts or name.startswith(parts))
        }
        for name, record in records.items():
            path = self.folder / name
            if not path.is_file():
                raise BundleError(f"{path} is missing")
            size = path.stat().st_size
            if size != record.bytes:
                raise BundleError(f"{path} has {size} bytes, the manifest says {record.bytes}")
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            hashes = pool.map(lambda name: file_sha256(self.folder / name), records)
            for (name, record), found in zip(records.items(), hashes, strict=True):
                if found != record.sha256:
                    raise BundleError(
                        f"{self.folder / name} was altered: its SHA-256 is {found[:16]}…, the manifest says {record.sha256[:16]}…"
                    )
        self._verified.update(records)

    @property
    def encoder_folder(self) -> Path:
        """The verified encoder, for `TextEncoder`."""
        self.verify(ENCODER)
        spec = EncoderSpec.load(self.folder / ENCODER)
        if spec.dim != self.manifest.dim:
            raise BundleError(
                f"{ENCODER}: the encoder makes {spec.dim} dimensions, the manifest says {self.manifest.dim}"
            )
        return self.folder / ENCODER

    def products(self) -> ProductTable:
        self.verify(PRODUCTS)
        table = ProductTable(self.folder / PRODUCTS)
        self._expect(PRODUCTS, "products", len(table), self.manifest.products)
        return table

    def vectors(self) -> npt.NDArray[np.float16]:
        """The mapped product vectors (products, dim)."""
        self.verify(VECTORS)
        vectors: npt.NDArray[np.float16] = np.load(self.folder / VECTORS, mmap_mode="r")
        self._expect(VECTORS, "vectors", vectors.shape[0], self.manifest.products)
        self._expect(VECTORS, "dimensions", vectors.shape[1], self.manifest.dim)
        return vectors

    def index(self, device: str = "cpu") -> VectorIndex:
        self.verify(INDEX)
        index = VectorIndex.load(self.folder / INDEX, self.vectors(), device)
        self._expect(INDEX, "vectors", index.size, self.manifest.products)
        self._expect(INDEX, "dimensions", index.dim, self.manifest.dim)
        return index

    def identifiers(self) -> IdentifierIndex:
        self.verify("identifier_")
        return IdentifierIndex.load(self.folder)

    def index_spec(self) -> IndexSpec:
        return IndexSpec.from_json(self.manifest.index["spec"])

    def _expect(self, name: str, what: str, found: int, stated: int) -> None:
        if found != stated:
            raise BundleError(f"{self.folder / name} holds {found} {what}, the manifest says {stated}")


def file_sha256(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            if on_bytes:
                on_bytes(len(block))
    return digest.hexdigest()


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Hash and size of every file of a folder but the manifest."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        hashes = pool.map(file_sha256, paths)
        return {
            path.relative_to(folder).as_posix(): FileRecord(sha256, path.stat().st_size)
            for path, sha256 in zip(paths, hashes, strict=True)
        }


def content_version(files: dict[str, FileRecord]) -> str:
    """Twelve hex digits that change when any file does."""
    lines = "".join(f"{name} {record.sha256}\n" for name, record in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


def sync_files(folder: Path, names: Iterable[Path]) -> None:
    """Makes files and their folder survive a power cut."""
    for path in [*names, folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
