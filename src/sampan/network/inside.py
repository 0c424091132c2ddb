"""Work inside another network namespace, in a thread made for it alone.

setns and unshare with CLONE_NEWNET concern the calling thread only. A thread that has been
elsewhere never does other work: it is made for one call and ends with it, so no pool thread is ever
left in the wrong place. What opens a socket in there may hand it out: a socket stays where it was
born.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from sampan.linux.namespaces import CLONE_NEWNET, setns

__all__ = ["begin_inside", "in_fresh_thread", "inside"]

T = TypeVar("T")


class _Call(Generic[T]):
    """One call, its result or its error."""

    def __init__(self, fn: Callable[[], T]) -> None:
        self._fn = fn
        self._result: T | None = None
        self._error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self._result = self._fn()
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            self._error = error

    def outcome(self) -> T:
        """Return what the call returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return cast(T, self._result)


def begin_inside(netns: str | int, fn: Callable[[], T]) -> Callable[[], T]:
    """Begin to call `fn` in a network namespace, and return what waits for its result."""
    call = _Call(_entering(netns, fn))
    thread = threading.Thread(target=call, name="network-namespace", daemon=True)
    thread.start()

    def join() -> T:
        thread.join()
        return call.outcome()

    return join


def in_fresh_thread(fn: Callable[[], T]) -> T:
    """Call `fn` in a thread of its own and wait for it."""
    call = _Call(fn)
    thread = threading.Thread(target=call, name="network-namespace", daemon=True)
    thread.start()
    thread.join()
    return call.outcome()


def inside(netns: str | int, fn: Callable[[], T]) -> T:
    """Call `fn` in the network namespace at a path, or behind a borrowed fd.

    Raises:
      OSError: ENOENT, there is no such file; EINVAL, it is no network namespace.
    """
    return begin_inside(netns, fn)()


def _entering(netns: str | int, fn: Callable[[], T]) -> Callable[[], T]:
    def entered() -> T:
        if isinstance(netns, int):
            setns(netns, CLONE_NEWNET)
        else:
            fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                setns(fd, CLONE_NEWNET)
            finally:
                os.close(fd)
        return fn()

    return entered
