"""The bundle: a versioned directory, and the only door between building and serving.

    manifest.json      what this is, and the SHA-256 and size of every other file
    encoder/           the text encoder (`models.text_encoder.encoder`), or
    unified/           the unified model (`models.unified`), which encodes queries and shoppers
    products.arrow     the products (`models.products.product_table`)
    types/             the classifier of queries (`models.query_types`), where there is one
    ranker/            the ranker of candidates (`models.ranking`), where there is one
    teacher/           the cross-encoder that it learned from (`models.ranking.teacher`), where there is one
    vectors.npy        their unit vectors, float16 (products, dim), and behind them the static features that `boosts` names
    index/             the FAISS index (`models.index.vector_index`)
    identifier_*.npy   exact look-up of model numbers (`models.products.identifiers`)
    words.json         the words of the products (`models.products.spelling`)

A bundle never changes once it has its name. It is written to a folder beside and renamed; it is verified before use, and what does not
fit is refused with both values named.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from models.arrays import Float16s
from models.errors import InputError
from models.index.vector_index import Device, VectorIndex, num_columns
from models.products.identifiers import IdentifierIndex
from models.products.product_table import ProductTable
from models.products.spelling import WORDS_FILE, Speller, usual_words
from models.query_types.type_model import TypeModel, TypeModelError
from models.text_encoder.encoder import EncoderSpec
from models.unified.light_tower import LightSpec, ModelError, log_words

if TYPE_CHECKING:
    from models.ranking.ranker import Ranker  # at run time it imports this module

FORMAT_VERSION = 4
READ_VERSIONS = (1, 2, 3, 4)  # 1 has no boosts, 1 and 2 have no classifier of queries, 1 to 3 have no ranker
MANIFEST = "manifest.json"
ENCODER = "encoder"
UNIFIED = "unified"
TYPES = "types"
RANKER = "ranker"
TEACHER = "teacher"
INDEX = "index"
PRODUCTS = "products.arrow"
VECTORS = "vectors.npy"


class BundleError(InputError):
    """A bundle cannot be used. The message names the file and both values."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle holds. `version` is derived from the files and from what is said of them to callers: the same content has the
    same version, and a manifest that was edited by hand has not."""

    format_version: int
    name: str
    version: str
    created: str  # ISO 8601, UTC
    aisle_version: str
    commit: str
    products: int
    dim: int  # of the encoder; the product vectors have the columns of the boosts besides
    currency: str
    currency_digits: int
    locales: tuple[str, ...]
    text_attributes: tuple[str, ...]
    catalogue: dict[str, Any]  # source, sha256, the reader's report
    recipe: dict[str, Any]
    encoder: dict[str, Any]
    index: dict[str, Any]  # spec, measured recall, latency, bytes per product
    files: dict[str, FileRecord]
    boosts: tuple[str, ...] = ()  # static features, by their column behind the unit vectors
    query_types: dict[str, Any] = field(
        default_factory=dict
    )  # what the classifier of queries is; empty where there is none
    ranker: dict[str, Any] = field(
        default_factory=dict
    )  # what the ranker and its teacher are; empty where there is none

    @property
    def num_columns(self) -> int:
        """Of `vectors.npy`."""
        return num_columns(self.dim, len(self.boosts))

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise BundleError(f"{MANIFEST}: holds a {type(values).__name__}, not an object; build the bundle again")
        found = values.get("format_version")
        if found not in READ_VERSIONS:
            raise BundleError(
                f"{MANIFEST}: format_version is {found}, this Aisle reads {READ_VERSIONS[0]} to {READ_VERSIONS[-1]}; "
                "build the bundle again"
            )
        try:
            manifest = cls(
                **{
                    **values,
                    "locales": tuple(values["locales"]),
                    "text_attributes": tuple(values["text_attributes"]),
                    "files": {name: FileRecord(**record) for name, record in values["files"].items()},
                    "boosts": tuple(values["boosts"] if found > 1 else ()),
                    "query_types": values["query_types"] if found > 2 else {},
                    "ranker": values["ranker"] if found > 3 else {},
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"{MANIFEST}: not a manifest of format {found}: {error!r}") from None
        for name in manifest.files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise BundleError(f"{MANIFEST}: the file {name!r} lies outside the bundle")
        return manifest


class Bundle:
    """An opened bundle. Nothing but the manifest is read until a part is asked for, and a part is verified first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / MANIFEST
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            hint = f"it holds no {MANIFEST}" if folder.is_dir() else "it is a file"
            hint = hint if folder.exists() else "there is no such directory"
            raise BundleError(f"{folder} is not a bundle ({hint}); make one with 'aisle build'") from None
        except UnicodeDecodeError as error:
            raise BundleError(f"{path} is damaged: {error}; build the bundle again") from None
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}") from None
        try:
            self.manifest = Manifest.from_json(text)
        except json.JSONDecodeError as error:
            raise BundleError(f"{path} is damaged: {error}; build the bundle again") from None
        version = content_version(self.manifest)
        if version != self.manifest.version:
            raise BundleError(f"{path} was altered: it says version {self.manifest.version}, its content is {version}")
        self._verified: set[str] = set()

    def verify(self, *parts: str) -> None:
        """Checks size and SHA-256 of the files under `parts`, each once. Without parts: of all files, and that what they hold is as
        many and as wide as the manifest says."""
        absent = [part for part in parts if not any(name.startswith(part) for name in self.manifest.files)]
        if absent:
            raise BundleError(f"{self.folder / MANIFEST} lists no file of {', '.join(absent)}")
        try:
            self._verify_files(parts)
        except OSError as error:
            raise BundleError(f"{error.filename or self.folder} cannot be read: {error.strerror}") from None
        if not parts:
            self.products()
            self.vectors()
            self.unified_folder if self.is_unified else self.encoder_folder  # noqa: B018 - for its check
            if self.has_types:
                self.type_model()
            if self.has_ranker:
                self.ranker()
            if self.has_teacher:
                self.teacher_folder  # noqa: B018 - for its check

    def _verify_files(self, parts: tuple[str, ...]) -> None:
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
                        f"{self.folder / name} was altered: its SHA-256 is {found[:16]}..., "
                        f"the manifest says {record.sha256[:16]}..."
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

    @property
    def is_unified(self) -> bool:
        """Whether the unified model encodes, which also knows shoppers."""
        return self._has(UNIFIED)

    @property
    def unified_folder(self) -> Path:
        """The verified unified model, for `LightTower`."""
        self.verify(UNIFIED)
        try:
            spec = LightSpec.load(self.folder / UNIFIED)
        except ModelError as error:
            raise BundleError(str(error)) from None
        if spec.dim != self.manifest.dim:
            raise BundleError(
                f"{UNIFIED}: the search tower makes {spec.dim} dimensions, the product vectors have {self.manifest.dim}"
            )
        return self.folder / UNIFIED

    @property
    def has_types(self) -> bool:
        """Whether there is a classifier of queries."""
        return self._has(TYPES)

    def type_model(self) -> TypeModel:
        """The verified classifier. Types that the catalogue does not hold are never told."""
        self.verify(f"{TYPES}/")
        try:
            model = TypeModel.load(self.folder / TYPES)
        except TypeModelError as error:
            raise BundleError(f"{self.folder / TYPES}: {error}") from None
        _, sold = self.products().distinct("category")
        return model.excluding(set(model.types) - set(sold))

    @property
    def has_ranker(self) -> bool:
        """Whether there is a ranker of candidates."""
        return self._has(RANKER)

    def ranker(self) -> Ranker:
        """The verified ranker. One that was trained for other features than this Aisle computes is refused, with what differs."""
        from models.ranking.ranker import Ranker, RankerError

        self.verify(f"{RANKER}/")
        try:
            return Ranker.load(self.folder / RANKER)
        except RankerError as error:
            raise BundleError(f"{self.folder / RANKER}: {error}") from None

    @property
    def has_teacher(self) -> bool:
        """Whether the cross-encoder that the ranker learned from is there."""
        return self._has(TEACHER)

    @property
    def teacher_folder(self) -> Path:
        """The verified teacher, for `Teacher.load`. One of other features than this Aisle computes is refused, with what differs."""
        from models.ranking.features import FEATURES
        from models.ranking.teacher.teacher import TeacherError, TeacherSpec

        self.verify(f"{TEACHER}/")
        try:
            TeacherSpec.load(self.folder / TEACHER).check_features(FEATURES)
        except TeacherError as error:
            raise BundleError(f"{self.folder / TEACHER}: {error}") from None
        return self.folder / TEACHER

    def _has(self, part: str) -> bool:
        return any(name.startswith(f"{part}/") for name in self.manifest.files)

    def products(self) -> ProductTable:
        self.verify(PRODUCTS)
        table = ProductTable(self.folder / PRODUCTS)
        self._expect(PRODUCTS, "products", len(table), self.manifest.products)
        return table

    def vectors(self) -> Float16s:
        """The mapped product vectors (products, num_columns): unit vectors in the first `dim`, then the static features, then zeros."""
        self.verify(VECTORS)
        vectors: Float16s = np.load(self.folder / VECTORS, mmap_mode="r")
        self._expect(VECTORS, "vectors", vectors.shape[0], self.manifest.products)
        self._expect(VECTORS, "dimensions", vectors.shape[1], self.manifest.num_columns)
        return vectors

    def unit_vectors(self) -> Float16s:
        """The mapped product vectors (products, dim) without their static features."""
        return self.vectors()[:, : self.manifest.dim]

    def index(self, device: Device = "cpu") -> VectorIndex:
        self.verify(INDEX)
        vectors = self.vectors()
        try:
            index = VectorIndex.load(self.folder / INDEX, vectors, device)
        except ValueError as error:
            raise BundleError(f"{self.folder / INDEX}: {error}") from error
        self._expect(INDEX, "vectors", index.size, self.manifest.products)
        self._expect(INDEX, "dimensions without static features", index.dim, self.manifest.dim)
        return index

    def identifiers(self) -> IdentifierIndex:
        self.verify("identifier_")
        return IdentifierIndex.load(self.folder)

    def speller(self) -> Speller:
        self.verify(WORDS_FILE)
        if self.is_unified:
            return Speller.load(self.folder, log_words(self.unified_folder))
        return Speller.load(self.folder, usual_words(self.encoder_folder / "tokenizer.json"))

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


def record_files(folder: Path, *, but: Collection[str] = ()) -> dict[str, FileRecord]:
    """Hash and size of every file of a folder except its manifest and those named in `but`."""
    left_out = {folder / name for name in (MANIFEST, *but)}
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path not in left_out)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        hashes = pool.map(file_sha256, paths)
        return {
            path.relative_to(folder).as_posix(): FileRecord(sha256, path.stat().st_size)
            for path, sha256 in zip(paths, hashes, strict=True)
        }


# What a client may keep until the version changes; not when, where and how fast the bundle was made.
_VERSIONED = (
    "products",
    "dim",
    "currency",
    "currency_digits",
    "locales",
    "text_attributes",
    "encoder",
    "files",
    "boosts",
)


def content_version(manifest: Manifest) -> str:
    """Twelve hex digits that change when any file does, or what the manifest says of them."""
    values = asdict(manifest)
    names = [name for name in _VERSIONED if name != "boosts" or manifest.format_version > 1]
    content = json.dumps({name: values[name] for name in names}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def sync_files(folder: Path, files: Iterable[Path]) -> None:
    """Makes files below `folder` and their names in it survive a power cut."""
    files = list(files)
    folders = {parent for file in files for parent in file.parents if parent.is_relative_to(folder)}
    for path in [*files, *folders, folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
