"""Several connections over one socket, without I/O: a header before each piece of bytes.

    │ connection id, 4 bytes │ length, 4 bytes │ bytes …        big endian

Connection 1 carries the plugin's ttrpc service, which we call; 2 carries ours, which the plugin
calls. Nothing opens or closes one: both exist from the beginning.

Source: containerd/nri pkg/net/multiplex.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

__all__ = ["PIECE_MAX_BYTES", "PLUGIN", "RUNTIME", "MuxError", "PieceReader", "pieces_of"]

PLUGIN, RUNTIME = 1, 2
PIECE_MAX_BYTES: Final = (4 << 20) + 10
"""A whole ttrpc frame fits."""
_FIRST_BYTES: Final = 4096
_HEADER = struct.Struct(">II")


class MuxError(Exception):
    """The peer broke the protocol: the connection cannot go on."""


class PieceReader:
    """Cuts a byte stream into pieces; holds at most one unfinished one."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take `data`; yield connection and bytes of what they complete.

        Raises:
          MuxError: a piece longer than any ttrpc frame.
        """
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _HEADER.size:
            connection, size = _HEADER.unpack_from(buffer)
            if size > PIECE_MAX_BYTES:
                raise MuxError(f"a piece of {size} bytes")
            end = _HEADER.size + size
            if len(buffer) < end:
                return
            body = bytes(memoryview(buffer)[_HEADER.size : end])
            del buffer[:end]
            yield connection, body


def pieces_of(connection: int, frame: bytes) -> bytes:
    """Return one ttrpc frame as it is sent.

    Go's reader takes each piece by one read: the first into a buffer of 4096 bytes, and what is
    left of the frame into place. A longer first piece would break its connection.
    """
    first, rest = frame[:_FIRST_BYTES], frame[_FIRST_BYTES:]
    sent = _HEADER.pack(connection, len(first)) + first
    if rest:
        sent += _HEADER.pack(connection, len(rest)) + rest
    return sent
