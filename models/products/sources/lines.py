"""Text files, plain or gzipped: their bytes and their lines."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from models.products.errors import CatalogueError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file, gunzipped if its name ends in .gz, after its byte order mark. Raises CatalogueError for damaged gzip data."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            if stream.read(len(_BYTE_ORDER_MARK)) != _BYTE_ORDER_MARK:
                stream.seek(0)
            yield cast("BinaryIO", stream)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CatalogueError(f"{path}: the gzip data is damaged or cut short ({error})") from error


def read_lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a file, gunzipped if its name ends in .gz, without a byte order mark.

    Raises CatalogueError for UTF-16 and for damaged gzip data.
    """
    with open_file(path) as stream:
        first = next(iter(stream), b"")
        if first.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise CatalogueError(f"{path}: is UTF-16; save it as UTF-8")
        yield from chain((first,) if first else (), stream)
