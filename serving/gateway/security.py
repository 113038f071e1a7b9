"""Who may call: TLS certificates and API keys. Both are read from files, and again when the files change."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from serving.config import ConfigError, TlsConfig
from serving.errors import NotPermitted, Unauthenticated
from serving.logs import log

SCOPES = ("search", "embed", "info", "events", "history")
ALL = "*"
RELOAD_S = 2.0
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One line of the keys file. It holds only the hash of the key; keys are random, so a plain hash is enough."""

    name: str
    sha256: str
    scopes: frozenset[str]


def new_key(name: str, scopes: list[str]) -> tuple[str, str]:
    """Returns a new key and the line that admits it when it stands in the keys file. Raises ConfigError."""
    if not re.fullmatch(r"[\w.-]{1,64}", name):
        raise ConfigError(f"the name {name!r} must be 1 to 64 letters, digits, '.', '_' or '-'")
    unknown = sorted(set(scopes) - {*SCOPES, ALL})
    if unknown or not scopes:
        wrong = f"scopes {', '.join(map(repr, unknown))} are unknown" if unknown else "a key needs a scope"
        raise ConfigError(f"{wrong}; known are {', '.join(SCOPES)} and {ALL}")
    key = "aisle_" + secrets.token_urlsafe(32)
    return key, f"{name} {hashlib.sha256(key.encode()).hexdigest()} {','.join(scopes)}"


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Reads the keys of a file. Raises ConfigError with the number of the bad line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"auth.keys_file: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}:{error.object[: error.start].count(10) + 1}: is not UTF-8") from None
    keys = []
    for number, line in enumerate(lines, 1):
        parts = line.split("#", 1)[0].split()
        if not parts:
            continue
        if len(parts) != 3 or not _HEX.fullmatch(parts[1]):
            raise ConfigError(f"{path}:{number}: a line is 'NAME SHA256 SCOPE,SCOPE' (make one with 'aisle key NAME')")
        scopes = frozenset(parts[2].split(","))
        if scopes - {*SCOPES, ALL}:
            raise ConfigError(f"{path}:{number}: scopes are {', '.join(SCOPES)} and {ALL}")
        keys.append(ApiKey(parts[0], parts[1], scopes))
    if not keys:
        raise ConfigError(f"{path} holds no key, so nobody could call; make one with 'aisle key NAME'")
    return tuple(keys)


class KeyRing:
    """Admits calls by the keys of a file. It reads a changed file within `RELOAD_S`; a broken file leaves the keys as they were."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._stamp = self._file_stamp()  # before reading: otherwise a change in between would never be noticed
        self._keys = read_keys(path)
        self._checked = clock()

    def admit(self, presented: str, scope: str) -> str:
        """Returns the name of the key. A wrong key takes as long as a right one. Raises Unauthenticated, NotPermitted."""
        self._reload()
        digest = hashlib.sha256(presented.encode()).hexdigest()
        matching = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                matching = key
        if matching is None:
            raise Unauthenticated(
                "the API key is unknown; send 'authorization: Bearer KEY'" if presented else
                "an API key is needed: send the metadata 'authorization: Bearer KEY'"
            )  # fmt: skip
        if scope not in matching.scopes and ALL not in matching.scopes:
            raise NotPermitted(f"the API key '{matching.name}' has no scope '{scope}'")
        return matching.name

    def _reload(self) -> None:
        if self._clock() - self._checked < RELOAD_S:
            return
        self._checked = self._clock()
        stamp = self._file_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = read_keys(self._path)
            log.info("api keys reloaded", extra={"fields": {"keys": len(self._keys)}})
        except ConfigError as error:
            log.error("api keys not reloaded", extra={"fields": {"error": str(error)}})

    def _file_stamp(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)


def server_credentials(tls: TlsConfig) -> grpc.ServerCredentials:
    """Returns credentials that read their files again when they change: a certificate is renewed without a restart."""
    certificate, key = tls.certificate, tls.key
    if certificate is None or key is None:
        raise ConfigError("tls: certificate and key are needed")
    files = [path for path in (certificate, key, tls.client_ca) if path]

    def stamp() -> tuple[int, ...]:
        return tuple(path.stat().st_mtime_ns for path in files)

    def read() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(key.read_bytes(), certificate.read_bytes())],
            root_certificates=tls.client_ca.read_bytes() if tls.client_ca else None,
        )

    seen = stamp()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal seen
        try:
            now = stamp()
            if now == seen:
                return None
            fresh = read()
        except OSError as error:  # in the middle of a renewal: the old certificate still works
            log.error("certificate not reloaded", extra={"fields": {"error": str(error)}})
            return None
        seen = now
        log.info("certificate reloaded")
        return fresh

    return grpc.dynamic_ssl_server_credentials(
        read(),
        fetch,  # type: ignore[arg-type]  # None means unchanged; the type stub lacks it
        require_client_authentication=bool(tls.client_ca),
    )
