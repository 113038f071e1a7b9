"""The manifest of a bundle: what it holds, with the SHA-256 and size of every other file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from models.errors import InputError
from models.index.spec import num_columns

FORMAT_VERSION = 4
READ_VERSIONS = (1, 2, 3, 4)  # 1 has no boosts, 1 and 2 have no classifier of queries, 1 to 3 have no ranker
MANIFEST = "manifest.json"


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
