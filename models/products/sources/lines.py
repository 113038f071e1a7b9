"""The lines of a text file, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from models.products.errors import CatalogueError


def read_lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a file, gunzipped if its name ends in .gz, without a byte order mark.

    Raises CatalogueError for UTF-16 and for damaged gzip data.
    """
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            first = next(iter(stream), b"")
            if first.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise CatalogueError(f"{path}: is UTF-16; save it as UTF-8")
            yield from chain((first.removeprefix(b"\xef\xbb\xbf"),) if first else (), stream)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CatalogueError(f"{path}: the gzip data is damaged or cut short ({error})") from error
