"""Blocking calls in threads whose number is bounded and whose end is always awaited."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar, TypeVarTuple

__all__ = ["DEFAULT", "Limit", "SingleThread", "to_thread"]

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Limit:
    """At most `count` threads that work on one kind of resource, for the whole process.

    Threads start when first needed and stay. Calls beyond the limit wait in order of arrival.
    """

    def __init__(self, name: str, count: int) -> None:
        if count < 1:
            raise ValueError(f"limit {name}: count must be at least 1, not {count}")
        self.name = name
        self.count = count
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"Limit({self.name!r}, {self.count})"

    def submit(self, fn: Callable[[], T]) -> Future[T]:
        """Queue `fn`; for callers outside an event loop. Context variables are the caller's."""
        if self._pid != os.getpid():
            # A program that forks keeps neither the threads nor who held the lock.
            self._pid, self._pool, self._lock = os.getpid(), None, threading.Lock()
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.count, thread_name_prefix=self.name)
            return self._pool.submit(contextvars.copy_context().run, fn)

    def close(self) -> None:
        """Wait for all calls and end the threads; a later call starts new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)


DEFAULT: Final = Limit("blocking", 8)
"""For calls that have no resource of their own: short file operations, lookups."""


async def to_thread(fn: Callable[[*Ts], T], *args: *Ts, limit: Limit = DEFAULT) -> T:
    """Call `fn(*args)` in a thread of `limit` and return what it returns.

    Cancelled while it waits for a thread, it never runs. Cancelled while it runs, this waits for
    its end, logs its error, and then raises CancelledError.
    """
    return await _settled(limit.submit(lambda: fn(*args)), limit.name)


async def _settled(future: Future[T], where: str) -> T:
    """Wait for `future` under the cancellation rule of this package."""
    waiter = asyncio.wrap_future(future)
    cancelled: asyncio.CancelledError | None = None
    while True:
        try:
            # The shield keeps our cancellation from marking the future as cancelled while its
            # thread runs on.
            result = await asyncio.shield(waiter)
        except asyncio.CancelledError as err:
            if future.cancel() or future.cancelled():
                raise
            cancelled = err
            if not waiter.done():
                continue
        except BaseException as err:
            if cancelled is None:
                raise
            log.warning(
                "call failed after its caller was cancelled: thread=%s", where, exc_info=err
            )
        else:
            if cancelled is None:
                return result
        if not waiter.cancelled() and (error := waiter.exception()) is not None:
            log.debug("thread of a cancelled call: %r", error)
        assert cancelled is not None  # noqa: S101 - every other way out has returned or raised
        raise cancelled


class SingleThread:
    """One thread that runs calls in order of arrival; what it owns is touched by no other.

    SQLite connections live in one: `await thread.call(fn)` from the loop, and
    `thread.call_blocking(fn)` from code that has no loop. Calls from the thread itself run at once.
    """

    def __init__(self, name: str) -> None:
        self._limit = Limit(name, 1)
        self._ident: int | None = None

    async def call(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` in the thread; cancellation as in `to_thread`."""
        return await _settled(
            self._limit.submit(lambda: self._run(lambda: fn(*args, **kwargs))), self._limit.name
        )

    def call_blocking(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` in the thread and block for its result: not from an event loop."""
        if threading.get_ident() == self._ident:
            return fn(*args, **kwargs)
        return self._limit.submit(lambda: self._run(lambda: fn(*args, **kwargs))).result()

    def post(self, fn: Callable[[], None]) -> None:
        """Run `fn` in the thread, some time; it tells whoever waits for it by itself."""
        self._limit.submit(lambda: self._run(fn))

    def _run(self, fn: Callable[[], T]) -> T:
        self._ident = threading.get_ident()
        return fn()

    def close(self) -> None:
        """Wait for queued calls and end the thread. Close what it owns by a call before."""
        self._limit.close()
        self._ident = None
