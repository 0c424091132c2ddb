"""WebSocket frames (RFC 6455) without I/O: bytes in, pieces of messages out.

    │FIN·RSV·opcode│MASK·length│(length, 2 or 8 bytes)│(mask, 4 bytes)│ payload …

The server's reader demands masks, and its writer uses none. Payloads are handed on as they come, so
that a message of any size costs no memory; control frames, of at most 125 bytes, are always whole.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = [
    "BINARY",
    "CLOSE",
    "PING",
    "PONG",
    "TEXT",
    "FrameReader",
    "Piece",
    "WebSocketError",
    "accept_key",
    "close_body",
    "pack_frame",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, GOING_AWAY, PROTOCOL_ERROR, TOO_BIG, SERVER_ERROR = 1000, 1001, 1002, 1009, 1011
_KEY_SUFFIX: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTROL_MAX_BYTES: Final = 125
_KNOWN: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})


class WebSocketError(Exception):
    """The peer broke the protocol: the connection cannot go on; `code` goes into its CLOSE."""

    def __init__(self, text: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


class Piece(NamedTuple):
    """Part of a message, or a whole control frame."""

    opcode: int
    """TEXT or BINARY for every piece of such a message."""
    data: bytes
    first: bool = True
    """Whether a message begins here."""
    last: bool = True
    """Whether the message ends here."""


class FrameReader:
    """Cuts a byte stream into pieces; holds at most one unfinished control frame."""

    def __init__(self, *, masked: bool = True) -> None:
        self._masked = masked
        self._buffer = bytearray()
        self._message = 0
        """Opcode of the message that is under way."""
        self._begun = False
        self._left = 0
        self._fin = False
        self._mask = b""

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Take `data`; yield what they complete. Exhaust it before the next call.

        Raises:
          WebSocketError: the connection is lost.
        """
        buffer = self._buffer
        buffer += data
        while True:
            if self._left:
                if not buffer:
                    return
                yield self._payload()
                continue
            head = self._head()
            if head is None:
                return
            opcode, size, at = head
            if opcode >= CLOSE:
                if len(buffer) < at + size:
                    return
                self._mask = bytes(buffer[at - 4 : at]) if self._masked else b""
                body = bytes(buffer[at : at + size])
                del buffer[: at + size]
                yield Piece(opcode, unmask(body, self._mask))
                continue
            self._begin(opcode)
            self._mask = bytes(buffer[at - 4 : at]) if self._masked else b""
            self._fin = bool(buffer[0] & 0x80)
            self._left = size
            del buffer[:at]
            if not size:
                yield self._piece(b"")

    def _head(self) -> tuple[int, int, int] | None:
        """Return opcode, size, and where the payload starts; None while that has not come."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        opcode, size = buffer[0] & 0x0F, buffer[1] & 0x7F
        if buffer[0] & 0x70:
            raise WebSocketError("reserved bits are set, and no extension was agreed")
        if opcode not in _KNOWN:
            raise WebSocketError(f"opcode {opcode}")
        if bool(buffer[1] & 0x80) != self._masked:
            raise WebSocketError("a client masks its frames, a server does not")
        if opcode >= CLOSE and (size > _CONTROL_MAX_BYTES or not buffer[0] & 0x80):
            raise WebSocketError("a control frame is too long, or in pieces")
        at = 2 + {126: 2, 127: 8}.get(size, 0) + 4 * self._masked
        if len(buffer) < at:
            return None
        if size == 126:
            (size,) = struct.unpack_from(">H", buffer, 2)
        elif size == 127:
            (size,) = struct.unpack_from(">Q", buffer, 2)
            if size >> 63:
                raise WebSocketError("a frame of 2**63 bytes or more", TOO_BIG)
        return opcode, size, at

    def _begin(self, opcode: int) -> None:
        if opcode == CONTINUATION:
            if not self._message:
                raise WebSocketError("a continuation of nothing")
            return
        if self._message:
            raise WebSocketError("a message begins within a message")
        self._message, self._begun = opcode, False

    def _payload(self) -> Piece:
        piece = bytes(memoryview(self._buffer)[: self._left])
        del self._buffer[: len(piece)]
        self._left -= len(piece)
        plain = unmask(piece, self._mask)
        turn = len(piece) % 4
        self._mask = self._mask[turn:] + self._mask[:turn]
        return self._piece(plain)

    def _piece(self, data: bytes) -> Piece:
        first, self._begun = not self._begun, True
        last = self._fin and not self._left
        made = Piece(self._message, data, first, last)
        if last:
            self._message = 0
        return made


def pack_frame(opcode: int, data: bytes, mask: bytes = b"") -> bytes:
    """Return a whole message, or a control frame, as one frame; a client gives a `mask` of 4."""
    size = len(data)
    bit = 0x80 if mask else 0
    if size < 126:
        head = struct.pack(">BB", 0x80 | opcode, bit | size)
    elif size < 1 << 16:
        head = struct.pack(">BBH", 0x80 | opcode, bit | 126, size)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, bit | 127, size)
    return head + mask + unmask(data, mask)


def unmask(data: bytes, mask: bytes) -> bytes:
    """Return `data` XOR the repeated `mask`, which is its own inverse."""
    if not mask or not data:
        return data
    size = len(data)
    # One long integer: a thousand times faster than a loop over bytes.
    whole = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ whole).to_bytes(size, "little")


def close_body(code: int, reason: str = "") -> bytes:
    """Return the payload of a CLOSE frame."""
    return struct.pack(">H", code) + reason.encode()[: _CONTROL_MAX_BYTES - 2]


def accept_key(key: str) -> str:
    """Return Sec-WebSocket-Accept for a Sec-WebSocket-Key."""
    digest = hashlib.sha1(key.encode("latin-1") + _KEY_SUFFIX, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()
