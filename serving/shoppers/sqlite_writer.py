"""The thread of a process that writes to the SQLite store.

It commits in groups: all jobs that are queued when the thread becomes free go into one transaction. They share one sync of the disk,
and an idle store adds no wait.
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
MAX_GROUP_EVENTS = 2_000  # a group then takes about 0.1 s, and other processes get their turn
WIPE_AGAIN_S = 0.5


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    num_events: int
    erases: bool
    future: Future[Any]


class SqliteWriter:
    """Runs jobs on its connection, several in one transaction."""

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
        """Queues a job. Its future returns the result of `work` when it is committed; `work` runs again, alone, if its group fails.

        After the commit of a job that `erases`, what it deleted is also removed from the write-ahead log. Cancelling the future stops
        a job that has not begun. Raises Overloaded, and Unavailable while the store closes.
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
        """Runs what is queued, then closes the connection."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            self._run_group(group)
            if self._must_wipe:
                self._must_wipe = not wipe_log(self._connection)
            for job in group:
                job.work = _done  # releases the events that it holds
        self._connection.close()

    def _next_group(self) -> list[_Job] | None:
        """Returns the jobs of the next transaction: an empty list if a wipe is due, None at the end."""
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

    def _run_group(self, group: list[_Job]) -> None:
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
                self._run_alone(group, error)
        except Exception as error:
            self._run_alone(group, error)
        else:
            self._outage.works()
            self._must_wipe |= any(job.erases for job in group)
            for job, result in zip(group, results, strict=True):
                job.future.set_result(result)

    def _run_alone(self, group: list[_Job], error: Exception) -> None:
        """Runs each job of a failed group by itself, so that only the bad job fails."""
        if len(group) == 1:
            group[0].future.set_exception(error)
            return
        for job in group:
            self._run_group([job])

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
    """Replaces the work of a finished job."""
