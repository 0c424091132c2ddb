"""A loop for programs of one thread: epoll, timers, coroutines. No asyncio, few objects.

Coroutines are plain `async def`; what they may await is a `Future` of this module, and what is
built from it: `sleep`, `Lock`, another coroutine. A callback runs to its end before the next one
starts, so state needs no locks between two awaits.

    loop = Loop()
    loop.watch(fd, IN, on_readable)       # on_readable(events)
    loop.spawn(coroutine())
    loop.run()                            # until loop.stop()

Errors: what a callback or a spawned coroutine raises ends the program, unless `on_error` is set:
a shim sets it to log and go on.
"""

from __future__ import annotations

import heapq
import select
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator

from sampan.errors import DeadlineExceeded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Generic, TypeVar

    _T = TypeVar("_T")
else:  # `typing` would stay in the memory of every zygote
    _T = None

    class Generic:
        """Take a parameter, and forget it."""

        __slots__ = ()

        def __class_getitem__(cls, _: object) -> type:
            return cls


__all__ = ["ERR", "HUP", "IN", "OUT", "Future", "Lock", "Loop", "Timer"]

IN, OUT, ERR, HUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP

_PATIENCE_MAX_S = 3600.0


class Future(Generic[_T]):
    """A result that comes later; awaited by any number of coroutines."""

    __slots__ = ("_callbacks", "_error", "_result", "done")

    def __init__(self) -> None:
        self.done = False
        self._result: _T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], None]] | None = None

    def set(self, result: _T) -> None:
        """Give the result; a second result is dropped."""
        if not self.done:
            self._result = result
            self._finish()

    def fail(self, error: BaseException) -> None:
        """Give an error in place of the result."""
        if not self.done:
            self._error = error
            self._finish()

    def then(self, callback: Callable[[], None]) -> None:
        """Call `callback` when done; at once, if it is."""
        if self.done:
            callback()
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def result(self) -> _T:
        """Return the result or raise the error; only when done."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def _finish(self) -> None:
        self.done = True
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()

    def __await__(self) -> Generator[Future[Any], None, _T]:
        if not self.done:
            yield self
        return self.result()


class Lock:
    """Mutual exclusion of coroutines, first come first served: `async with lock:`."""

    __slots__ = ("_held", "_waiting")

    def __init__(self) -> None:
        self._held = False
        self._waiting: deque[Future[None]] | None = None

    async def __aenter__(self) -> None:
        if not self._held:
            self._held = True
            return
        turn: Future[None] = Future()
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(turn)
        await turn

    async def __aexit__(self, *_: object) -> None:
        if self._waiting:
            self._waiting.popleft().set(None)
        else:
            self._held = False


class Timer:
    """A call in the future; `cancel()` forgets it."""

    __slots__ = ("at_s", "callback")

    def __init__(self, at_s: float, callback: Callable[[], None]) -> None:
        self.at_s = at_s
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Do not call; harmless when it was called already."""
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return self.at_s < other.at_s


class Loop:
    """Owns the epoll fd; the fds it watches stay their owners'."""

    def __init__(self, epoll_fd: int = -1) -> None:
        """Make an epoll, or go on with `epoll_fd`, of which another loop has let go.

        What that one watched is still registered there; `watch` each fd again.
        """
        if epoll_fd >= 0:
            self._epoll = select.epoll.fromfd(epoll_fd)
        else:
            self._epoll = select.epoll(select.EPOLL_CLOEXEC)
        self._watched: dict[int, Callable[[int], None]] = {}
        self._timers: list[Timer] = []
        self._ready: deque[Callable[[], None]] = deque()
        self._stopped = False
        self.on_error: Callable[[BaseException], None] | None = None
        self.lingering = 0
        """How many things should be let finish before the program ends; counted by their owners."""
        self.active = 0
        """How many spawned coroutines have not ended."""
        self.idle_s: float | None = None
        self.on_idle: Callable[[], None] | None = None
        """Called when nothing has happened for `idle_s`, and no timer runs."""

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever `fd` is ready; replaces what was asked for it before.

        Raises:
          PermissionError: `fd` cannot be polled (a regular file).
        """
        if fd in self._watched:
            self._epoll.modify(fd, events)
        else:
            try:
                self._epoll.register(fd, events)
            except FileExistsError:  # by the loop before this one
                self._epoll.modify(fd, events)
        self._watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Forget `fd`; call before closing it. Harmless when it is not watched."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call after what is running now."""
        self._ready.append(callback)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call `delay_s` seconds from now."""
        timer = Timer(time.monotonic() + delay_s, callback)
        heapq.heappush(self._timers, timer)
        return timer

    async def sleep(self, delay_s: float) -> None:
        """Wait."""
        future: Future[None] = Future()
        self.call_later(delay_s, lambda: future.set(None))
        await future

    async def readable(self, fd: int, timeout_s: float) -> bool:
        """Wait until `fd` is readable or at its end; False after `timeout_s`."""
        future: Future[bool] = Future()
        timer = self.call_later(timeout_s, lambda: future.set(False))
        self.watch(fd, IN, lambda _events: future.set(True))
        try:
            return await future
        finally:
            timer.cancel()
            self.unwatch(fd)

    async def within(self, future: Future[_T], timeout_s: float, what: str) -> _T:
        """Wait for `future`.

        Raises:
          DeadlineExceeded: it took longer than `timeout_s`; `what` is told.
        """
        first: Future[bool] = Future()
        timer = self.call_later(timeout_s, lambda: first.set(False))
        future.then(lambda: first.set(True))
        if not await first:
            raise DeadlineExceeded(f"{what}: no end after {timeout_s:g} s")
        timer.cancel()
        return future.result()

    def spawn(self, coroutine: Coroutine[Future[Any], None, _T]) -> Future[_T]:
        """Run `coroutine` up to its first wait now, and the rest as its waits end."""
        outcome: Future[_T] = Future()
        self.active += 1

        def step() -> None:
            try:
                waits_for = coroutine.send(None)
            except StopIteration as stop:
                self.active -= 1
                outcome.set(stop.value)
            except BaseException as error:
                self.active -= 1
                if not isinstance(error, Exception) or not self._report(error, outcome):
                    raise
            else:
                waits_for.then(lambda: self.call_soon(step))

        step()
        return outcome

    def _report(self, error: Exception, outcome: Future[Any]) -> bool:
        outcome.fail(error)
        if self.on_error is None:
            return False
        self.on_error(error)
        return True

    def stop(self) -> None:
        """Make `run` return once the callback that calls this has ended."""
        self._stopped = True

    def run(self) -> None:
        """Serve until `stop`."""
        self._stopped = False
        while not self._stopped:
            self.run_once()

    def run_once(self) -> None:
        """Wait for something to happen, and serve all that did."""
        events_of_fds = self._epoll.poll(self._patience_s())
        if not events_of_fds and not self._ready and not self._timers and self.on_idle is not None:
            self.on_idle()
        for fd, events in events_of_fds:
            callback = self._watched.get(fd)
            if callback is not None:
                self._call(callback, events)
        now = time.monotonic()
        while self._timers and self._timers[0].at_s <= now:
            due = heapq.heappop(self._timers).callback
            if due is not None:
                self._call(due)
        for _ in range(len(self._ready)):
            self._call(self._ready.popleft())

    def _patience_s(self) -> float | None:
        if self._ready or self._stopped:
            return 0
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return self.idle_s
        # epoll takes at most 2^31 ms; waking up once an hour for nothing costs nothing.
        return min(_PATIENCE_MAX_S, max(0.0, self._timers[0].at_s - time.monotonic()))

    def _call(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            callback(*args)
        except Exception as error:
            if self.on_error is None:
                raise
            self.on_error(error)

    def close(self) -> None:
        """Close the epoll fd."""
        self._watched.clear()
        self._epoll.close()
