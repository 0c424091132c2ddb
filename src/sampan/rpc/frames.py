"""ttrpc's frames, without I/O: bytes in, frames out.

    0       4          8     9      10
    ┌───────┬──────────┬─────┬──────┬───────────────┐
    │length │ stream   │type │flags │ data …        │      big endian
    └───────┴──────────┴─────┴──────┴───────────────┘

The data of REQUEST and RESPONSE are `messages.wellknown.Request` and `Response`, that of DATA is
the bare message of a stream. A frame that announces more than 4 MiB is swallowed byte by byte and
reported as an `Oversized`; the connection lives on, as containerd's does.

Source: containerd/ttrpc PROTOCOL.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sampan.errors import ResourceExhausted
from sampan.rpc import MESSAGE_MAX_BYTES
from sampan.rpc.wire import DecodeError

__all__ = [
    "DATA",
    "NO_DATA",
    "REMOTE_CLOSED",
    "REMOTE_OPEN",
    "REQUEST",
    "RESPONSE",
    "Frame",
    "FrameReader",
    "Oversized",
    "pack_frame",
]

REQUEST, RESPONSE, DATA = 1, 2, 3
REMOTE_CLOSED, REMOTE_OPEN, NO_DATA = 1, 2, 4

_HEADER = struct.Struct(">IIBB")


class Frame:
    """One whole frame."""

    __slots__ = ("data", "flags", "stream", "type")

    def __init__(self, stream: int, type: int, flags: int = 0, data: bytes = b"") -> None:
        self.stream = stream
        self.type = type
        self.flags = flags
        self.data = data

    def __repr__(self) -> str:
        return f"Frame({self.stream}, {self.type}, {self.flags}, {len(self.data)} bytes)"


class Oversized(Frame):
    """A frame whose data were too long and are gone; `size_bytes` is what it announced."""

    __slots__ = ("size_bytes",)

    def __init__(self, stream: int, type: int, flags: int, size_bytes: int) -> None:
        super().__init__(stream, type, flags)
        self.size_bytes = size_bytes


def pack_frame(stream: int, type: int, flags: int, data: bytes) -> bytes:
    """Return a frame as it is sent.

    Raises:
      ResourceExhausted: `data` are longer than 4 MiB.
    """
    if len(data) > MESSAGE_MAX_BYTES:
        raise ResourceExhausted(
            f"message length {len(data)} exceed maximum message size of {MESSAGE_MAX_BYTES}"
        )
    return _HEADER.pack(len(data), stream, type, flags) + data


class FrameReader:
    """Cuts a byte stream into frames; holds at most one unfinished frame."""

    __slots__ = ("_buffer", "_skip")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0

    @property
    def idle(self) -> bool:
        """Whether the stream could end here without cutting a frame in two."""
        return not self._buffer and not self._skip

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take `data`; yield the frames that they complete. Exhaust it before the next call.

        Raises:
          DecodeError: a frame of stream 0 or of an unknown type; the connection is lost.
        """
        buffer = self._buffer
        buffer += data
        while True:
            if self._skip:
                gone = min(self._skip, len(buffer))
                del buffer[:gone]
                self._skip -= gone
                if self._skip:
                    return
            if len(buffer) < _HEADER.size:
                return
            size, stream, kind, flags = _HEADER.unpack_from(buffer)
            if not stream or not REQUEST <= kind <= DATA:
                raise DecodeError(f"ttrpc: frame of type {kind} on stream {stream}")
            if size > MESSAGE_MAX_BYTES:
                del buffer[: _HEADER.size]
                self._skip = size
                yield Oversized(stream, kind, flags, size)
                continue
            end = _HEADER.size + size
            if len(buffer) < end:
                return
            body = bytes(memoryview(buffer)[_HEADER.size : end])
            del buffer[:end]
            yield Frame(stream, kind, flags, body)
