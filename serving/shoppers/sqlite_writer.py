"""The one thread of a process that writes to the SQLite store.

Group commit: what is queued when the thread becomes free goes into one transaction, so a sync of the disk is shared by all who
wait for it, and an idle store adds no wait.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from serving.errors import Overloaded, Unavailable
from serving.shoppers.sqlite_file import describe, is_of_the_store, to_caller, wipe_log
from serving.shoppers.store import Outage

Result = TypeVar("Result")

MAX_QUEUED_EVENTS = 20_000  # about a second of work
MAX_GROUP_EVENTS = 2_000  # so that a group takes about 0.1 s, and other processes get their turn
WIPE_AGAIN_S = 0.5


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    num_events: int
    erases: bool
    future: Future[Any]


class SqliteWriter:
    """Runs jobs on its connection, each within a transaction that it shares with others."""

    def __init__(self, connection: sqlite3.Connection, outage: Outage) -> None:
        self._connection = connection
        self._outage = outage
        self._jobs: deque[_Job] = deque()
        self._queued_events = 0
        self._changed = threading.Condition()
        self._closing = False
        self._must_wipe = False
        self._thread = threading.Thread(target=self._run, name="aisle-shoppers", daemon=True)
        self._thread.start()

    def submit(
        self, work: Callable[[sqlite3.Connection], Result], num_events: int = 0, *, erases: bool = False
    ) -> Future[Result]:
        """The result once it is committed. `work` may run twice: where it made its group fail, it runs again alone.

        A job that `erases` is done when its transaction is; what it deleted is then also removed from the write-ahead log.
        Raises Overloaded. Cancelling the future keeps a job that waits from running.
        """
        job = _Job(work, num_events, erases, Future())
        with self._changed:
            if self._closing:
                raise Unavailable("the shopper store is closing")
            if num_events and self._queued_events + num_events > MAX_QUEUED_EVENTS:
                raise Overloaded(0.5, "more events wait for the shopper store than it can record")
            self._jobs.append(job)
            self._queued_events += num_events
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Does what is queued, then closes the connection."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            self._do(group)
            if self._must_wipe:
                self._must_wipe = not wipe_log(self._connection)
            for job in group:
                job.work = _done  # what it holds may be much
        self._connection.close()

    def _next_group(self) -> list[_Job] | None:
        """The jobs of the next transaction; none of them while a wipe is due; None at the end."""
        with self._changed:
            while not self._jobs:
                if self._closing:
                    return None
                if not self._changed.wait(WIPE_AGAIN_S if self._must_wipe else None):
                    return []
            group: list[_Job] = []
            num_events = 0
            while self._jobs and (not group or num_events + self._jobs[0].num_events <= MAX_GROUP_EVENTS):
                job = self._jobs.popleft()
                self._queued_events -= job.num_events
                if job.future.set_running_or_notify_cancel():
                    group.append(job)
                    num_events += job.num_events
            return group

    def _do(self, group: list[_Job]) -> None:
        if not group:
            return
        try:
            results = self._commit(group)
        except sqlite3.Error as error:
            if is_of_the_store(error):
                self._outage.failed(describe(error))
                for job in group:
                    job.future.set_exception(to_caller(error))
            else:
                self._do_alone(group, error)
        except Exception as error:
            self._do_alone(group, error)
        else:
            self._outage.works()
            self._must_wipe |= any(job.erases for job in group)
            for job, result in zip(group, results, strict=True):
                job.future.set_result(result)

    def _do_alone(self, group: list[_Job], error: Exception) -> None:
        """One of them is bad: it shall fail alone."""
        if len(group) == 1:
            group[0].future.set_exception(error)
            return
        for job in group:
            self._do([job])

    def _commit(self, group: list[_Job]) -> list[Any]:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [job.work(connection) for job in group]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.rollback()
            raise
        return results


def _done(_: sqlite3.Connection) -> None:
    """In the place of a job that is done."""
