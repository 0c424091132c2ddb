"""The streams that are open, by namespace and id."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from grpclib.exceptions import ProtocolError, StreamTerminatedError

from sampan import context
from sampan.errors import AlreadyExists, InvalidArgument, NotFound

__all__ = ["Carrier", "Stream", "Streams", "pack"]

_QUEUE_MAX: Final = 16
"""Messages of the client that wait for their reader; then HTTP/2 slows the client down."""


class Carrier(Protocol):
    """What messages to the client are put on."""

    async def send_message(self, message: AnyMessage) -> None: ...


def pack(message: Message) -> AnyMessage:
    """Return a message in an Any whose type URL is its bare name, as containerd's are."""
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


class Stream:
    """One open stream. Whichever side is done first ends it for both."""

    def __init__(self, carrier: Carrier) -> None:
        """Speak over `carrier`, whose own messages come by `push`."""
        self._carrier = carrier
        self._queue: deque[AnyMessage] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._finished = False
        self.closed = asyncio.Event()
        """Set when nobody will use the stream any more."""

    async def push(self, message: AnyMessage) -> None:
        """Take a message of the client; waits while the reader is behind."""
        while len(self._queue) >= _QUEUE_MAX and not self.closed.is_set():
            self._room.clear()
            await self._room.wait()
        self._queue.append(message)
        self._changed.set()

    def finish(self) -> None:
        """The client sends no more; what it sent can still be received."""
        self._finished = True
        self._changed.set()

    async def receive(self) -> AnyMessage | None:
        """Return the client's next message; None at the end, however it came."""
        while not self._queue:
            if self._finished or self.closed.is_set():
                return None
            self._changed.clear()
            await self._changed.wait()
        self._room.set()
        return self._queue.popleft()

    async def send(self, message: Message) -> bool:
        """Send a message; False where the client is gone, which is its right."""
        if self.closed.is_set():
            return False
        try:
            await self._carrier.send_message(pack(message))
        except (StreamTerminatedError, ProtocolError, ConnectionError):
            self.close()
            return False
        return True

    def close(self) -> None:
        """End it; the client sees the end of its call."""
        self.closed.set()
        self._changed.set()
        self._room.set()


class Streams:
    """All streams of all namespaces; a name is free again when its stream has ended."""

    def __init__(self) -> None:
        self._streams: dict[tuple[str, str], Stream] = {}

    def add(self, id: str, stream: Stream) -> None:
        """Let the request's namespace know `stream` as `id`.

        Raises:
          AlreadyExists: it has one of that name.
        """
        if not id:
            raise InvalidArgument("stream has no id: the first message must be a StreamInit")
        key = (context.namespace(), id)
        if key in self._streams:
            raise AlreadyExists(f"stream {id}: already exists")
        self._streams[key] = stream

    def get(self, id: str) -> Stream:
        """Return an open stream of the request's namespace.

        Raises:
          NotFound: there is none of that name.
        """
        found = self._streams.get((context.namespace(), id))
        if found is None or found.closed.is_set():
            raise NotFound(f"stream {id}: not found")
        return found

    def remove(self, id: str, stream: Stream) -> None:
        """Forget `stream`, if it still has the name."""
        key = (context.namespace(), id)
        if self._streams.get(key) is stream:
            del self._streams[key]
        stream.close()
