"""A process's stdio in an event loop: fifos that its shim holds, read and written without threads.

    Writer ─► fifo 0 ─► shim ─► process ─► shim ─► fifo 1, 2 ─► Reader

We open the reading ends before the process exists, so that nothing it writes is lost; the shim
holds both ends of each until it is over, so a Reader sees the end only then. Nothing is read before
somebody asks: a process that writes more than the pipes hold waits, as with `subprocess`.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["Fifos", "Reader", "Writer"]

_CHUNK: Final = 1 << 16


class Fifos:
    """The folder of one process's fifos. Owns its reading ends until they are taken."""

    def __init__(self, folder: Path, *, stdin: bool, stderr: bool) -> None:
        self.folder = folder
        self._wanted = [0] * stdin + [1] + [2] * stderr
        self._ends: dict[int, int] = {}

    def make(self) -> None:
        """Make them. Blocks, shortly."""
        self.folder.mkdir(mode=0o700)
        for number in self._wanted:
            path = self.folder / str(number)
            os.mkfifo(path, 0o600)
            if number:
                self._ends[number] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def path(self, number: int) -> str:
        """Return the path of stream `number`, empty if it is not wanted."""
        return str(self.folder / str(number)) if number in self._wanted else ""

    def reader(self, number: int) -> Reader:
        """Give the reading end of stream 1 or 2 away."""
        return Reader(self._ends.pop(number))

    def writer(self, on_close: Callable[[], Awaitable[None]]) -> Writer:
        """Open stream 0; the shim has opened its end, or is done with it."""
        try:
            fd = os.open(self.folder / "0", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as err:
            if err.errno not in (errno.ENXIO, errno.ENOENT):
                raise
            fd = -1  # the process is over already
        return Writer(fd, on_close)

    def remove(self) -> None:
        """Remove the files, and close what nobody took. Harmless twice."""
        while self._ends:
            os.close(self._ends.popitem()[1])
        for number in self._wanted:
            with suppress(OSError):
                os.unlink(self.folder / str(number))
        with suppress(OSError):
            self.folder.rmdir()


class Reader:
    """What a process writes, as bytes. Owns its fd."""

    def __init__(self, fd: int) -> None:
        self._end = _End(fd, reading=True)
        self._buffer = bytearray()
        self._ended = False

    @property
    def at_eof(self) -> bool:
        """Whether nothing is left, and nothing will come."""
        return self._ended and not self._buffer

    async def _fill(self) -> bool:
        """Read some more into the buffer; False at the end."""
        while not self._ended:
            if self._end.fd < 0:
                self._ended = True
                break
            try:
                data = os.read(self._end.fd, _CHUNK)
            except BlockingIOError:
                await self._end.ready()
                continue
            if not data:
                self._ended = True
                break
            self._buffer += data
            return True
        return False

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def read(self, n: int = -1) -> bytes:
        """Return up to `n` bytes as soon as there are any, or all until the end; empty at the end.

        Cancelled, it loses nothing: the next call returns what had come.
        """
        if n < 0:
            while await self._fill():
                pass
            return self._take(len(self._buffer))
        if not self._buffer:
            await self._fill()
        return self._take(n)

    async def readline(self) -> bytes:
        """Return a line with its end, or what is left before the end."""
        at = 0
        while (end := self._buffer.find(b"\n", at)) < 0:
            at = len(self._buffer)
            if not await self._fill():
                return self._take(at)
        return self._take(end + 1)

    async def readexactly(self, n: int) -> bytes:
        """Return `n` bytes.

        Raises:
          EOFError: there are fewer before the end.
        """
        while len(self._buffer) < n:
            if not await self._fill():
                raise EOFError(f"{n} bytes were wanted, and {len(self._buffer)} came")
        return self._take(n)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield lines."""
        while line := await self.readline():
            yield line

    def close(self) -> None:
        """Read no more; the process gets SIGPIPE when it has filled its pipe and writes again."""
        self._end.close()


class Writer:
    """What a process reads, as bytes. Owns its fd."""

    def __init__(self, fd: int, on_close: Callable[[], Awaitable[None]]) -> None:
        self._end = _End(fd, reading=False)
        self._on_close = on_close
        self._told = False

    async def write(self, data: bytes | str) -> None:
        """Write all of it, waiting while the process does not read; text goes as UTF-8.

        Raises:
          BrokenPipeError: the process has closed its stdin, or is over.
        """
        left = memoryview(data.encode() if isinstance(data, str) else data)
        while left:
            if self._end.fd < 0:
                raise BrokenPipeError(errno.EPIPE, "the program reads its stdin no more")
            try:
                left = left[os.write(self._end.fd, left) :]
            except BlockingIOError:
                await self._end.ready()

    async def close(self) -> None:
        """Let the process see the end of its stdin. Harmless twice."""
        self.drop()
        if not self._told:
            self._told = True
            await self._on_close()

    def drop(self) -> None:
        """Close the fd and tell nobody."""
        self._end.close()


class _End:
    """A non-blocking fd of ours, and whoever waits for it. Owns the fd."""

    def __init__(self, fd: int, *, reading: bool) -> None:
        self.fd = fd
        self._reading = reading
        self._waiting: asyncio.Event | None = None

    async def ready(self) -> None:
        """Wait until it can be read or written, or was closed."""
        loop = asyncio.get_running_loop()
        fd, self._waiting = self.fd, asyncio.Event()
        if fd < 0:
            return
        (loop.add_reader if self._reading else loop.add_writer)(fd, self._waiting.set)
        try:
            await self._waiting.wait()
        finally:
            self._waiting = None
            if self.fd == fd:  # else it was closed, and its number may be another's
                (loop.remove_reader if self._reading else loop.remove_writer)(fd)

    def close(self) -> None:
        """Close it, and wake who waits. Harmless twice."""
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        if self._waiting is not None:
            loop = asyncio.get_running_loop()
            (loop.remove_reader if self._reading else loop.remove_writer)(fd)
            self._waiting.set()
        os.close(fd)
