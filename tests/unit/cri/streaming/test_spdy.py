"""SPDY frames: round trips in any pieces, the standard's dictionary, and hostile input."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cri.streaming.spdy import (
    DICTIONARY,
    FIN,
    Data,
    Frame,
    FrameReader,
    FrameWriter,
    GoAway,
    Headers,
    Ping,
    Reset,
    Settings,
    SpdyError,
    SynReply,
    SynStream,
    WindowUpdate,
)

ids = st.integers(1, 2**31 - 1)
words = st.integers(0, 2**31 - 1)
names = st.text(st.characters(codec="ascii", exclude_characters="\0", categories=["L"]), min_size=1)
headers = st.dictionaries(names.map(str.lower), st.text(max_size=40), max_size=5)
flags = st.integers(0, 1)
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(SynStream, ids, headers, flags, words, st.integers(0, 7)),
    st.builds(SynReply, ids, headers, flags),
    st.builds(Headers, ids, headers, flags),
    st.builds(Reset, ids, words),
    st.builds(Settings, st.dictionaries(st.integers(0, 2**24 - 1), words, max_size=4)),
    st.builds(Ping, words),
    st.builds(GoAway, words, words),
    st.builds(WindowUpdate, words, words),
)


@given(st.lists(frames, max_size=8), st.data())
def test_control_frames_come_back_in_any_pieces(sent: list[Frame], data: st.DataObject) -> None:
    writer, reader = FrameWriter(), FrameReader()
    stream = b"".join(map(writer.pack, sent))
    got: list[Frame] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += reader.feed(stream[:size])
        stream = stream[size:]
    assert got == sent


@given(st.binary(max_size=400), st.integers(1, 50), flags)
def test_data_come_as_they_arrive(body: bytes, step: int, fin: int) -> None:
    stream = FrameWriter().pack(Data(7, body, fin)) + FrameWriter().pack(Ping(3))
    reader = FrameReader()
    got = [one for at in range(0, len(stream), step) for one in reader.feed(stream[at : at + step])]
    assert got.pop() == Ping(3)
    pieces = [one for one in got if isinstance(one, Data)]
    assert (len(pieces), b"".join(one.data for one in pieces)) == (len(got), body)
    assert [one.flags for one in pieces] == [0] * (len(pieces) - 1) + [fin]


@given(st.binary(max_size=300))
def test_any_bytes_end_in_frames_or_an_error(data: bytes) -> None:
    with suppress(SpdyError):
        for frame in FrameReader().feed(data):
            assert frame


@given(st.binary(max_size=100))
def test_any_block_of_headers(block: bytes) -> None:
    frame = struct.pack(">HHIII", 0x8003, 1, 10 + len(block), 1, 0) + b"\0\0" + block
    with suppress(SpdyError):
        list(FrameReader().feed(frame))


def _syn(plain: bytes) -> bytes:
    deflate = zlib.compressobj(zdict=DICTIONARY)
    block = deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return struct.pack(">HHIII", 0x8003, 1, 10 + len(block), 1, 0) + b"\0\0" + block


def _pair(name: bytes, value: bytes) -> bytes:
    return struct.pack(">I", len(name)) + name + struct.pack(">I", len(value)) + value


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (struct.pack(">II", 0, 5) + b"hello", "data on stream 0"),
        (struct.pack(">HHII", 0x8002, 6, 4, 1), "SPDY version 2"),
        (struct.pack(">HHI", 0x8003, 1, 1 << 20), "a control frame of 1048576 bytes"),
        (struct.pack(">HHII", 0x8003, 3, 4, 1), "cut short"),
        (_syn(struct.pack(">I", 101)), "101 headers"),
        (_syn(struct.pack(">I", 1) + struct.pack(">I", 9) + b"short"), "cut short"),
        (_syn(struct.pack(">I", 2) + _pair(b"a", b"1") + _pair(b"A", b"2")), "comes twice"),
        (_syn(struct.pack(">I", 1) + _pair(b"a", bytes(10 << 20))), "more than 65536 bytes"),
        (struct.pack(">HHII", 0x8003, 4, 4, 1 << 30), "cut short"),
    ],
)
def test_what_breaks_the_connection(stream: bytes, said: str) -> None:
    with pytest.raises(SpdyError, match=said):
        list(FrameReader().feed(stream))


def test_the_dictionary_is_the_standards() -> None:
    """zlib names a dictionary by its Adler-32, which every SPDY/3 peer sends in its first block."""
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


def test_an_unknown_control_frame_is_skipped() -> None:
    extension = struct.pack(">HHI", 0x8003, 99, 3) + b"abc"
    assert list(FrameReader().feed(extension + FrameWriter().pack(Ping(1)))) == [Ping(1)]


def test_data_too_long_for_a_frame() -> None:
    with pytest.raises(ValueError, match="16777216 bytes"):
        FrameWriter().pack(Data(1, bytes(1 << 24), FIN))
