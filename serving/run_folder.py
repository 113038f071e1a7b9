"""The private folder of one run of Ray: its sockets, its logs, and who owns it.

Ray's own folder, /tmp/ray, is open to every user of the machine, who could move a socket away and put another in its place. A folder of
`run_folder` has a random name and is open to its owner alone. Whoever runs holds a lock on it, which ends with the process; the next run
ends the processes and deletes the folder of a run whose lock is free.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from models.errors import InputError

PREFIX = "aisle-"
OWNER_FILE = "owner.json"
END_S = 10.0  # a killed process is gone in milliseconds, unless the disk holds it
# The kernel's limit of a socket's path, less the longest that Ray puts below a run's folder.
MAX_SOCKET_PATH = 107
RAY = "ray"  # Ray opens its folder to everybody; the folder around it stays closed
_RAY_SOCKET = f"/{RAY}/session_2026-01-31_23-59-59_999999_4194304/sockets/plasma_store.1"
MAX_PARENT = MAX_SOCKET_PATH - len(f"/{PREFIX}") - 8 - len(_RAY_SOCKET)


class RunFolderError(InputError):
    """No private folder can be made; the message says what to set."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that owns a run, and where it listens."""

    pid: int
    command: str
    port: int


@contextmanager
def run_folder(port: int = 0) -> Iterator[Path]:
    """Makes the folder of this run and deletes it at the end, after whatever processes of the run are left have been ended. Cleans up
    after runs that were killed first. Raises RunFolderError."""
    parent = _parent()
    for dead in _runs(parent):
        _remove(dead)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        raise RunFolderError(
            f"{parent} cannot hold a folder: {error.strerror}; set TMPDIR to a folder that can be written, with a path of at most "
            f"{MAX_PARENT} characters"
        ) from None
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Ray's agents outlive a killed owner by minutes. This process ends them when its stdin, a pipe of the owner, is closed.
    cleaner = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "serving.run_folder", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        owner = Owner(os.getpid(), " ".join(sys.argv), port)
        (folder / OWNER_FILE).write_text(json.dumps(asdict(owner)), encoding="utf-8")
        yield folder
    finally:
        end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        cleaner.communicate()


def _remove(folder: Path) -> None:
    """Ends the processes and deletes the folder of a run, unless its owner lives."""
    give_up = time.monotonic() + END_S
    lock = _try_lock(folder)
    while lock is None and _is_left(folder) and time.monotonic() < give_up:  # another process is removing it
        time.sleep(0.05)
        lock = _try_lock(folder)
    if lock is not None:
        end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _is_left(folder: Path) -> bool:
    """Whether a run's folder is there and its owner is not."""
    owner = _owner(folder)
    return owner is not None and not Path(f"/proc/{owner.pid}").exists()


def live_owners() -> list[Owner]:
    """Returns the owners of this user's runs that live."""
    owners = [_owner(folder) for folder in _runs(_parent())]
    return [owner for owner in owners if owner is not None and Path(f"/proc/{owner.pid}").exists()]


def _owner(folder: Path) -> Owner | None:
    with suppress(OSError, ValueError, TypeError):
        return Owner(**json.loads((folder / OWNER_FILE).read_text(encoding="utf-8")))
    return None


def end_processes(folder: Path) -> None:
    """Kills this user's processes that write to a file below `folder`, which no other program has a reason to, and waits for them."""
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        if pid == os.getpid() or not _writes_below(pid, folder):
            continue
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                if _writes_below(pid, folder):  # still the same process, now that `handle` names it
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    select.select([handle], [], [], END_S)
            finally:
                os.close(handle)


def _parent() -> Path:
    """Returns TMPDIR unless its path is too long for sockets, then /tmp."""
    stated = Path(os.environ.get("TMPDIR", ""))
    return stated if stated.is_absolute() and len(str(stated)) <= MAX_PARENT else Path("/tmp")  # noqa: S108 - a random name below it


def _runs(parent: Path) -> Iterator[Path]:
    """Yields the folders that `run_folder` made for this user. A folder without OWNER_FILE may be one that is being made."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            is_private = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == stat.S_IRWXU
            if is_private and status.st_uid == os.geteuid() and (folder / OWNER_FILE).is_file():
                yield folder


def _try_lock(folder: Path) -> int | None:
    """Locks a folder; returns its descriptor, or None while another process has the lock or when the folder is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _writes_below(pid: int, folder: Path) -> bool:
    """Whether a process of this user has a file below `folder` open for writing."""
    try:
        if Path(f"/proc/{pid}").stat().st_uid != os.geteuid():
            return False
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{number}").startswith(f"{folder}/") and _is_writable(pid, number):
                    return True
    except OSError:  # it has ended meanwhile
        return False
    return False


def _is_writable(pid: int, number: str) -> bool:
    lines = Path(f"/proc/{pid}/fdinfo/{number}").read_text(encoding="ascii").splitlines()
    flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
    return flags & os.O_ACCMODE != os.O_RDONLY


if __name__ == "__main__":
    sys.stdin.read()
    _remove(Path(sys.argv[1]))
