"""Calls that wait for the database's thread: one wake-up for many, and one commit for many.

    await queue.call(fn, kind)
       └ pending: view update update UPDATE view     in order of arrival
                       └────── one ──────┘           neighbouring updates share a transaction

Each update runs in a savepoint of its own: what it raises undoes it alone. The transaction is on
the disk when any of them asked for that (UPDATE): one fdatasync serves them all.

Cancelled while it waits, a call never happens. Cancelled while it runs, the canceller waits for
its end: a transaction is short.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from sampan.concurrency import SingleThread

__all__ = ["Job", "Kind", "Queue"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class Kind(enum.Enum):
    """What a call is."""

    VIEW = 0
    UPDATE = 1
    DURABLE = 2


class Job:
    """One call and what came of it."""

    __slots__ = ("error", "finished", "fn", "future", "kind", "loop", "result")

    def __init__(self, fn: Callable[[Any], Any], kind: Kind) -> None:
        self.fn = fn
        self.kind = kind
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None
        self.finished = False
        """Set in the loop, after the outcome."""


class Queue:
    """Calls for one thread. `view` and `update` do the work there, and set each job's outcome."""

    def __init__(
        self,
        thread: SingleThread,
        view: Callable[[Job], None],
        update: Callable[[list[Job]], None],
        most: int = 64,
    ) -> None:
        """Serve.

        Args:
          thread: Where the work is done.
          view: Does one job that only reads.
          update: Does several that write, in one transaction.
          most: Of these, so that nobody waits for too many others.
        """
        self._thread = thread
        self._view = view
        self._update = update
        self._most = most
        self._pending: deque[Job] = deque()
        self._lock = threading.Lock()
        self._running = False

    async def call(self, fn: Callable[[Any], T], kind: Kind) -> T:
        """Do `fn` when its turn comes; return or raise what it does."""
        job = Job(fn, kind)
        with self._lock:
            self._pending.append(job)
            wake = not self._running
            self._running = True
        if wake:
            self._thread.post(self._drain)
        try:
            await job.future
        except asyncio.CancelledError:
            await self._withdraw(job)
            raise
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    async def _withdraw(self, job: Job) -> None:
        """Take a job back that has not begun; else wait for its end."""
        with self._lock:
            if job in self._pending:
                self._pending.remove(job)
                return
        if not job.finished:
            # The first future was cancelled with its waiter.
            job.future = job.loop.create_future()
        while not job.finished:
            try:
                await asyncio.shield(job.future)
            except asyncio.CancelledError:
                continue
        if job.error is not None:
            log.debug("call of a cancelled caller failed: %r", job.error)

    def _drain(self) -> None:
        """Do all that is pending; in the thread."""
        while True:
            jobs = self._take()
            if not jobs:
                return
            if jobs[0].kind is Kind.VIEW:
                self._view(jobs[0])
            else:
                self._update(jobs)
            self._deliver(jobs)

    def _take(self) -> list[Job]:
        with self._lock:
            if not self._pending:
                self._running = False
                return []
            jobs = [self._pending.popleft()]
            if jobs[0].kind is Kind.VIEW:
                return jobs
            while (
                self._pending
                and self._pending[0].kind is not Kind.VIEW
                and self._pending[0].loop is jobs[0].loop
                and len(jobs) < self._most
            ):
                jobs.append(self._pending.popleft())
            return jobs

    def _deliver(self, jobs: list[Job]) -> None:
        def done() -> None:
            for job in jobs:
                job.finished = True
                if not job.future.done():
                    job.future.set_result(None)

        try:
            jobs[0].loop.call_soon_threadsafe(done)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("a loop ended before its calls did")
