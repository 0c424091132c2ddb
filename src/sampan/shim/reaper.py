"""The only waiter: every child of the shim, its own and the adopted, ends here.

A pid is a child's own until it is reaped here, so `os.kill` on an expected pid that has not ended
cannot hit a stranger.
"""

from __future__ import annotations

import os
import time

from sampan.linux.prctl import set_child_subreaper
from sampan.linux.signals import mask, set_mask, signalfd, signalfd_read
from sampan.rpc.loop import IN, Future, Loop

__all__ = ["Exit", "Reaper"]

_SIGCHLD = 1 << 16
_STRANGERS_MAX = 256


class Exit:
    """How and when a process ended."""

    __slots__ = ("at_ns", "status")

    def __init__(self, status: int, at_ns: int) -> None:
        self.status = status
        """Its exit status, or 128 plus the signal."""
        self.at_ns = at_ns


class Reaper:
    """Makes this process a subreaper, blocks SIGCHLD, and waits on behalf of everyone."""

    def __init__(self, loop: Loop) -> None:
        self._expected: dict[int, Future[Exit]] = {}
        # A container's init is adopted when `runc create` exits, and may end before anybody has
        # read its pid file: the last few unexpected ends are remembered.
        self._strangers: dict[int, Exit] = {}
        set_child_subreaper(True)
        set_mask(mask() | _SIGCHLD)
        self._fd = signalfd(_SIGCHLD)
        self._loop = loop
        loop.watch(self._fd, IN, lambda _events: self.reap())

    def expect(self, pid: int) -> Future[Exit]:
        """Return the end of `pid`, a child or a descendant to be adopted."""
        future = self._expected.get(pid)
        if future is None:
            future = Future()
            if (known := self._strangers.pop(pid, None)) is not None:
                future.set(known)
            else:
                self._expected[pid] = future
        return future

    def reap(self) -> None:
        """Wait for all that have ended."""
        signalfd_read(self._fd)
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                return
            if found is None:
                return
            killed = found.si_code != os.CLD_EXITED
            ended = Exit(found.si_status + 128 * killed, time.time_ns())
            future = self._expected.pop(found.si_pid, None)
            if future is not None:
                future.set(ended)
                continue
            self._strangers[found.si_pid] = ended
            if len(self._strangers) > _STRANGERS_MAX:
                del self._strangers[next(iter(self._strangers))]

    def close(self) -> None:
        """Close the signalfd."""
        self._loop.unwatch(self._fd)
        os.close(self._fd)
