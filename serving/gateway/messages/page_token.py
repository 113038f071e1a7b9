"""Page tokens. A token holds the bundle version, the offset of the next page, how many rows the catalogue had when the first page was made,
and a MAC over these and the digest of the request."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from collections.abc import Mapping

from aisle.v1 import search_pb2
from serving.errors import StaleVersion, Violation

# The fields that do not change which products the pages are cut from, or their order. Every other field of SearchRequest is part of
# the digest.
EXEMPT_FIELDS = frozenset({"page_size", "page_token", "product_fields", "explain", "min_sequence"})
_PLACE = struct.Struct("<IQ")
_MAC_BYTES = 12
_SCALARS = (str, int, float, bytes)


class PageTokens:
    """Makes and checks the tokens of one bundle version (hexadecimal digits)."""

    def __init__(self, version: str) -> None:
        self._version = bytes.fromhex(version)
        self._key = hashlib.sha256(f"aisle page token {version}".encode()).digest()

    def write(self, offset: int, num_rows: int, digest: bytes) -> str:
        body = self._version + _PLACE.pack(offset, num_rows)
        return base64.urlsafe_b64encode(body + self._mac(body, digest)).decode()

    def read(self, token: str, digest: bytes, violations: list[Violation]) -> tuple[int, int]:
        """Returns the offset and the number of rows. Raises StaleVersion for a token of another bundle version."""
        try:
            raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except ValueError:
            raw = b""
        if len(raw) != len(self._version) + _PLACE.size + _MAC_BYTES:
            violations.append(Violation("page_token", "is not a token of this service"))
            return 0, 0
        body, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        version = body[: len(self._version)]
        if version != self._version:
            raise StaleVersion(
                f"page_token: was made by bundle version {version.hex()}, served is {self._version.hex()}; ask for the first page",
                reason="STALE_PAGE_TOKEN",
            )
        if not hmac.compare_digest(mac, self._mac(body, digest)):
            violations.append(
                Violation(
                    "page_token",
                    "does not belong to this request: repeat every field but page_size, product_fields and explain",
                )
            )
            return 0, 0
        offset, num_rows = _PLACE.unpack(body[len(version) :])
        return int(offset), int(num_rows)

    def _mac(self, body: bytes, digest: bytes) -> bytes:
        return hashlib.blake2b(body + digest, key=self._key, digest_size=_MAC_BYTES).digest()


def request_digest(request: search_pb2.SearchRequest, resolved: Mapping[str, object]) -> bytes:
    """Returns the digest (32 bytes) of everything that a next page must repeat.

    `resolved` holds, by field name, the values that fields with a default or with several spellings mean; two requests that mean the
    same have the same digest. Fields that are neither resolved nor exempt count as they are sent. `resolved` must hold plain values:
    the repr of a dataclass takes ten times as long, and every search pays for it.
    """
    return hashlib.sha256(repr((tuple(resolved.values()), _others(request, resolved))).encode()).digest()


def _others(request: search_pb2.SearchRequest, resolved: Mapping[str, object]) -> list[tuple[str, object]] | bytes:
    """Returns the fields that are set and neither resolved nor exempt: by name if all are scalars, otherwise serialised."""
    others: list[tuple[str, object]] = []
    for field, value in request.ListFields():
        name = field.name
        if name in resolved or name in EXEMPT_FIELDS:
            continue
        if not isinstance(value, _SCALARS):
            break
        others.append((name, value))
    else:
        return others
    rest = search_pb2.SearchRequest()
    rest.CopyFrom(request)
    for name in (*resolved, *EXEMPT_FIELDS):
        rest.ClearField(name)  # type: ignore[arg-type]  # names of fields
    return rest.SerializeToString(deterministic=True)
