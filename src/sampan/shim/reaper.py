"""The only waiter: every child of the shim, its own and the adopted, ends here.

A pid is a child's own until it is reaped, here or by the keeper, which tells us before it does: so
`os.kill`, after `reap`, on an expected pid that has not ended cannot hit a stranger.
"""

from __future__ import annotations

import os
import time

from sampan.linux.prctl import set_child_subreaper
from sampan.linux.signals import mask, set_mask, signalfd, signalfd_read
from sampan.rpc.loop import IN, Future, Loop
from sampan.shim.keeper import RECORD

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
    """Blocks SIGCHLD, and waits on behalf of everyone."""

    def __init__(self, loop: Loop, exits_fd: int = -1) -> None:
        """Begin; `exits_fd` is a keeper's pipe, without which this process becomes a subreaper."""
        self._expected: dict[int, Future[Exit]] = {}
        # A container's init is adopted when `runc create` exits, and may end before anybody has
        # read its pid file: the last few unexpected ends are remembered.
        self._strangers: dict[int, Exit] = {}
        self._exits_fd = exits_fd
        if exits_fd < 0:
            set_child_subreaper(True)
        else:
            loop.watch(exits_fd, IN, lambda _events: self._hear())
        set_mask(mask() | _SIGCHLD)
        self._fd = signalfd(_SIGCHLD)
        self._loop = loop
        loop.watch(self._fd, IN, lambda _events: self._wait())

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

    def save(self) -> list[tuple[int, int, int]]:
        """Let go of SIGCHLD; return the ends that nobody has asked for, for the next reaper."""
        self.close()
        return [(pid, end.status, end.at_ns) for pid, end in self._strangers.items()]

    def restore(self, saved: list[tuple[int, int, int]]) -> None:
        """Know what another reaper has known."""
        for pid, status, at_ns in saved:
            self._strangers[pid] = Exit(status, at_ns)

    def reap(self) -> None:
        """Take notice of all that have ended."""
        if self._exits_fd >= 0:
            self._hear()
        self._wait()

    def _hear(self) -> None:
        """Read what the keeper has reaped."""
        try:
            data = os.read(self._exits_fd, 256 * RECORD.size)
        except BlockingIOError:
            return
        for pid, status, at_ns in RECORD.iter_unpack(data):
            self._tell(pid, Exit(status, at_ns))

    def _wait(self) -> None:
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
            self._tell(found.si_pid, ended)

    def _tell(self, pid: int, ended: Exit) -> None:
        future = self._expected.pop(pid, None)
        if future is not None:
            future.set(ended)
            return
        self._strangers[pid] = ended
        if len(self._strangers) > _STRANGERS_MAX:
            del self._strangers[next(iter(self._strangers))]

    def close(self) -> None:
        """Close the signalfd."""
        self._loop.unwatch(self._fd)
        os.close(self._fd)
