"""The private folder of a run, without Ray."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving.run_folder import MAX_PARENT, OWNER_FILE, RunFolderError, live_owners, run_folder

# A run whose child writes to a file of the folder; both say where they are, and sleep.
RUN = """
import subprocess, sys, time
from serving.run_folder import run_folder
with run_folder(port=7) as folder:
    log = (folder / "child.log").open("w")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=log)
    print(folder, child.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def short_tmp(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files is `/tmp`: pytest's own are too long for sockets."""
    monkeypatch.delenv("TMPDIR", raising=False)
    return Path("/tmp")  # noqa: S108


def start_run() -> tuple[subprocess.Popen[str], Path, int]:
    run = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    folder, child = run.stdout.readline().split()
    return run, Path(folder), int(child)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_is_for_its_owner_alone_and_gone_at_the_end(short_tmp: Path) -> None:
    before = os.umask(0)
    try:
        with run_folder(port=9) as folder:
            assert folder.parent == short_tmp
            assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IRWXU
            assert [owner.port for owner in live_owners() if owner.pid == os.getpid()] == [9]
    finally:
        os.umask(before)
    assert not folder.exists()


def test_what_still_writes_there_at_the_end_is_ended(short_tmp: Path) -> None:
    with run_folder() as folder, (folder / "log").open("w") as log:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=log)
        log.close()
    assert child.wait(120) == -signal.SIGKILL


def test_a_killed_run_is_cleaned_up_without_another(short_tmp: Path) -> None:
    run, folder, child = start_run()
    run.kill()
    run.wait()
    give_up = time.monotonic() + 120
    while (folder.exists() or is_running(child)) and time.monotonic() < give_up:
        time.sleep(0.02)
    assert not folder.exists()
    assert not is_running(child)


def test_the_next_run_cleans_up_after_one_whose_cleaner_died_too_and_leaves_others_alone(short_tmp: Path) -> None:
    dead, folder, child = start_run()
    live, other_folder, other_child = start_run()
    (cleaner,) = [pid for pid in children(dead.pid) if pid != child]
    with (folder / OWNER_FILE).open() as reader:  # whoever only reads a file is spared
        os.kill(cleaner, signal.SIGKILL)
        dead.kill()
        dead.wait()
        assert folder.exists()
        with run_folder():
            assert not folder.exists()
            assert not is_running(child)
            assert other_folder.exists()
            assert is_running(other_child)
        reader.read()
    live.kill()
    live.wait()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_path_that_is_too_long_for_sockets_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("x" * MAX_PARENT)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    with run_folder() as folder:
        assert folder.parent == Path("/tmp")  # noqa: S108


def test_a_folder_that_cannot_be_made_names_the_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    with pytest.raises(RunFolderError, match="set TMPDIR"), run_folder():
        pass
