"""One direction of one stream: read a little, write it, wait for whichever side is not ready."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable

from sampan.rpc.loop import ERR, HUP, IN, OUT, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeAlias
else:  # `typing` would stay in the memory of every zygote
    Protocol = object

__all__ = ["Copy", "FdSink", "Saved", "Sink"]

_CHUNK = 64 << 10
_TURNS = 16

Saved: TypeAlias = "tuple[Any, ...]"
"""Plain values: the kind of a sink, then what it is made of."""


class Sink(Protocol):
    """Where bytes go."""

    splice_fd: int
    """An fd that may be spliced into; -1 when every byte must pass through `write`."""
    poll_fd: int
    """What to watch for OUT when `write` took less than it was given; -1 when it never does."""

    def write(self, data: bytes) -> int:
        """Take some of `data` and return how much; 0 when it must wait.

        Raises:
          OSError: it will take no more, ever.
        """

    survives: bool
    """Whether an error of `poll_fd` means no more than that a reader has gone."""

    def finish(self) -> None:
        """No more will come; close."""

    def save(self) -> Saved | None:
        """Return kind and values for `sinks.restore`; None while it holds something to be moved."""


class FdSink:
    """A pipe or terminal, non-blocking; owns its fd."""

    survives = False

    def __init__(self, loop: Loop, fd: int, *, splice: bool) -> None:
        self._loop = loop
        self.poll_fd = fd
        self.splice_fd = fd if splice else -1

    def write(self, data: bytes) -> int:
        """See Sink."""
        try:
            return os.write(self.poll_fd, data)
        except BlockingIOError:
            return 0

    def finish(self) -> None:
        """Close the fd."""
        if self.poll_fd >= 0:
            self._loop.unwatch(self.poll_fd)
            os.close(self.poll_fd)
            self.poll_fd = self.splice_fd = -1

    def save(self) -> Saved | None:
        """See Sink."""
        return "fd", self.poll_fd, self.splice_fd >= 0


class Copy:
    """Moves bytes from `source`, which it owns, until its end; then finishes the sink.

    Where both sides are pipes the kernel moves them (splice), and nothing is kept here.
    """

    def __init__(
        self, loop: Loop, source: int, sink: Sink, on_end: Callable[[], None] | None = None
    ) -> None:
        self._loop = loop
        self._source = source
        self._sink = sink
        self._on_end = on_end
        self._pending = b""
        self._splice = sink.splice_fd >= 0
        self._waiting_for_room = False
        os.set_blocking(source, False)
        loop.watch(source, IN, self._ready)

    def save(self) -> tuple[int, bool, Saved] | None:
        """Return what `restore` needs; None while bytes are held here."""
        sink = None if self._pending else self._sink.save()
        return None if sink is None else (self._source, self._waiting_for_room, sink)

    @classmethod
    def restore(
        cls,
        loop: Loop,
        source: int,
        sink: Sink,
        on_end: Callable[[], None] | None = None,
        *,
        waiting_for_room: bool,
    ) -> Copy:
        """Go on where another has stopped, in a process with the same fds."""
        copy = cls(loop, source, sink, on_end)
        if waiting_for_room:
            copy._wait_for_room()
        return copy

    @property
    def over(self) -> bool:
        """Whether all has been moved, or given up."""
        return self._source < 0

    def _ready(self, _events: int) -> None:
        try:
            for _ in range(_TURNS):
                if not self._move():
                    return
        except OSError as err:
            # EIO: the last holder of a terminal's other side has gone. EPIPE: nobody reads.
            if err.errno not in (errno.EIO, errno.EPIPE, errno.EBADF):
                self.end()
                raise
            self.end()

    def _move(self) -> bool:
        """Move once; False when there is nothing to do now."""
        if self._pending:
            taken = self._sink.write(self._pending)
            self._pending = self._pending[taken:]
            return not self._pending or self._wait_for_room()
        if self._splice:
            return self._splice_once()
        try:
            data = os.read(self._source, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.end()
            return False
        taken = self._sink.write(data)
        if taken < len(data):
            self._pending = data[taken:]
            return self._wait_for_room()
        return True

    def _splice_once(self) -> bool:
        try:
            moved = os.splice(
                self._source, self._sink.splice_fd, _CHUNK, flags=os.SPLICE_F_NONBLOCK
            )
        except BlockingIOError:
            # Either side may be the cause: the one that is ready is not.
            return self._wait_for_room() if self._has_data() else False
        except OSError as err:
            if err.errno != errno.EINVAL:
                raise
            self._splice = False
            return True
        if not moved:
            self.end()
            return False
        return True

    def _has_data(self) -> bool:
        poller = select.poll()
        poller.register(self._source, select.POLLIN)
        return bool(poller.poll(0))

    def _wait_for_room(self) -> bool:
        if not self._waiting_for_room:
            self._waiting_for_room = True
            self._loop.unwatch(self._source)
            self._loop.watch(self._sink.poll_fd, OUT, self._room)
        return False

    def _room(self, events: int) -> None:
        self._loop.unwatch(self._sink.poll_fd)
        self._waiting_for_room = False
        if self._source < 0:
            return
        self._loop.watch(self._source, IN, self._ready)
        if events & (ERR | HUP) and not events & OUT and not self._sink.survives:
            self.end()
            return
        self._ready(events)

    def end(self) -> None:
        """Stop now; what is not moved yet is lost. Harmless twice."""
        if self._source < 0:
            return
        self._loop.unwatch(self._source)
        if self._waiting_for_room:
            self._loop.unwatch(self._sink.poll_fd)
        os.close(self._source)
        self._source = -1
        self._pending = b""
        self._sink.finish()
        if self._on_end is not None:
            self._on_end()
