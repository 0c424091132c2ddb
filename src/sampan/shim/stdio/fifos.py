"""Fifos made by a caller who may die, come back, or come late."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import stat
import termios
import time

from sampan.errors import InvalidArgument
from sampan.rpc.loop import Loop

__all__ = ["FifoSink", "open_stdin"]

_LINGER_S = 10.0
_POLL_S = 0.05


class FifoSink:
    """The shim's end of an output fifo: open for both directions, so that it never breaks.

    At the end what is still in the fifo must not be lost to a reader who is late: it is held open
    until somebody else reads it, or it is empty, or 10 s have passed.
    """

    survives = False

    def __init__(self, loop: Loop, path: str, fd: int = -1) -> None:
        """Open `path`, or take over `fd`, which was opened so."""
        self._loop = loop
        self._path = path
        if fd >= 0:
            self.poll_fd = self.splice_fd = fd
            return
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as err:
            raise InvalidArgument(f"open {path} for output: {err.strerror}") from err
        self.poll_fd = self.splice_fd = fd
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.close(fd)
            raise InvalidArgument(f"open {path} for output: not a fifo; use file:// for a file")

    def save(self) -> tuple[str, str, int]:
        """See copying.Sink."""
        return "fifo", self._path, self.poll_fd

    def write(self, data: bytes) -> int:
        """See copying.Sink. A write of up to 4,096 bytes is whole or nothing; longer may split."""
        try:
            return os.write(self.poll_fd, data)
        except BlockingIOError:
            return 0

    def finish(self) -> None:
        """Let go as soon as nothing can be lost."""
        fd, self.poll_fd, self.splice_fd = self.poll_fd, -1, -1
        if fd < 0:
            return
        self._loop.unwatch(fd)
        if not _unread(fd):
            os.close(fd)
            return
        # Only a descriptor that does not read itself can tell whether somebody does.
        try:
            write_only = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            write_only = fd
        else:
            os.close(fd)
        self._let_go(write_only, time.monotonic() + _LINGER_S)

    def _let_go(self, fd: int, until_s: float) -> None:
        poller = select.poll()
        poller.register(fd, 0)
        nobody_reads = any(events & select.POLLERR for _, events in poller.poll(0))
        if nobody_reads and _unread(fd) and time.monotonic() < until_s:
            self._loop.lingering += 1
            self._loop.call_later(_POLL_S, lambda: self._again(fd, until_s))
        else:
            os.close(fd)

    def _again(self, fd: int, until_s: float) -> None:
        self._loop.lingering -= 1
        self._let_go(fd, until_s)


def _unread(fd: int) -> int:
    """Return how many bytes wait in a fifo."""
    size = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, size)
    return size[0]


def open_stdin(path: str) -> tuple[int, int]:
    """Open an input fifo; return the end to read, and a writing end that keeps it from ending.

    The second is to be closed by CloseIO: the container sees the end when the caller's own writing
    ends are closed, too.

    Raises:
      InvalidArgument: there is none.
    """
    try:
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        raise InvalidArgument(f"open {path} for input: {err.strerror}") from err
    writing = -1
    if stat.S_ISFIFO(os.fstat(reading).st_mode):
        with contextlib.suppress(OSError):
            writing = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return reading, writing
