"""A log that is passed on, too, to whoever attaches: `sampan-log://...&attach=FIFO`.

The log gets everything, always. The fifo gets what is written while somebody reads it: with no
reader nothing waits, and who comes later begins with what is written then. A reader that stops
reading stops the container once the fifo is full, as on any terminal; one that vanishes does not.
"""

from __future__ import annotations

import os

from sampan.rpc.loop import OUT, Loop
from sampan.shim.stdio.logs import LogSink

__all__ = ["TeeSink"]

_LINGER_S = 10.0


class TeeSink:
    """One stream into a log and a fifo. Its fifo is opened while somebody reads it only."""

    splice_fd = -1
    survives = True

    def __init__(self, loop: Loop, log: LogSink, path: str) -> None:
        self._loop = loop
        self._log = log
        self._path = path
        self._pending = b""
        self.poll_fd = -1

    def save(self) -> tuple[object, ...] | None:
        """See copying.Sink."""
        if self._pending:
            return None
        self._hang_up()  # the next one opens it anew
        return "tee", self._log.save(), self._path

    def write(self, data: bytes) -> int:
        """See copying.Sink; takes all, and waits with the next for the reader to take this."""
        if self._pending:
            self._pass_on()
            if self._pending:
                return 0
        self._log.write(data)
        self._pending = data
        self._pass_on()
        return len(data)

    def _pass_on(self) -> None:
        try:
            if self.poll_fd < 0:
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
                self.poll_fd = os.open(self._path, flags)
            self._pending = self._pending[os.write(self.poll_fd, self._pending) :]
        except BlockingIOError:
            return
        except OSError:  # ENXIO, EPIPE: nobody reads; ENOENT: nobody will
            self._pending = b""
            self._hang_up()

    def _hang_up(self) -> None:
        fd, self.poll_fd = self.poll_fd, -1
        if fd >= 0:
            self._loop.unwatch(fd)
            os.close(fd)

    def finish(self) -> None:
        """End the log; what a reader has not taken yet is held for 10 s."""
        self._log.finish()
        if not self._pending:
            self._hang_up()
            return
        self._loop.lingering += 1
        timer = self._loop.call_later(_LINGER_S, lambda: last(0))

        def last(events: int) -> None:
            if events & OUT:
                self._pass_on()
                if self._pending:
                    return
            timer.cancel()
            self._pending = b""
            self._hang_up()
            self._loop.lingering -= 1

        self._loop.watch(self.poll_fd, OUT, last)
