"""How far the processes of one machine have applied the log, in a mapped file: no call, no wait.

    0   int64   sequence of the latest change
    64  slots of 64 bytes: int64 applied, int64 process id

Whoever opened the page owns a slot by a lock on the slot's bytes, which ends with the process, however it ends.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.arrays import Ints
from serving.catalogue.log import Replica
from serving.config import ConfigError

SLOT_BYTES = 64
MAX_REPLICAS = 1024
_SIZE = SLOT_BYTES * (1 + MAX_REPLICAS)
_WORDS = SLOT_BYTES // 8


class ReplicaPage:
    """The page of one log. Its locks are of the open file (OFD), not of the process: they do not end when another descriptor is closed."""

    def __init__(self, path: Path) -> None:
        """Creates the file if there is none. Raises OSError."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(self._file).st_size < _SIZE:
            os.posix_fallocate(self._file, 0, _SIZE)  # a full disk is an error here, and not a signal later
        self._map = mmap.mmap(self._file, _SIZE)
        self._words: Ints = np.frombuffer(self._map, np.int64)
        self._slot = 0
        self._host = socket.gethostname()

    @property
    def head(self) -> int:
        return int(self._words[0])

    @head.setter
    def head(self, sequence: int) -> None:
        self._words[0] = sequence

    def report(self, applied: int) -> None:
        """Writes how far this process is. Raises ConfigError if there are too many processes."""
        if not self._slot:
            self._slot = self._claim(applied)
        at = self._slot * _WORDS
        self._words[at] = max(self._words[at], applied)

    def replicas(self) -> Sequence[Replica]:
        """Returns the living processes, with this one if it has reported."""
        found = []
        for slot in (np.flatnonzero(self._words[_WORDS + 1 :: _WORDS]) + 1).tolist():
            at = slot * _WORDS
            if slot == self._slot or not self._try_lock(slot):
                found.append(Replica(f"{self._host}:{self._words[at + 1]}", int(self._words[at])))
            else:  # its process has ended
                self._words[at + 1] = 0
                self._lock(slot, fcntl.F_UNLCK)
        return found

    def close(self) -> None:
        if self._slot:
            self._words[self._slot * _WORDS + 1] = 0
        del self._words
        self._map.close()
        os.close(self._file)

    def _claim(self, applied: int) -> int:
        for slot in range(1, MAX_REPLICAS + 1):
            if self._try_lock(slot):
                self._words[slot * _WORDS] = applied
                self._words[slot * _WORDS + 1] = os.getpid()
                return slot
        raise ConfigError(f"more than {MAX_REPLICAS} processes hold this catalogue")

    def _try_lock(self, slot: int) -> bool:
        try:
            self._lock(slot, fcntl.F_WRLCK)
        except OSError:
            return False
        return True

    def _lock(self, slot: int, kind: int) -> None:
        flock = struct.pack("hhqqi0q", kind, os.SEEK_SET, slot * SLOT_BYTES, SLOT_BYTES, 0)
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, flock)
