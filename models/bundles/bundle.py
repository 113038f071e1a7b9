"""The bundle: a versioned directory, and the only door between building and serving.

    manifest.json      what this is (`models.bundles.manifest`)
    products.arrow     the products (`models.products.product_table`), and the names of rare attributes next to it
    attributes/        their typed attributes (`models.products.attributes.columns`)
    vectors.npy        their unit vectors, float16 (products, dim), followed by the static features that `boosts` names
    index/             the FAISS index (`models.index.vector_index`)
    identifier_*.npy   exact look-up of model numbers (`models.products.identifiers`)
    words.json         the words of the products (`models.products.spelling`)
    lexical/           the postings of the products' words (`models.lexical.lexical_index`); bundles of older versions have none
    .../               a folder for each model, a part of the bundle (`models.bundle_parts`)

A bundle never changes once it has its name. It is written to another folder and renamed. It is verified before use: for a file that
does not fit the manifest, the error states what the manifest says and what the file holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from models.arrays import Float16s
from models.bundles.files import file_sha256, read_format
from models.bundles.manifest import MANIFEST, BundleError, Manifest, content_version
from models.errors import InputError
from models.index.gpu_search import GpuIndex
from models.index.product_vectors import ProductVectors
from models.index.spec import Device
from models.index.vector_index import VectorIndex
from models.lexical.lexical_index import LexicalIndex
from models.products.attributes.columns import AttributeColumns
from models.products.identifiers import IdentifierIndex
from models.products.product_table import ProductTable

ATTRIBUTES = "attributes"
INDEX = "index"
PRODUCTS = "products.arrow"
VECTORS = "vectors.npy"
IDENTIFIERS = "identifier_"  # of two files
LEXICAL = "lexical"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever a library raises for a file that it cannot read into a BundleError with the path."""
    try:
        yield
    except InputError as error:
        raise BundleError(f"{path}: {error}") from None
    except Exception as error:
        detail = (str(error).splitlines() or [""])[0][:300]
        raise BundleError(
            f"{path} is damaged ({type(error).__name__}: {detail}); build the bundle, or train its model, again"
        ) from error


class Bundle:
    """An opened bundle. Opening reads the manifest alone; everything else is verified when it is first read. Raises BundleError."""

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

    def holds(self, prefix: str) -> bool:
        """Whether the manifest lists a file whose name begins with `prefix`."""
        return any(name.startswith(prefix) for name in self.manifest.files)

    def verify(self, *prefixes: str) -> None:
        """Checks size and SHA-256 of the files whose names begin with one of `prefixes`, each file once. Without prefixes it checks every
        file, its format too, and the number and width of products and vectors; `models.bundle_parts.verify_bundle` also checks the parts.

        Raises BundleError, which names the file and states the expected and the actual value.
        """
        absent = [prefix for prefix in prefixes if not self.holds(prefix)]
        if absent:
            raise BundleError(f"{self.folder / MANIFEST} lists no file of {', '.join(absent)}")
        try:
            self._verify_files(prefixes)
        except OSError as error:
            raise BundleError(f"{error.filename or self.folder} cannot be read: {error.strerror}") from None
        if not prefixes:
            for name in self.manifest.files:
                with reading(self.folder / name):
                    read_format(self.folder / name)
            self.products()
            self.attributes()
            self.vectors()

    def _verify_files(self, prefixes: tuple[str, ...]) -> None:
        records = {
            name: record
            for name, record in self.manifest.files.items()
            if name not in self._verified and (not prefixes or name.startswith(prefixes))
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
            for (name, record), sha256 in zip(records.items(), hashes, strict=True):
                if sha256 != record.sha256:
                    raise BundleError(
                        f"{self.folder / name} was altered: its SHA-256 is {sha256[:16]}..., "
                        f"the manifest says {record.sha256[:16]}..."
                    )
        self._verified.update(records)

    def products(self) -> ProductTable:
        """Returns the mapped products."""
        self.verify(PRODUCTS)
        with reading(self.folder / PRODUCTS):
            table = ProductTable(self.folder / PRODUCTS)
        self._expect(PRODUCTS, "products", len(table), self.manifest.products)
        return table

    def attributes(self) -> AttributeColumns:
        """Returns the mapped typed attributes; none for a bundle of a format before 5."""
        if not self.holds(f"{ATTRIBUTES}/"):
            return AttributeColumns.none(self.manifest.products)
        self.verify(f"{ATTRIBUTES}/")
        with reading(self.folder / ATTRIBUTES):
            return AttributeColumns.load(self.folder / ATTRIBUTES, self.manifest.products)

    def vectors(self) -> Float16s:
        """Returns the mapped product vectors (products, num_columns): unit vectors in the first `dim` columns, then the static features,
        then zeros."""
        self.verify(VECTORS)
        with reading(self.folder / VECTORS):
            vectors: Float16s = np.load(self.folder / VECTORS, mmap_mode="r")
            rows, columns = vectors.shape
        self._expect(VECTORS, "vectors", rows, self.manifest.products)
        self._expect(VECTORS, "dimensions", columns, self.manifest.num_columns)
        return vectors

    def unit_vectors(self) -> Float16s:
        """Returns the mapped product vectors (products, dim) without their static features."""
        return self.vectors()[:, : self.manifest.dim]

    def product_vectors(self) -> ProductVectors:
        """Returns `vectors`, mapped so that they can grow and that their features can change in this process."""
        self.vectors()
        return ProductVectors.open(self.folder / VECTORS, self.manifest.dim)

    def index(
        self, device: Device = "cpu", vectors: ProductVectors | None = None, on_gpu: GpuIndex = "auto"
    ) -> VectorIndex:
        """Returns the index over `vectors` on a device. With None it maps them itself. `on_gpu` says how to search on a GPU."""
        self.verify(INDEX)
        vectors = self.product_vectors() if vectors is None else vectors
        with reading(self.folder / INDEX):
            index = VectorIndex.load(self.folder / INDEX, vectors, device, on_gpu)
        self._expect(INDEX, "vectors", index.size, self.manifest.products)
        self._expect(INDEX, "dimensions without static features", index.dim, self.manifest.dim)
        return index

    def identifiers(self) -> IdentifierIndex:
        """Returns the index of model numbers."""
        self.verify(IDENTIFIERS)
        with reading(self.folder / IDENTIFIERS):
            columns = self.manifest.catalogue.get("identifiers", ())
            return IdentifierIndex.load(self.folder, self.manifest.products, columns)

    def lexical(self) -> LexicalIndex | None:
        """Returns the index of words, None for a bundle that was built without one."""
        if not self.holds(f"{LEXICAL}/"):
            return None
        self.verify(f"{LEXICAL}/")
        with reading(self.folder / LEXICAL):
            return LexicalIndex.load(self.folder / LEXICAL, self.manifest.products)

    def _expect(self, name: str, what: str, actual: int, stated: int) -> None:
        if actual != stated:
            raise BundleError(f"{self.folder / name} holds {actual} {what}, the manifest says {stated}")
