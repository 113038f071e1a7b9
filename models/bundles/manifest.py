"""The manifest of a bundle: what it holds, with the SHA-256 and size of every other file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from models.errors import InputError
from models.index.spec import num_columns

FORMAT_VERSION = 5
# 1 has no boosts, 1 and 2 have no classifier of queries, 1 to 3 have no ranker, 1 to 4 no typed attributes.
READ_VERSIONS = (1, 2, 3, 4, 5)
MANIFEST = "manifest.json"


class BundleError(InputError):
    """A bundle cannot be used. The message names the file and states the expected and the actual value."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """The hash and size of one file."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a bundle holds. `version` is a hash of everything that callers see: the same content has the same version, and a manifest
    that was edited by hand no longer fits its version."""

    format_version: int
    name: str
    version: str
    created: str  # ISO 8601, UTC
    aisle_version: str
    commit: str
    products: int
    dim: int  # of the unit vectors; the static features have columns of their own
    currency: str
    currency_digits: int
    locales: tuple[str, ...]
    text_attributes: tuple[str, ...]
    catalogue: dict[str, Any]  # source, fingerprint, the reader's report
    recipe: dict[str, Any]
    encoder: dict[str, Any]
    index: dict[str, Any]  # spec, measured recall, latency, bytes per product
    files: dict[str, FileRecord]
    boosts: tuple[str, ...] = ()  # names of the static features, in the order of their columns after the unit vector
    query_types: dict[str, Any] = field(default_factory=dict)  # the query classifier's facts; empty without one
    ranker: dict[str, Any] = field(default_factory=dict)  # the facts of ranker and teacher; empty without a ranker

    @property
    def num_columns(self) -> int:
        """The width of `vectors.npy`."""
        return num_columns(self.dim, len(self.boosts))

    @property
    def line(self) -> str:
        """What a bundle, those that extend it and the generations after it share: the catalogue that the first of them was built from."""
        return str(self.catalogue.get("line") or self.catalogue.get("fingerprint", ""))

    @property
    def encoder_version(self) -> str:
        """Twelve hex digits that bundles share whose products get the same vectors."""
        models = ("encoder/", "unified/")
        files = {name: record.sha256 for name, record in self.files.items() if name.startswith(models)}
        return hashlib.sha256(json.dumps([self.encoder, files], sort_keys=True).encode()).hexdigest()[:12]

    @property
    def sequence(self) -> int:
        """The sequence of the last change that the bundle was built with; 0 for one that was built from a catalogue alone."""
        return int(self.catalogue.get("sequence", 0))

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Reads any format in READ_VERSIONS. Raises BundleError for another, and for values that are missing or impossible."""
        values = json.loads(text)
        if not isinstance(values, dict):
            raise BundleError(f"{MANIFEST}: holds a {type(values).__name__}, not an object; build the bundle again")
        version = values.get("format_version")
        if version not in READ_VERSIONS:
            raise BundleError(
                f"{MANIFEST}: format_version is {version}, this Aisle reads {READ_VERSIONS[0]} to {READ_VERSIONS[-1]}; "
                "build the bundle again"
            )
        try:
            manifest = cls(
                **{
                    **values,
                    "locales": tuple(values["locales"]),
                    "text_attributes": tuple(values["text_attributes"]),
                    "files": {name: FileRecord(**record) for name, record in values["files"].items()},
                    "boosts": tuple(values["boosts"] if version > 1 else ()),
                    "query_types": values["query_types"] if version > 2 else {},
                    "ranker": values["ranker"] if version > 3 else {},
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"{MANIFEST}: not a manifest of format {version}: {error!r}") from None
        for name in manifest.files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise BundleError(f"{MANIFEST}: the file {name!r} lies outside the bundle")
        return manifest


def with_locales(served: Sequence[str], learned: Sequence[str]) -> tuple[str, ...]:
    """Returns the locales that are served, then those learned ones that are not among them in any case of letters."""
    present = {locale.casefold() for locale in served}
    return (*served, *(locale for locale in learned if locale and locale.casefold() not in present))


# What a client may cache until the version changes. When, where and how fast the bundle was built is left out.
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
    """Returns twelve hex digits, which change with any file and with any field of `_VERSIONED`."""
    values = asdict(manifest)
    names = [name for name in _VERSIONED if name != "boosts" or manifest.format_version > 1]
    content = json.dumps({name: values[name] for name in names}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]
