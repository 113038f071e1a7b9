"""The keys under which the SQLite store encrypts: a file with one slot for each shopper. To forget a shopper is to erase the slot.

SQLite moves rows from page to page, and leaves copies in unused parts of its file and in its log. No copy of a key exists: a slot never
moves, and is overwritten where it is. That needs no space on the disk and waits for no reader. What else is left of the shopper is noise.

The file is a hash table that never moves an entry. A header page is followed by levels, each with twice the pages of the level before.
The shopper's tag chooses one page of each level; the slot is in one of these pages. When they are full, the file gets another level.
Whoever changes the file holds the write lock of the SQLite file. Readers need no lock.

A slot (64 bytes) is empty, or holds tag, number and secret. The tag is a hash of the shopper's id under a secret of the file. The number
is random, and stands for the shopper in the SQLite file.
"""

from __future__ import annotations

import errno
import os
import secrets
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from serving.config import ConfigError
from serving.errors import AisleError, Unavailable
from serving.storage.outage import StoreFull

_PAGE = 4096
_FIRST_LEVEL_PAGES = 16
_MAGIC = b"Aisle shopper 1\n"
_HEADER = struct.Struct("<16s16s32sQQ")  # magic, id of the file, secret of the tags, levels, forgotten shoppers
_LEVELS_AT, _FORGOTTEN_AT = 64, 72
_COUNT = struct.Struct("<Q")
_SLOT = struct.Struct("<24sq32s")  # tag, number, secret
_TAG_BYTES = 24
_NO_TAG = bytes(_TAG_BYTES)
_NONCE_BYTES = 12
EVENT_TAG_BYTES = 16
PAGE_TAG_BYTES = 16


class Unreadable(Exception):
    """A text was not sealed with this key, or was damaged."""


@dataclass(frozen=True, slots=True)
class ShopperKey:
    """What stands for a shopper in the SQLite file, and encrypts the events."""

    number: int  # above 0
    secret: bytes  # 32 bytes: half of it encrypts, half of it hashes

    def event_tag(self, event_id: str) -> bytes:
        """Returns a hash of an event's id (`EVENT_TAG_BYTES`), by which a repeated event is recognised."""
        return blake2b(event_id.encode(), key=self.secret[16:], digest_size=EVENT_TAG_BYTES).digest()

    def page_tag(self, day: int) -> bytes:
        """Returns what stands for the shopper in the request log on a day since 1970 (`PAGE_TAG_BYTES`). Without the key nobody can tell
        whose it is, nor which tags of other days are of the same shopper."""
        text = day.to_bytes(4, "big", signed=True)
        return blake2b(text, key=self.secret[16:], digest_size=PAGE_TAG_BYTES, person=b"page").digest()

    def seal(self, texts: Iterable[bytes]) -> list[bytes]:
        """Encrypts with AES-128 in GCM, each text with a random nonce."""
        cipher = AESGCM(self.secret[:16])
        nonces = ((os.urandom(_NONCE_BYTES), text) for text in texts)
        return [nonce + cipher.encrypt(nonce, text, None) for nonce, text in nonces]

    def unseal(self, sealed: Iterable[bytes]) -> list[bytes]:
        """Returns the texts. Raises Unreadable."""
        cipher = AESGCM(self.secret[:16])
        try:
            return [cipher.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], None) for body in sealed]
        except (InvalidTag, ValueError) as error:
            raise Unreadable from error


class ShopperKeys:
    """The open file. Methods that change it raise StoreFull, or Unavailable if the disk fails."""

    def __init__(self, path: Path, *, sync: bool, may_make: bool = False, may_write: bool = True) -> None:
        """Opens the file; `may_make` makes a missing one. Without `may_write` it can only be read. With `sync` new keys survive a power
        cut. Raises ConfigError."""
        self._sync = sync
        self._are_new = False  # keys that are not flushed
        try:
            mode = os.O_RDWR if may_write else os.O_RDONLY
            self._file = os.open(path, mode | os.O_CLOEXEC | (os.O_CREAT if may_make else 0), 0o600)
        except FileNotFoundError:
            raise ConfigError(
                f"shoppers.path: {path} is missing, and holds the keys of what is stored; restore it"
            ) from None
        try:
            if may_make and not os.pread(self._file, _PAGE, 0).strip(b"\0"):  # new, or a power cut left it empty
                self._make_header(path.parent)
            self._open(path)
        except BaseException:
            os.close(self._file)
            raise

    def _make_header(self, folder: Path) -> None:
        os.pwrite(self._file, bytes(_size(1)), 0)
        os.fsync(self._file)
        os.pwrite(self._file, _HEADER.pack(_MAGIC, os.urandom(16), os.urandom(32), 1, 0), 0)
        os.fsync(self._file)
        entry = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)

    def _open(self, path: Path) -> None:
        header = os.pread(self._file, _HEADER.size, 0)
        size = os.fstat(self._file).st_size
        if len(header) < _HEADER.size or header[:16] != _MAGIC:
            raise ConfigError(f"shoppers.path: {path} is no file of shoppers' keys")
        _, self.id, self._tag_secret, levels, _ = _HEADER.unpack(header)
        if levels > 40 or size < _size(levels):
            raise ConfigError(f"shoppers.path: {path} has {size} bytes, its header needs {_size(levels)}; restore it")
        self._memory = mmap(self._file, size, access=ACCESS_READ)

    def find(self, shopper_id: str) -> ShopperKey | None:
        """Returns the key of a shopper, or None for a stranger."""
        memory = self._mapped()
        place = self._place(memory, self._tag(shopper_id))
        return None if place is None else _key_at(memory, place)

    def add(self, shopper_ids: Iterable[str]) -> dict[str, ShopperKey]:
        """Returns the keys of shoppers, after it made those that were missing. `flush` has to follow."""
        keys = {}
        for shopper_id in shopper_ids:
            tag = self._tag(shopper_id)
            memory = self._mapped()
            place = self._place(memory, tag)
            if place is None:
                keys[shopper_id] = self._make(tag)
            else:
                keys[shopper_id] = _key_at(memory, place)
        return keys

    def flush(self) -> None:
        """Makes new keys durable. Rows that need them may be committed afterwards."""
        if self._are_new and self._sync:
            with _Errors():
                os.fdatasync(self._file)
        self._are_new = False

    def erase(self, shopper_id: str) -> None:
        """Overwrites the key of a shopper, on the disk too."""
        place = self._place(self._mapped(), self._tag(shopper_id))
        self._overwrite([] if place is None else [place])

    def erase_numbers(self, numbers: Iterable[int]) -> None:
        """Overwrites the keys with these numbers."""
        found = np.isin(self._numbers(), np.fromiter(numbers, np.int64))
        self._overwrite((_PAGE + np.flatnonzero(found) * _SLOT.size).tolist())

    def numbers(self) -> NDArray[np.int64]:
        """Returns the numbers of all shoppers. # (shopper,)"""
        numbers = self._numbers()
        return numbers[numbers > 0]

    def all(self) -> Iterator[list[ShopperKey]]:
        """Yields the keys of all shoppers, a page of the file after the other, each as it is when it is asked for."""
        at = _PAGE
        while at < len(memory := self._mapped()):
            slots = (_SLOT.unpack_from(memory, place) for place in range(at, at + _PAGE, _SLOT.size))
            if keys := [ShopperKey(number, secret) for tag, number, secret in slots if tag != _NO_TAG]:
                yield keys
            at += _PAGE

    def num_forgotten(self) -> int:
        """Returns a count that grows whenever a process erases keys. It is in shared memory."""
        return int(_COUNT.unpack_from(self._memory, _FORGOTTEN_AT)[0])

    def close(self) -> None:
        os.close(self._file)  # the mapping ends with its last reader

    def _tag(self, shopper_id: str) -> bytes:
        return blake2b(shopper_id.encode(), key=self._tag_secret, digest_size=_TAG_BYTES).digest()

    def _mapped(self) -> mmap:
        """Returns the whole file, which another process may have grown."""
        memory = self._memory
        size = _size(_levels(memory))
        if len(memory) < size:
            memory = self._memory = mmap(self._file, size, access=ACCESS_READ)
        return memory

    def _place(self, memory: mmap, tag: bytes) -> int | None:
        for level in reversed(range(_levels(memory))):  # half of all shoppers are in the last one
            page = _page(level, tag)
            place = memory[page : page + _PAGE].find(tag)
            if place >= 0:
                return page + place
        return None

    def _make(self, tag: bytes) -> ShopperKey:
        key = ShopperKey(secrets.randbelow(2**63 - 1) + 1, os.urandom(32))
        self._are_new = True
        with _Errors():
            place = self._free_place(tag)
            # The tag comes last: who finds it finds a whole key.
            os.pwrite(self._file, _SLOT.pack(_NO_TAG, key.number, key.secret)[_TAG_BYTES:], place + _TAG_BYTES)
            os.pwrite(self._file, tag, place)
        return key

    def _free_place(self, tag: bytes) -> int:
        while True:
            memory = self._mapped()
            for level in range(_levels(memory)):
                page = _page(level, tag)
                slots = memory[page : page + _PAGE]
                place = slots.find(_NO_TAG)
                while place % _SLOT.size and place >= 0:  # the last bytes of a secret may be zeros
                    place = slots.find(_NO_TAG, place + 1)
                if place >= 0:
                    return page + place
            self._grow(_levels(memory) + 1)

    def _grow(self, levels: int) -> None:
        """Adds a level. Its pages are written, not only reserved: later nothing but a level needs space, and a sync costs less."""
        for at in range(_size(levels - 1), _size(levels), _FIRST_LEVEL_PAGES * _PAGE):
            os.pwrite(self._file, bytes(_FIRST_LEVEL_PAGES * _PAGE), at)
        os.fsync(self._file)  # the header must not tell of more than there is
        os.pwrite(self._file, _COUNT.pack(levels), _LEVELS_AT)

    def _overwrite(self, places: list[int]) -> None:
        with _Errors():
            for place in places:
                os.pwrite(self._file, bytes(_SLOT.size), place)
            if places:
                os.pwrite(self._file, _COUNT.pack(self.num_forgotten() + len(places)), _FORGOTTEN_AT)
            os.fdatasync(self._file)  # also if there is none: the sync of an earlier call may have failed

    def _numbers(self) -> NDArray[np.int64]:
        """Returns the number of each slot, 0 of an empty one. # (slot,)"""
        slots = np.frombuffer(self._mapped(), np.int64, offset=_PAGE).reshape(-1, _SLOT.size // 8)
        return np.where(slots[:, 0] != 0, slots[:, _TAG_BYTES // 8], 0)


class _Errors:
    """Turns errors of the operating system into errors for the caller."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise _to_caller(error) from error


def _to_caller(error: OSError) -> AisleError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull("the shopper store has no space left; nothing of this call was recorded")
    return Unavailable("the shopper store cannot be read or written")


def _key_at(memory: mmap, place: int) -> ShopperKey:
    _, number, secret = _SLOT.unpack_from(memory, place)
    return ShopperKey(number, secret)


def _levels(memory: mmap) -> int:
    return int(_COUNT.unpack_from(memory, _LEVELS_AT)[0])


def _size(levels: int) -> int:
    """Returns the size of a file with so many levels, in bytes."""
    return _PAGE * (1 + _FIRST_LEVEL_PAGES * (2**levels - 1))


def _page(level: int, tag: bytes) -> int:
    """Returns where the page of a level begins that may hold a tag."""
    return _size(level) + _PAGE * (int.from_bytes(tag[:8], "little") % (_FIRST_LEVEL_PAGES << level))
