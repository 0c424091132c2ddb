"""What has come for a stream and was not read yet: bounded, so that slow readers slow peers."""

from __future__ import annotations

import asyncio
from collections import deque

from sampan.cri.streaming import CHUNK_BYTES

__all__ = ["INBOX_BYTES", "TOTAL_BYTES", "Budget", "Inbox"]

INBOX_BYTES = 256 << 10
"""How much one stream may have waiting before nothing more is read from its connection.

The streams of a connection share its order, so a full stream stops the others, too, as it does with
the original; the room here is what lets a resize overtake a stdin that nobody reads.
"""


TOTAL_BYTES = 4 << 20
"""How much all streams of a connection may have waiting: a client may open 2048."""


class Budget:
    """What all inboxes of a connection hold together."""

    def __init__(self, limit_bytes: int = TOTAL_BYTES) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._roomy = asyncio.Event()
        self._roomy.set()

    @property
    def held_bytes(self) -> int:
        """How much waits to be read."""
        return self._held

    def change(self, size: int) -> None:
        """Count bytes that have come, or with a minus have gone."""
        self._held += size
        if self._held < self._limit:
            self._roomy.set()
        else:
            self._roomy.clear()

    async def room(self) -> None:
        """Wait until less than the limit is waiting."""
        await self._roomy.wait()


class Inbox:
    """Bytes in order, an end, and one reader."""

    def __init__(self, limit_bytes: int = INBOX_BYTES, budget: Budget | None = None) -> None:
        self._limit = limit_bytes
        self._budget = budget or Budget()
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._dropped = False
        self._readable = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()

    @property
    def ended(self) -> bool:
        """Whether the other side has said that no more will come."""
        return self._ended

    @property
    def full(self) -> bool:
        """Whether `room` waits."""
        return not self._roomy.is_set()

    @property
    def waiting_bytes(self) -> int:
        """How much waits to be read."""
        return self._size

    def put(self, data: bytes) -> None:
        """Add `data`; await `room` afterwards."""
        if self._ended or self._dropped or not data:
            return
        self._pieces.append(data)
        self._size += len(data)
        self._budget.change(len(data))
        self._readable.set()
        if self._size >= self._limit:
            self._roomy.clear()

    async def room(self) -> None:
        """Wait until less than the limit is waiting, here and in all of the connection."""
        await self._roomy.wait()
        await self._budget.room()

    def end(self) -> None:
        """No more will come."""
        self._ended = True
        self._readable.set()

    def drop(self) -> int:
        """Nobody will read: forget what waits, and what still comes. Return how much it was."""
        self._dropped = True
        self._pieces.clear()
        size, self._size = self._size, 0
        self._budget.change(-size)
        self._roomy.set()
        self.end()
        return size

    async def read(self, limit: int = CHUNK_BYTES) -> bytes:
        """Return 1 to `limit` bytes; b"" at the end."""
        while not self._pieces:
            if self._ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        piece = self._pieces.popleft()
        if len(piece) > limit:
            self._pieces.appendleft(piece[limit:])
            piece = piece[:limit]
        self._size -= len(piece)
        self._budget.change(-len(piece))
        if self._size < self._limit:
            self._roomy.set()
        return piece
