"""SPDY/3.1 without I/O: bytes in, frames out.

    control  │1│ version 3 │ type │ flags │ length │ body …        big endian; a word is 4 bytes:
    data     │0│ stream            │ flags │ length │ bytes …      1+15+16 and 8+24 bits

    SYN_STREAM 1   stream, associated stream, priority, names and values
    SYN_REPLY 2    stream, names and values             HEADERS 8   likewise
    RST_STREAM 3   stream, status                       GOAWAY 7    last stream, status
    SETTINGS 4     count, then flags and id, value      PING 6      id
    WINDOW_UPDATE 9  stream (0: the connection), bytes that may be sent in addition

Names and values are compressed with zlib, one stream of it for each direction of the connection, on
top of a dictionary that both sides know. Data are handed on as they come: a frame of 16 MiB is
never held in memory.

Source: SPDY protocol, draft 3.1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

__all__ = [
    "CANCEL",
    "FIN",
    "INITIAL_WINDOW_SIZE",
    "PROTOCOL_ERROR",
    "REFUSED_STREAM",
    "UNIDIRECTIONAL",
    "Data",
    "Frame",
    "FrameReader",
    "FrameWriter",
    "GoAway",
    "Headers",
    "Ping",
    "Reset",
    "Settings",
    "SpdyError",
    "SynReply",
    "SynStream",
    "WindowUpdate",
]

FIN: Final = 1
UNIDIRECTIONAL: Final = 2
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL = 1, 2, 3, 5
INITIAL_WINDOW_SIZE: Final = 7
"""The only setting that matters here."""
CONTROL_MAX_BYTES: Final = 64 << 10
"""Longest body of a control frame that we accept; real ones take less than 300 bytes."""
HEADERS_MAX_BYTES: Final = 64 << 10
HEADERS_MAX: Final = 100

_VERSION = 3
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _SETTINGS, _PING = 1, 2, 3, 4, 6
_GOAWAY, _HEADERS, _WINDOW_UPDATE = 7, 8, 9
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language "
    "accept-ranges age allow authorization cache-control connection content-base content-encoding "
    "content-language content-length content-location content-md5 content-range content-type date "
    "etag expect expires from host if-match if-modified-since if-none-match if-range "
    "if-unmodified-since last-modified location max-forwards pragma proxy-authenticate "
    "proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url "
    "public set-cookie keep-alive origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 "
    "Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
    "gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY: Final = (
    b"".join(
        struct.pack(">I", len(word)) + word.replace("_", " ").encode() for word in _WORDS.split()
    )
    + _TAIL.encode()
)


class SpdyError(Exception):
    """The peer broke the protocol: the connection cannot go on."""


class SynStream(NamedTuple):
    """A stream begins."""

    stream: int
    headers: dict[str, str]
    flags: int = 0
    associated: int = 0
    priority: int = 0


class SynReply(NamedTuple):
    """The other side has accepted a stream."""

    stream: int
    headers: dict[str, str]
    flags: int = 0


class Headers(NamedTuple):
    """More headers of a stream."""

    stream: int
    headers: dict[str, str]
    flags: int = 0


class Reset(NamedTuple):
    """A stream is over in both directions."""

    stream: int
    status: int


class Settings(NamedTuple):
    """Parameters of the connection, by id."""

    values: dict[int, int]


class Ping(NamedTuple):
    """To be sent back by whoever did not choose the id."""

    id: int


class GoAway(NamedTuple):
    """No new streams."""

    last_stream: int
    status: int = 0


class WindowUpdate(NamedTuple):
    """So many more bytes may be sent; stream 0 is the whole connection."""

    stream: int
    delta: int


class Data(NamedTuple):
    """A piece of a stream; FIN ends its direction."""

    stream: int
    data: bytes
    flags: int = 0


Frame = SynStream | SynReply | Headers | Reset | Settings | Ping | GoAway | WindowUpdate | Data


class FrameReader:
    """Cuts a byte stream into frames; holds at most one unfinished control frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._stream = 0
        self._left = 0
        """Bytes of the current data frame that have not come yet."""
        self._flags = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take `data`; yield the frames that they complete. Exhaust it before the next call.

        Raises:
          SpdyError: the connection is lost.
        """
        buffer = self._buffer
        buffer += data
        while buffer:
            if self._left:
                piece = bytes(memoryview(buffer)[: self._left])
                del buffer[: len(piece)]
                self._left -= len(piece)
                yield Data(self._stream, piece, 0 if self._left else self._flags)
                continue
            if len(buffer) < 8:
                return
            first, second = struct.unpack_from(">II", buffer)
            length = second & 0xFFFFFF
            if not first >> 31:
                del buffer[:8]
                if not first:
                    raise SpdyError("data on stream 0")
                self._stream, self._left, self._flags = first, length, second >> 24
                if not length:
                    yield Data(first, b"", second >> 24)
                continue
            if length > CONTROL_MAX_BYTES:
                raise SpdyError(f"a control frame of {length} bytes")
            if len(buffer) < 8 + length:
                return
            body = bytes(memoryview(buffer)[8 : 8 + length])
            del buffer[: 8 + length]
            frame = self._control(first, second >> 24, body)
            if frame is not None:
                yield frame

    def _control(self, first: int, flags: int, body: bytes) -> Frame | None:
        if first >> 16 & 0x7FFF != _VERSION:
            raise SpdyError(f"SPDY version {first >> 16 & 0x7FFF}")
        try:
            return self._parsed(first & 0xFFFF, flags, body)
        except struct.error as err:
            raise SpdyError(f"a frame of type {first & 0xFFFF} is cut short") from err

    def _parsed(self, kind: int, flags: int, body: bytes) -> Frame | None:
        if kind == _SYN_STREAM:
            stream, associated, priority = struct.unpack_from(">IIB", body)
            headers = self._headers(body[10:])
            return SynStream(_id(stream), headers, flags, associated & 0x7FFFFFFF, priority >> 5)
        if kind in {_SYN_REPLY, _HEADERS}:
            (stream,) = struct.unpack_from(">I", body)
            made = SynReply if kind == _SYN_REPLY else Headers
            return made(_id(stream), self._headers(body[4:]), flags)
        if kind == _PING:
            return Ping(*struct.unpack_from(">I", body))
        if kind == _SETTINGS:
            (count,) = struct.unpack_from(">I", body)
            pairs = (struct.unpack_from(">II", body, 4 + 8 * i) for i in range(count))
            return Settings({key & 0xFFFFFF: value for key, value in pairs})
        if kind in {_RST_STREAM, _GOAWAY, _WINDOW_UPDATE}:
            stream, word = struct.unpack_from(">II", body)
            stream &= 0x7FFFFFFF
            if kind == _RST_STREAM:
                return Reset(stream, word)
            if kind == _GOAWAY:
                return GoAway(stream, word)
            return WindowUpdate(stream, word & 0x7FFFFFFF)
        return None  # an extension: the draft wants it ignored

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, HEADERS_MAX_BYTES)
        except zlib.error as err:
            raise SpdyError(f"a block of headers: {err}") from err
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"a block of headers of more than {HEADERS_MAX_BYTES} bytes")
        (count,) = struct.unpack_from(">I", plain)
        if count > HEADERS_MAX:
            raise SpdyError(f"{count} headers of one stream")
        headers: dict[str, str] = {}
        at = 4
        for _ in range(count):
            name, at = _text(plain, at)
            value, at = _text(plain, at)
            if name.lower() in headers:
                raise SpdyError(f"header {name} comes twice")
            headers[name.lower()] = value
        return headers


def _id(stream: int) -> int:
    stream &= 0x7FFFFFFF
    if not stream:
        raise SpdyError("headers of stream 0")
    return stream


def _text(plain: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">I", plain, at)
    end = at + 4 + size
    if end > len(plain):
        raise SpdyError("a header is cut short")
    return plain[at + 4 : end].decode("utf-8", "replace"), end


class FrameWriter:
    """Makes frames to send, in the order of the calls: the compression of headers goes on."""

    def __init__(self) -> None:
        # A window of 2 KiB holds the dictionary, and takes 16 KiB of memory; the default, 256 KiB.
        self._deflate = zlib.compressobj(wbits=11, memLevel=4, zdict=DICTIONARY)

    def pack(self, frame: Frame) -> bytes:
        """Return `frame` as it is sent.

        Raises:
          ValueError: Data of 16 MiB or more.
        """
        match frame:
            case Data(stream, data, flags):
                return data_head(stream, len(data), flags) + data
            case SynStream(stream, headers, flags, associated, priority):
                head = struct.pack(">IIBB", stream, associated, priority << 5, 0)
                return _frame(_SYN_STREAM, flags, head + self._headers(headers))
            case SynReply(stream, headers, flags):
                body = struct.pack(">I", stream) + self._headers(headers)
                return _frame(_SYN_REPLY, flags, body)
            case Headers(stream, headers, flags):
                body = struct.pack(">I", stream) + self._headers(headers)
                return _frame(_HEADERS, flags, body)
            case Reset(stream, status):
                return _frame(_RST_STREAM, 0, struct.pack(">II", stream, status))
            case Settings(values):
                pairs = b"".join(struct.pack(">II", *pair) for pair in values.items())
                return _frame(_SETTINGS, 0, struct.pack(">I", len(values)) + pairs)
            case Ping(id):
                return _frame(_PING, 0, struct.pack(">I", id))
            case GoAway(last_stream, status):
                return _frame(_GOAWAY, 0, struct.pack(">II", last_stream, status))
            case WindowUpdate(stream, delta):
                return _frame(_WINDOW_UPDATE, 0, struct.pack(">II", stream, delta))

    def _headers(self, headers: Mapping[str, str]) -> bytes:
        plain = bytearray(struct.pack(">I", len(headers)))
        for name, value in headers.items():
            for text in (name.lower(), value):
                raw = text.encode()
                plain += struct.pack(">I", len(raw)) + raw
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def data_head(stream: int, size_bytes: int, flags: int = 0) -> bytes:
    """Return what stands before `size_bytes` of data."""
    if size_bytes >= 1 << 24:
        raise ValueError(f"{size_bytes} bytes do not fit in a frame")
    return struct.pack(">II", stream, flags << 24 | size_bytes)


def _frame(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack(">HHI", 0x8000 | _VERSION, kind, flags << 24 | len(body)) + body
