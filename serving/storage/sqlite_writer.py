"""The thread of a process that writes to an SQLite file.

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
from serving.storage.outage import Outage
from serving.storage.sqlite import describe, is_of_the_store, to_caller

Result = TypeVar("Result")

MAX_QUEUED_ITEMS = 20_000  # about a second of work
MAX_GROUP_ITEMS = 2_000  # a group then takes about 0.1 s, and other processes get their turn


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    num_items: int
    alone: bool
    future: Future[Any]


class SqliteWriter:
    """Runs jobs on its connection, several in one transaction. `before_commit` runs at the end of each; `after_commit` runs when it is
    committed, before its callers get their results, and must not raise. `name` is that of the thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        outage: Outage,
        before_commit: Callable[[], None] | None = None,
        after_commit: Callable[[], None] | None = None,
        *,
        name: str,
    ) -> None:
        self._connection = connection
        self._before_commit, self._after_commit = before_commit, after_commit
        self._what = outage.what
        self._outage = outage
        self._jobs: deque[_Job] = deque()
        self._queued_items = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"aisle-{name}", daemon=True)
        self._thread.start()

    def submit(
        self, work: Callable[[sqlite3.Connection], Result], num_items: int = 0, *, alone: bool = False
    ) -> Future[Result]:
        """Queues a job. Its future returns the result of `work` when it is committed; `work` runs again, alone, if its group fails.

        A job that runs `alone` has a transaction of its own: if the disk is full, it need not fail with the others. Cancelling the
        future stops a job that has not begun. Raises Overloaded, and Unavailable while the store closes.
        """
        job = _Job(work, num_items, alone, Future())
        with self._changed:
            if self._closing:
                raise Unavailable(f"the {self._what} is closing")
            if num_items and self._queued_items + num_items > MAX_QUEUED_ITEMS:
                raise Overloaded(0.5, f"more waits for the {self._what} than it can record")
            self._jobs.append(job)
            self._queued_items += num_items
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
            for job in group:
                job.work = _done  # releases what it holds
        self._connection.close()

    def _next_group(self) -> list[_Job] | None:
        """Returns the jobs of the next transaction, or None at the end."""
        with self._changed:
            while not self._jobs:
                if self._closing:
                    return None
                self._changed.wait()
            group: list[_Job] = []
            num_items = 0
            while self._jobs and (not group or num_items + self._jobs[0].num_items <= MAX_GROUP_ITEMS):
                if group and (self._jobs[0].alone or group[0].alone):
                    break
                job = self._jobs.popleft()
                self._queued_items -= job.num_items
                if job.future.set_running_or_notify_cancel():
                    group.append(job)
                    num_items += job.num_items
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
                    job.future.set_exception(to_caller(error, self._what))
            else:
                self._run_alone(group, error)
        except Exception as error:
            self._run_alone(group, error)
        else:
            self._outage.works()
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
            if self._before_commit:
                self._before_commit()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.rollback()
            raise
        if self._after_commit:
            self._after_commit()
        return results


def _done(_: sqlite3.Connection) -> None:
    """Replaces the work of a finished job."""
