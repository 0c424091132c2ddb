"""Both directions of ttrpc over one socket: we call the plugin, and the plugin calls us.

socket ─▶ PieceReader ─┬─ 1 ─▶ Connection (answers to our calls)
                       └─ 2 ─▶ Server     (the plugin's calls)
socket ◀─ pieces_of ◀──┴────── both write whole frames
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from google.protobuf.message import DecodeError as BadMessage
from google.protobuf.message import Message as ProtoMessage

from sampan.cri.nri.mux import PLUGIN, RUNTIME, MuxError, PieceReader, pieces_of
from sampan.errors import InvalidArgument, Unknown
from sampan.rpc.aio import Connection, Server
from sampan.rpc.wire import Message

__all__ = ["Handlers", "Raw", "Trunk"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=ProtoMessage)

Handlers = Mapping[str, tuple[type[Any], Callable[[Any], Awaitable[ProtoMessage]]]]
"""Methods of the Runtime service: type of the request, and what answers it."""

PLUGIN_SERVICE = "nri.pkg.api.v1alpha1.Plugin"
RUNTIME_SERVICE = "nri.pkg.api.v1alpha1.Runtime"


class Raw(Message, name="nri"):
    """Any message: our codec keeps what it does not know, which here is everything."""


class _Lane:
    """The writing side of one connection: what `Connection` and `Server` need of a StreamWriter."""

    def __init__(self, number: int, writer: asyncio.StreamWriter) -> None:
        self._number = number
        self._writer = writer

    def write(self, data: bytes) -> None:
        # Both write whole frames, one a call.
        self._writer.write(pieces_of(self._number, data))

    async def drain(self) -> None:
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()

    async def wait_closed(self) -> None:
        await self._writer.wait_closed()


class Trunk:
    """One plugin's socket. Owns it; `closed` is done when it has ended, from either side."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handlers: Handlers,
    ) -> None:
        """Speak over a connected socket.

        Args:
          reader: Of the socket.
          writer: Of the socket.
          handlers: Methods of the Runtime service.
        """
        self._reader = reader
        self._writer = writer
        self._lanes = {PLUGIN: asyncio.StreamReader(), RUNTIME: asyncio.StreamReader()}
        methods = {name: (Raw, _handler(kind, fn)) for name, (kind, fn) in handlers.items()}
        self._server = Server({RUNTIME_SERVICE: methods})
        lane = cast(asyncio.StreamWriter, _Lane(PLUGIN, writer))
        self._client = Connection(self._lanes[PLUGIN], lane)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._read(), name="nri trunk"),
            loop.create_task(self._serve(), name="nri runtime service"),
        ]
        self.closed = self._client.closed

    @classmethod
    async def over(
        cls,
        sock: socket.socket,
        handlers: Handlers,
    ) -> Trunk:
        """Speak over a connected socket, which becomes ours."""
        sock.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        return cls(reader, writer, handlers)

    async def call(
        self, method: str, request: ProtoMessage, answer: type[M], timeout_s: float
    ) -> M:
        """Call a method of the Plugin service.

        Raises:
          SampanError: the plugin's answer; Unavailable, it is gone; DeadlineExceeded.
        """
        packed = Raw.decode(request.SerializeToString())
        raw = await self._client.call(PLUGIN_SERVICE, method, packed, Raw, timeout_s=timeout_s)
        try:
            return answer.FromString(bytes(raw))
        except BadMessage as err:
            raise Unknown(f"NRI: answer to {method} is malformed") from err

    async def _read(self) -> None:
        pieces = PieceReader()
        try:
            while data := await self._reader.read(64 << 10):
                for number, body in pieces.feed(data):
                    # Unknown connections are dropped, as the original does.
                    if (lane := self._lanes.get(number)) is not None:
                        lane.feed_data(body)
        except (OSError, MuxError) as err:
            log.info("connection of an NRI plugin lost: %s", err)
        finally:
            for lane in self._lanes.values():
                lane.feed_eof()

    async def _serve(self) -> None:
        lane = cast(asyncio.StreamWriter, _Lane(RUNTIME, self._writer))
        with contextlib.suppress(OSError):
            await self._server.serve(self._lanes[RUNTIME], lane)

    async def close(self) -> None:
        """Hang up, and wait until all of it has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._client.wait_closed()


def _handler(
    kind: type[ProtoMessage], answer: Callable[[Any], Awaitable[ProtoMessage]]
) -> Callable[[Any, Mapping[str, str]], Awaitable[Message]]:
    async def handle(raw: Raw, metadata: Mapping[str, str]) -> Message:
        try:
            request = kind.FromString(bytes(raw))
        except BadMessage as err:
            raise InvalidArgument(f"NRI: {kind.__name__} is malformed") from err
        return Raw.decode((await answer(request)).SerializeToString())

    return handle
