"""Channels over a WebSocket: the first byte of each message says which stream it belongs to.

    binary   │ number │ bytes …        channel.k8s.io, v4., v5.channel.k8s.io, or none asked for
    text     │ '0' + number │ base64 … base64.channel.k8s.io, v4.base64.channel.k8s.io
    v5       │ 255 │ number │          the sender closes that channel: the end of stdin

`TunnelWire` is the other use: the messages are the bytes of a SPDY connection.

Source: k8s.io/streaming wsstream; KEP-4006.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
from collections import deque
from collections.abc import Collection

from sampan.cri.streaming import CHUNK_BYTES
from sampan.cri.streaming.inbox import Inbox
from sampan.cri.streaming.websocket import (
    BINARY,
    CLOSE,
    NORMAL,
    PING,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    FrameReader,
    Piece,
    WebSocketError,
    close_body,
    pack_frame,
)
from sampan.cri.streaming.wires import Wire

__all__ = ["Channel", "Channels", "TunnelWire", "WebSocket"]

log = logging.getLogger(__name__)

_CLOSE_SIGNAL = 255
_TEXT_MAX_BYTES = 1 << 20
"""Longest message of base64 that we take."""


class WebSocket:
    """Messages over a wire: answers pings, and ends with the CLOSE that the protocol wants."""

    def __init__(self, wire: Wire, *, server: bool = True) -> None:
        self._wire = wire
        self._frames = FrameReader(masked=server)
        self._pieces: deque[Piece] = deque()
        self._mask = b"" if server else b"\x5a\x00\xa5\xff"
        self._closed = False

    async def receive(self) -> Piece | None:
        """Return the next piece of a message; None when the peer has closed, or is gone."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                if piece.opcode == PING:
                    await self._reply(pack_frame(PING + 1, piece.data, self._mask))
                elif piece.opcode == CLOSE:
                    code = int.from_bytes(piece.data[:2], "big") or NORMAL
                    await self.close(code)
                    return None
                elif piece.opcode in {TEXT, BINARY}:
                    return piece
            data = await self._wire.read()
            if not data:
                return None
            try:
                self._pieces.extend(self._frames.feed(data))
            except WebSocketError as err:
                await self.fail(err)
                return None

    async def fail(self, error: WebSocketError) -> None:
        """Say why we close, to the peer and to the log."""
        log.info("streaming connection ended: the client sent %s", error)
        await self.close(error.code, str(error))

    async def _reply(self, data: bytes) -> None:
        if not self._closed:
            with contextlib.suppress(ConnectionError):
                await self._wire.write(data)

    async def send(self, data: bytes, opcode: int = BINARY) -> None:
        """Send one message.

        Raises:
          ConnectionError: the peer has closed, or is gone.
        """
        if self._closed:
            raise ConnectionResetError("the client has closed the connection")
        await self._wire.write(pack_frame(opcode, data, self._mask))

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Send CLOSE, once. The wire is closed by who owns it."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(ConnectionError):
                await self._wire.write(pack_frame(CLOSE, close_body(code, reason), self._mask))


class Channel:
    """One of the channels: what `Duplex` promises."""

    def __init__(self, owner: Channels, number: int) -> None:
        self._owner = owner
        self._number = number
        self._closed = False
        self.inbox = Inbox()

    async def read(self, limit: int = CHUNK_BYTES) -> bytes:
        """Return 1 to `limit` bytes; b"" when the peer has closed the channel, or is gone."""
        return await self.inbox.read(limit)

    async def write(self, data: bytes) -> None:
        """Send all of `data`; no data is an empty message.

        Raises:
          ConnectionError: we have closed the channel, or the peer is gone.
        """
        if self._closed:
            raise BrokenPipeError("the channel is closed")
        for at in range(0, len(data) or 1, CHUNK_BYTES):
            await self._owner.send(self._number, data[at : at + CHUNK_BYTES])

    async def close(self) -> None:
        """Refuse further writes: these protocols have no word for it towards the client."""
        self._closed = True


class Channels:
    """The channels of a WebSocket. `run` reads until the client has closed, or is gone."""

    def __init__(
        self, socket: WebSocket, count: int, readable: Collection[int], protocol: str
    ) -> None:
        self._socket = socket
        self._base64 = "base64." in protocol
        self._can_close = protocol.startswith("v5.")
        self._text = b""
        self._number = -1
        self._closes = False
        """Whether a v5 close signal is coming in."""
        self._channels = [Channel(self, number) for number in range(count)]
        for number in range(count):
            if number not in readable:
                self._channels[number].inbox.drop()

    def __getitem__(self, number: int) -> Channel:
        return self._channels[number]

    async def send(self, number: int, data: bytes) -> None:
        """Send one message on a channel."""
        if self._base64:
            await self._socket.send(bytes((ord("0") + number,)) + base64.b64encode(data), TEXT)
        else:
            await self._socket.send(bytes((number,)) + data)

    async def run(self) -> None:
        """Sort what comes into the channels."""
        try:
            while (piece := await self._socket.receive()) is not None:
                await self._take(piece)
        except WebSocketError as err:
            await self._socket.fail(err)
        finally:
            for channel in self._channels:
                channel.inbox.end()

    async def _take(self, piece: Piece) -> None:
        data = piece.data
        if self._base64 or self._closes:
            return await self._whole(piece)
        if piece.first:
            self._number = -1
        if self._number < 0:
            if not data:
                return None
            self._number, data = data[0], data[1:]
            if self._can_close and self._number == _CLOSE_SIGNAL:
                self._closes = True
                return await self._whole(piece._replace(data=data))
        if self._number < len(self._channels):
            await self._put(self._number, data)
        return None

    async def _whole(self, piece: Piece) -> None:
        """Messages that are only understood when they are complete."""
        self._text += piece.data
        if len(self._text) > _TEXT_MAX_BYTES:
            raise WebSocketError(f"a message of more than {_TEXT_MAX_BYTES} bytes", TOO_BIG)
        if not piece.last:
            return
        text, self._text = self._text, b""
        if self._closes:
            self._closes = False
            if len(text) != 1 or text[0] >= len(self._channels):
                raise WebSocketError("a close signal of no channel", PROTOCOL_ERROR)
            self._channels[text[0]].inbox.end()
        elif text:
            try:
                data = base64.b64decode(text[1:], validate=True)
            except binascii.Error as err:
                raise WebSocketError(f"base64: {err}", PROTOCOL_ERROR) from err
            number = text[0] - ord("0")
            if 0 <= number < len(self._channels):
                await self._put(number, data)

    async def _put(self, number: int, data: bytes) -> None:
        inbox = self._channels[number].inbox
        inbox.put(data)
        await inbox.room()


class TunnelWire:
    """A `Wire` whose bytes travel in binary messages."""

    def __init__(self, socket: WebSocket, below: Wire) -> None:
        self._socket = socket
        self._below = below

    async def read(self) -> bytes:
        while (piece := await self._socket.receive()) is not None:
            if piece.data:
                return piece.data
        return b""

    async def write(self, data: bytes) -> None:
        await self._socket.send(data)

    async def close(self) -> None:
        await self._socket.close()
        await self._below.close()
