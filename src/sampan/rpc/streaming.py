"""Streaming calls of the synchronous server: the handler's end of one.

    async def follow(argument, context):            # Method(Request, follow, streams=True)
        while (item := await context.stream.receive()) is not None:
            await context.stream.send(Answer(...))

    REQUEST, flag REMOTE_OPEN      the client will send; `argument` is None
    REQUEST, flag REMOTE_CLOSED    the client has said all: `argument`
    DATA ...                       both ways; the client's last has REMOTE_CLOSED
    DATA, REMOTE_CLOSED, NO_DATA   the handler has returned
    RESPONSE with a status         the handler has raised

Source: containerd/ttrpc PROTOCOL.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sampan.errors import ResourceExhausted, SampanError, Unavailable
from sampan.rpc.frames import DATA, NO_DATA, REMOTE_CLOSED, Frame, Oversized, pack_frame
from sampan.rpc.loop import Future
from sampan.rpc.wire import Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Stream"]

_UNREAD_MAX = 256


class Stream:
    """Messages either way; made by the connection."""

    def __init__(
        self,
        number: int,
        kind: type[Message],
        write: Callable[[bytes], None],
        room: Callable[[], Future[None]],
        *,
        open: bool,
    ) -> None:
        """Begin; `write` queues a frame, `room` is done when there is room for more."""
        self._number = number
        self._kind = kind
        self._write = write
        self._room = room
        self._unread: deque[Message] = deque()
        self._open = open
        self._error: SampanError | None = None
        self._news: Future[None] | None = None

    async def receive(self) -> Any:
        """Return the client's next message; None after its last.

        Raises:
          Unavailable: the client has hung up. ResourceExhausted: it sends faster than we read.
          DecodeError: what it sent is no message of this call.
        """
        while not self._unread and self._open and self._error is None:
            self._news = Future()
            await self._news
        if self._unread:
            return self._unread.popleft()
        if self._error is not None:
            raise self._error
        return None

    async def send(self, message: Message) -> None:
        """Send a message, when the client has taken enough of those before.

        Raises:
          Unavailable: it has hung up.
        """
        await self._room()
        if isinstance(self._error, Unavailable):
            raise self._error
        self._write(pack_frame(self._number, DATA, 0, bytes(message)))

    def feed(self, frame: Frame) -> None:
        """Take a frame of DATA from the connection."""
        try:
            if isinstance(frame, Oversized):
                raise ResourceExhausted(f"message length {frame.size_bytes} exceed maximum size")
            if not frame.flags & NO_DATA:
                if len(self._unread) >= _UNREAD_MAX:
                    raise ResourceExhausted(f"more than {_UNREAD_MAX} messages unread")
                self._unread.append(self._kind.decode(frame.data))
        except SampanError as error:
            self._error = error
        if frame.flags & REMOTE_CLOSED:
            self._open = False
        self._tell()

    def lose(self) -> None:
        """The connection has closed."""
        self._error = Unavailable("ttrpc: the peer has hung up")
        self._tell()

    def end(self) -> bytes:
        """Return the frame that says that the handler has returned."""
        return pack_frame(self._number, DATA, REMOTE_CLOSED | NO_DATA, b"")

    def _tell(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.set(None)
