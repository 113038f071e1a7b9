"""Who may call: TLS certificates and API keys. Both are read from files, and again when the files change."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from serving.config import ConfigError, TlsConfig
from serving.errors import NotPermitted, Unauthenticated
from serving.logs import log

SCOPES = ("search", "embed", "info", "stats", "events", "history", "catalogue:read", "catalogue:write")
LIMITS = ("calls_per_s", "cost_per_s")  # what may stand after the scopes, as calls_per_s=100
ALL = "*"
# The keys in use were those of the file at most `RELOAD_S` ago. The file is looked at a little earlier. If it differs, it is read when
# `RELOAD_S` is over: an editor may be writing it, and for a moment there may be none.
RELOAD_S = 2.0
LOOK_S = 1.5
REPEAT_S = 60.0  # between two log lines about a faulty file
MAX_FAULTS = 5  # that one message names
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One line of the keys file. It holds only the hash of the key; keys are random, so a plain hash is enough."""

    name: str
    sha256: str
    scopes: frozenset[str]
    limits: tuple[tuple[str, float], ...] = ()  # (limit, rate a second), see `LIMITS`

    def permits(self, scope: str) -> bool:
        return scope in self.scopes or ALL in self.scopes

    def require(self, scope: str, field: str = "", purpose: str = "") -> None:
        """Raises NotPermitted if the key has no such scope. `field` of the request is what needs it, and `purpose` says why."""
        if self.permits(scope):
            return
        raise NotPermitted(f"the API key '{self.name}' has no scope '{scope}'", field, purpose, self.name)


@dataclass(frozen=True, slots=True)
class KeysFile:
    """What a keys file says: the keys of its good lines by their hash, and what is wrong with it, each with path and line."""

    keys: dict[str, ApiKey]
    faults: tuple[str, ...]


def new_key(name: str, scopes: list[str]) -> tuple[str, str]:
    """Returns a new key and the line that admits it when it stands in the keys file. Raises ConfigError."""
    if not re.fullmatch(r"[\w.-]{1,64}", name):
        raise ConfigError(f"the name {name!r} must be 1 to 64 letters, digits, '.', '_' or '-'")
    unknown = sorted(set(scopes) - {*SCOPES, ALL})
    if unknown or not scopes:
        wrong = f"scopes {', '.join(map(repr, unknown))} are unknown" if unknown else "a key needs a scope"
        raise ConfigError(f"{wrong}; known are {', '.join(SCOPES)} and {ALL}")
    key = "aisle_" + secrets.token_urlsafe(32)
    return key, f"{name} {_hash(key)} {','.join(scopes)}"


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Reads the keys of a file that must have no fault. Raises ConfigError with the first `MAX_FAULTS` faults."""
    file = parse_keys(path, _read(path))
    if file.faults:
        raise ConfigError("; ".join(file.faults[:MAX_FAULTS]))
    return tuple(file.keys.values())


def parse_keys(path: Path, content: bytes | str) -> KeysFile:
    """Reads every line for itself: a broken one admits nobody and leaves the others. `content` is a text if the file cannot be read."""
    if isinstance(content, str):
        return KeysFile({}, (content,))
    keys: dict[str, ApiKey] = {}
    lines: dict[str, int] = {}
    faults = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            key = _parse_line(line)
            if key and key.sha256 in lines:
                raise ValueError(f"repeats the key of line {lines[key.sha256]}, which counts")
        except ValueError as error:
            what = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
            faults.append(f"{path}:{number}: {what}")
            continue
        if key:
            keys[key.sha256] = key
            lines[key.sha256] = number
    if not keys and not faults:
        faults.append(f"{path} holds no key, so nobody could call; make one with 'aisle key NAME'")
    return KeysFile(keys, tuple(faults))


def _parse_line(line: bytes) -> ApiKey | None:
    """Returns the key of a line, None for a comment or an empty line. Raises ValueError."""
    words = line.decode().split("#", 1)[0].split()
    if not words:
        return None
    if len(words) < 3 or not _HEX.fullmatch(words[1]):
        raise ValueError("a line is 'NAME SHA256 SCOPE,SCOPE' (make one with 'aisle key NAME')")
    name, sha256, scopes, *options = words
    if set(scopes.split(",")) - {*SCOPES, ALL}:
        raise ValueError(f"scopes are {', '.join(SCOPES)} and {ALL}, separated by commas alone")
    return ApiKey(name, sha256, frozenset(scopes.split(",")), tuple(_parse_limit(option) for option in options))


def _parse_limit(option: str) -> tuple[str, float]:
    """Raises ValueError. A limit that is not understood must not be passed over: without it the key is worth more than was meant."""
    limit, _, rate = option.partition("=")
    if limit not in LIMITS:
        raise ValueError(
            f"'{option}' after the scopes is unknown; known are {', '.join(f'{name}=NUMBER' for name in LIMITS)}"
        )
    try:
        value = float(rate)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"'{option}': the number must be above 0")
    return limit, value


def _read(path: Path) -> bytes | str:
    """Returns the content of a file, or the reason why it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        return f"auth.keys_file: {path} cannot be read: {error.strerror}"


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class KeyRing:
    """Admits calls by the keys that stand in a file now.

    A key that the file no longer states, or whose line cannot be read, ends within `RELOAD_S`; so does every key of a file that is
    gone or cannot be read. A faulty file is logged as an error, again every `REPEAT_S` while it lasts.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._verified = self._next_look = self._logged = clock()
        self._load(_read(path), self._verified)

    def admit(self, presented: str, scope: str) -> ApiKey:
        """Returns the key. Raises Unauthenticated, NotPermitted."""
        self._follow_file()
        # Looked up by its hash, a key cannot be guessed from the time that it takes.
        key = self._file.keys.get(_hash(presented))
        if key is None:
            raise Unauthenticated(
                "the API key is unknown; send 'authorization: Bearer KEY'" if presented else
                "an API key is needed: send the metadata 'authorization: Bearer KEY'"
            )  # fmt: skip
        key.require(scope)
        return key

    def _follow_file(self) -> None:
        now = self._clock()
        if now < self._next_look:
            return
        content = _read(self._path)  # whole: times and size of a file may stay when its content changes
        if content == self._content:
            self._verified = now
            self._next_look = now + LOOK_S
            if self._file.faults and now - self._logged >= REPEAT_S:
                self._log(now)
        elif now - self._verified < RELOAD_S:
            self._next_look = self._verified + RELOAD_S
        else:
            self._load(content, now)

    def _load(self, content: bytes | str, now: float) -> None:
        self._content = content
        self._file = parse_keys(self._path, content)
        self._verified = now
        self._next_look = now + LOOK_S
        self._log(now)

    def _log(self, now: float) -> None:
        self._logged = now
        faults, num_keys = self._file.faults, len(self._file.keys)
        if faults:
            shown = "; ".join(faults[:MAX_FAULTS])
            fields = {"keys": num_keys, "faults": len(faults), "error": shown}
            log.error("api keys file is faulty; only the keys of its good lines are admitted", extra={"fields": fields})
        else:
            log.info("api keys read", extra={"fields": {"keys": num_keys}})
        if _others_may_write(self._path):
            fields = {"file": str(self._path), "do": "chmod o-w"}
            log.warning("api keys file can be written by every user of the machine", extra={"fields": fields})


def _others_may_write(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False


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
