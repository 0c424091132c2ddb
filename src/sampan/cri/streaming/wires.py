"""A connection as bytes: from a socket, or out of the messages of a WebSocket (see `channels`).

A wire also keeps the time: one on which nothing moved for the idle timeout is cut off, which its
reader sees as the end.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

__all__ = ["SocketWire", "Wire"]

_READ_BYTES = 64 << 10
_LINGER_S = 5.0


class Wire(Protocol):
    """Bytes both ways."""

    async def read(self) -> bytes:
        """Return what came; b"" at the end, however it came about."""
        ...

    async def write(self, data: bytes) -> None:
        """Send; waits while the peer does not read.

        Raises:
          ConnectionError: the peer is gone.
        """
        ...

    async def close(self) -> None:
        """End it so that the peer gets all that was written."""
        ...


class SocketWire:
    """A TCP or TLS connection. Owns its transport."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle_timeout_s: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._idle_s = idle_timeout_s
        self._moved = self._loop.time()
        self._timer = self._loop.call_later(idle_timeout_s, self._tick)
        self.timed_out = False

    def _tick(self) -> None:
        left = self._moved + self._idle_s - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._tick)
            return
        self.timed_out = True
        self.abort()

    async def read(self) -> bytes:
        try:
            data = await self._reader.read(_READ_BYTES)
        except OSError:
            return b""
        self._moved = self._loop.time()
        return data

    async def write(self, data: bytes) -> None:
        if self._writer.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._writer.write(data)
        try:
            await self._writer.drain()
        except OSError as err:
            raise ConnectionResetError(f"the client is gone: {err}") from err
        self._moved = self._loop.time()

    def abort(self) -> None:
        """Cut it off."""
        self._timer.cancel()
        self._writer.transport.abort()

    async def close(self) -> None:
        """Send what is left, then wait a little for the peer to hang up first.

        A socket that is closed with unread bytes sends a reset, and that can destroy at the peer
        what it has not read yet: the end of stdout, or the exit status.
        """
        self._timer.cancel()
        transport = self._writer.transport
        if transport.is_closing():
            return
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                else:
                    await self._writer.drain()
                while await self._reader.read(_READ_BYTES):
                    pass
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                await self._writer.wait_closed()
        transport.abort()
