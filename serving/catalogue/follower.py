"""Keeps the catalogue of a process in step with the log, on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from serving.catalogue.live_catalogue import ChangeFailed, LiveCatalogue
from serving.catalogue.log import ChangeLog, LogEnded
from serving.config import ConfigError
from serving.errors import AisleError, Unavailable
from serving.logs import log as messages

READ_AT_ONCE = 2_000  # changes
WAIT_S = 0.25
RETRY_S = 0.5
NICENESS = 2  # that of the stages: the event loop comes first
REPLICA_POLL_S = 0.002
# Rows after which what was appended is kept out of the garbage collector, as what was loaded is: it stays. To look through 30,000 appended
# products takes the collector 75 ms, in which no thread of the process runs.
FROZEN_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A call that waits for a change."""

    sequence: int
    loop: asyncio.AbstractEventLoop
    reached: asyncio.Future[None]


class Follower:
    """Applies the log to one catalogue. `failure` says why it stopped, if it did: the structures may then contradict each other, and the
    process must end."""

    def __init__(self, catalogue: LiveCatalogue, log: ChangeLog, on_failure: Callable[[], None] = lambda: None) -> None:
        """`on_failure` is called on the follower's thread when it has stopped for good."""
        self.catalogue, self.log = catalogue, log
        self._on_failure = on_failure
        self.failure = ""
        self._num_frozen = len(catalogue.table)  # rows
        self._applying = threading.Lock()
        self._closing = False
        self._waiting: set[_Waiting] = set()
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="aisle-catalogue", daemon=True)
        catalogue.on_demand = self.catch_up

    def start(self) -> None:
        """Catches up with the log, then follows it. Waits for a log that is away. Raises LogEnded, ChangeFailed, ConfigError."""
        while not self._closing:
            try:
                with self._applying:
                    while self._apply_next():  # not a replica yet: no call waits for a process that answers none
                        pass
                    for _ in range(2):
                        # The first makes it a replica. Calls that came before did not wait for it: what they were told is visible is there
                        # after the second.
                        while self._apply_next():
                            pass
                        self.log.report(self.catalogue.sequence)
                break
            except Unavailable:  # the log has said so
                if self.failure:
                    raise
                time.sleep(RETRY_S)
        self._thread.start()

    @property
    def sequence(self) -> int:
        return self.catalogue.sequence

    def catch_up(self, sequence: int | None = None) -> None:
        """Applies what the log holds, if that is not done up to `sequence` already. Waits for the log. Raises Unavailable, also if the log
        cannot be followed any more: `failure` then says why."""
        with self._applying:
            while sequence is None or self.catalogue.sequence < sequence:
                try:
                    if not self._apply_next():
                        break
                except (LogEnded, ChangeFailed, ConfigError) as error:
                    if not self.failure:
                        self.failure = str(error)
                        messages.error("catalogue cannot follow its log", extra={"fields": {"error": self.failure}})
                    raise Unavailable(self.failure) from error
                self._tell()
            self.log.report(self.catalogue.sequence)

    def _apply_next(self) -> bool:
        """Applies some batches; returns whether there were any."""
        if self.failure:  # the structures may contradict each other
            raise Unavailable(self.failure)
        batches = self.log.read(self.catalogue.sequence, READ_AT_ONCE)
        if not batches:
            return False
        try:
            self.catalogue.apply(batches)
        except (ChangeFailed, ConfigError) as error:
            self.failure = str(error)
            messages.error("catalogue cannot be changed", exc_info=error)
            raise
        self._freeze()
        return True

    def _freeze(self) -> None:
        num_rows = len(self.catalogue.table)
        if num_rows - self._num_frozen >= FROZEN_AT_ONCE:
            gc.collect(1)  # what is garbage by now would stay too
            gc.freeze()
            self._num_frozen = num_rows

    async def reached(self, sequence: int, timeout_s: float) -> bool:
        """Waits until this process has applied a change; returns whether it has."""
        if self.catalogue.sequence >= sequence:
            return True
        loop = asyncio.get_running_loop()
        waiting = _Waiting(sequence, loop, loop.create_future())
        with self._guard:
            self._waiting.add(waiting)
        try:
            if self.catalogue.sequence < sequence:
                await asyncio.wait_for(waiting.reached, timeout_s)
        except TimeoutError:
            pass
        finally:
            with self._guard:
                self._waiting.discard(waiting)
        return self.catalogue.sequence >= sequence

    async def reached_everywhere(self, sequence: int, timeout_s: float) -> bool:
        """Waits until every replica has applied a change; returns whether they have."""
        give_up = time.monotonic() + timeout_s
        if not await self.reached(sequence, timeout_s):
            return False
        while any(replica.applied < sequence for replica in self.log.replicas()):
            if time.monotonic() > give_up:
                return False
            await asyncio.sleep(REPLICA_POLL_S)
        return True

    async def close(self) -> None:
        """Stops following, and closes the log."""
        self._closing = True
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        await self.log.close()

    def _tell(self) -> None:
        self.log.report(self.catalogue.sequence)
        with self._guard:
            for waiting in self._waiting:
                if waiting.sequence <= self.catalogue.sequence:
                    with contextlib.suppress(RuntimeError):  # its event loop has ended
                        waiting.loop.call_soon_threadsafe(_set, waiting.reached)

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while not self._closing and not self.failure:
            try:
                self.log.wait(self.catalogue.sequence, WAIT_S)
                self.catch_up()
            except AisleError:  # the log has said so
                time.sleep(RETRY_S)
            except Exception as error:
                if not self.failure:
                    messages.error("catalogue does not follow its log", exc_info=error)
                    time.sleep(RETRY_S)
        if self.failure:
            self._on_failure()


def _set(reached: asyncio.Future[None]) -> None:
    if not reached.done():
        reached.set_result(None)
