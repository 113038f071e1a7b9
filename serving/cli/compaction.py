"""Builds the next generation beside a service, when enough has changed since its bundle was built."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError, Manifest
from models.errors import InputError
from serving.catalogue.generation import previous_of
from serving.catalogue.log import ChangeLog
from serving.catalogue.open_log import open_log
from serving.config import CatalogueConfig
from serving.errors import AisleError
from serving.logs import log as messages

LOOK_S = 1.0
FIRST_PAUSE_S, LAST_PAUSE_S = 30.0, 3600.0  # after a build that failed
NICENESS = 19
SAID = "compaction.log"
MAX_REASON_CHARS = 1_000


class Compaction:
    """The builds of one service. `poll` is called every moment by whoever rolls out what was built."""

    def __init__(self, bundle: Path, config: Path | None, folder: Path) -> None:
        """`folder` is the private one of the run: what a killed service leaves at work there is ended."""
        self._bundle, self._said = bundle, folder / SAID
        self._command = [sys.executable, "-m", "serving.cli", "catalogue", "compact", "--bundle", str(bundle)]
        self._command += ["--config", str(config)] if config else []
        if ionice := shutil.which("ionice"):
            self._command = [ionice, "--class", "idle", *self._command]
        self._compact_after = 0
        self._served: Manifest | None = None
        self._log: ChangeLog | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._look_at = 0.0
        self._pause_s = FIRST_PAUSE_S

    def serves(self, config: CatalogueConfig) -> None:
        """Takes note of the bundle that is served now, and of its configuration. Drops from the log what both kept generations have."""
        self._close_log()
        self._compact_after = config.compact_after
        try:
            self._served = served = Bundle(self._bundle.resolve()).manifest
            self._log = open_log(config, served.name, served.line, served.sequence)
        except InputError as error:  # what is there now is not what is served
            messages.error("no generation will be built", extra={"fields": {"error": str(error)}})
            return
        previous = self._previous()
        if self._log and previous:
            with suppress(AisleError):  # the log has said so; the next generation drops these too
                applied = [replica.applied for replica in self._log.replicas()]
                self._log.drop(min([served.sequence, previous.sequence, *applied]))

    def poll(self) -> bool:
        """Starts a build if one is due. Returns whether there is a generation to roll out, after which `serves` or `failed` is called."""
        if self._process:
            code = self._process.poll()
            return code is not None and self._ended(code)
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + LOOK_S
        if not self._is_due():
            return False
        if self._is_built():  # by another service of this folder
            return True
        self._start()
        return False

    def failed(self, reason: str) -> None:
        """Lets the next attempt wait, longer each time."""
        fields = {"error": reason, "again_in_s": self._pause_s}
        messages.error("no new generation; serving as before", extra={"fields": fields})
        self._look_at = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)

    def stop(self) -> None:
        """Ends a build, which leaves nothing that the next would not finish."""
        if self._process:
            self._process.kill()
            self._process.wait()
        self._close_log()

    def _is_due(self) -> bool:
        """Says whether enough changed since the newest generation: the bundle, or the one that it was rolled back from."""
        if not (self._compact_after and self._log and self._served):
            return False
        try:
            head = self._log.head()
        except AisleError:  # the log has said so
            return False
        if head - self._served.sequence < self._compact_after:
            return False
        previous = self._previous()
        newest = max(self._served.sequence, previous.sequence if previous else 0)
        return head - newest >= self._compact_after

    def _is_built(self) -> bool:
        found, served = _manifest(self._bundle.resolve()), self._served
        return bool(found and served and found.line == served.line and found.sequence > served.sequence)

    def _start(self) -> None:
        self._started = time.monotonic()
        with self._said.open("wb") as said:
            # In a session of its own, so that Ctrl-C of a terminal reaches the service alone.
            process = subprocess.Popen(  # noqa: S603 - our own command
                self._command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        with suppress(OSError):  # where the kernel shares out the processors between sessions first
            Path(f"/proc/{process.pid}/autogroup").write_text(str(NICENESS))
        self._process = process
        messages.info("building the next generation")

    def _ended(self, code: int) -> bool:
        self._process = None
        if code:
            self.failed(self._reason(code))
            return False
        self._pause_s = FIRST_PAUSE_S
        messages.info("generation built", extra={"fields": {"seconds": time.monotonic() - self._started}})
        return True

    def _previous(self) -> Manifest | None:
        found = _manifest(previous_of(self._bundle.resolve()))
        return found if found and self._served and found.line == self._served.line else None

    def _reason(self, code: int) -> str:
        if code < 0:
            return f"the build was ended by {signal.Signals(-code).name}"
        lines = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ")[-MAX_REASON_CHARS:] if lines else f"the build ended with {code}"

    def _close_log(self) -> None:
        if self._log:
            asyncio.run(self._log.close())
            self._log = None


def _manifest(folder: Path) -> Manifest | None:
    try:
        return Bundle(folder).manifest
    except BundleError:
        return None
