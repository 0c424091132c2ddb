"""The event loop behind the synchronous face: one in a process, in a thread of its own.

A call from any thread runs as a task of that loop, and its caller waits. When the caller is
interrupted (Ctrl-C), the task is cancelled and its end awaited, so that an interrupt leaves as
little behind as a cancellation. At the end of the program the loop cancels what is left and closes.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, Final, TypeVar

__all__ = ["call", "close", "iterate"]

_UNDO_S: Final = 120.0

T = TypeVar("T")


class _Portal:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self._runner = asyncio.Runner()
        self._stopping: asyncio.Event | None = None
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, name="sampan", daemon=True)
        self._thread.start()
        self.loop = self._started.result()
        # Before the pools of threads are shut, which atexit's own functions come after.
        register: Callable[[Callable[[], None]], object]
        register = getattr(threading, "_register_atexit", atexit.register)
        register(self.close)

    def _run(self) -> None:
        with self._runner as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        self._started.set_result(asyncio.get_running_loop())
        await self._stopping.wait()

    def close(self) -> None:
        """End the loop; its tasks are cancelled, and awaited."""
        if self.pid != os.getpid() or not self._thread.is_alive():
            return
        assert self._stopping is not None  # noqa: S101 - it runs
        self.loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(30)

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if threading.current_thread() is self._thread:
            raise RuntimeError("sampan is called from its own event loop: use sampan.aio there")
        answer: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def start() -> None:
            task = self.loop.create_task(work())
            tasks.append(task)
            task.add_done_callback(ended)

        def ended(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                answer.set_exception(asyncio.CancelledError())
            elif (error := task.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(task.result())

        self.loop.call_soon_threadsafe(start)
        try:
            return answer.result()
        except BaseException:
            if not answer.done():  # we were interrupted, not the work
                self.loop.call_soon_threadsafe(_cancel, tasks)
                answer.exception(_UNDO_S)
            raise


def _cancel(tasks: list[asyncio.Task[T]]) -> None:
    tasks[0].cancel()


_lock = threading.Lock()
_current: _Portal | None = None


def _portal() -> _Portal:
    """Return this process's; one that was inherited by fork has no thread any more."""
    global _current  # noqa: PLW0603 - one for the process
    with _lock:
        if _current is None or _current.pid != os.getpid():
            _current = _Portal()
        return _current


def close() -> None:
    """End the loop and its thread, if they run; a later call starts others."""
    global _current
    with _lock:
        found, _current = _current, None
    if found is not None:
        found.close()


def call(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in the loop, and return what it returns."""
    return _portal().call(work)


def iterate(source: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
    """Yield what an asynchronous iterator yields, which lives in the loop."""
    iterator = source()

    async def following() -> T:
        return await anext(iterator)

    async def closed() -> None:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()

    try:
        while True:
            try:
                value = call(following)
            except StopAsyncIteration:
                return
            yield value
    finally:
        call(closed)
