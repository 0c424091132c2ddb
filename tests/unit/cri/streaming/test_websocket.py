"""WebSocket frames: round trips in any pieces, RFC 6455's examples, and hostile input."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cri.streaming.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    FrameReader,
    Piece,
    WebSocketError,
    accept_key,
    close_body,
    pack_frame,
    unmask,
)

MASK = b"\x37\xfa\x21\x3d"


def read(stream: bytes, step: int, *, masked: bool = True) -> list[Piece]:
    reader = FrameReader(masked=masked)
    pieces = (stream[at : at + step] for at in range(0, len(stream), step))
    return [piece for part in pieces for piece in reader.feed(part)]


def messages(pieces: list[Piece]) -> list[tuple[int, bytes]]:
    """Join pieces; control frames stand between them, whole."""
    found: list[tuple[int, bytes]] = []
    data = b""
    for piece in pieces:
        if piece.opcode >= CLOSE:
            found.append((piece.opcode, piece.data))
            continue
        assert piece.first == (data == b"") or not piece.data
        data += piece.data
        if piece.last:
            found.append((piece.opcode, data))
            data = b""
    return found


@given(
    st.lists(
        st.tuples(st.sampled_from([TEXT, BINARY]), st.binary(min_size=1, max_size=300)), max_size=4
    ),
    st.integers(1, 90),
    st.sampled_from([b"", MASK]),
)
def test_messages_come_back_in_any_pieces(
    sent: list[tuple[int, bytes]], step: int, mask: bytes
) -> None:
    stream = b"".join(pack_frame(opcode, data, mask) for opcode, data in sent)
    assert messages(read(stream, step, masked=bool(mask))) == sent


@given(st.binary(max_size=200))
def test_any_bytes_end_in_pieces_or_an_error(data: bytes) -> None:
    with suppress(WebSocketError):
        for piece in FrameReader().feed(data):
            assert piece.opcode in {TEXT, BINARY, CLOSE, PING, PONG}


@given(st.binary(max_size=500), st.binary(min_size=4, max_size=4))
def test_masking_is_its_own_inverse(data: bytes, mask: bytes) -> None:
    assert unmask(data, mask) == bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    assert unmask(unmask(data, mask), mask) == data


def test_the_examples_of_rfc_6455() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    masked = bytes.fromhex("818537fa213d7f9f4d5158")
    assert list(FrameReader().feed(masked)) == [Piece(TEXT, b"Hello")]
    fragments = bytes.fromhex("010348656c80026c6f")
    assert messages(read(fragments, 100, masked=False)) == [(TEXT, b"Hello")]
    assert pack_frame(TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")
    assert pack_frame(BINARY, bytes(256))[:4] == bytes.fromhex("827e0100")
    assert pack_frame(BINARY, bytes(65536))[:10] == bytes.fromhex("827f0000000000010000")


def test_a_ping_may_stand_between_fragments() -> None:
    stream = bytes.fromhex("0201") + b"a" + pack_frame(PING, b"?") + bytes.fromhex("8001") + b"b"
    assert messages(read(stream, 1, masked=False)) == [(PING, b"?"), (BINARY, b"ab")]


@pytest.mark.parametrize(
    "stream",
    [
        b"\x82\x05hello",  # a client's frame without a mask
        b"\xc2\x80" + MASK,  # a reserved bit
        b"\x83\x80" + MASK,  # an unknown opcode
        b"\x09\x80" + MASK,  # a ping in fragments
        b"\x89\xfe\x00\x80" + MASK,  # a ping of 128 bytes
        b"\x80\x80" + MASK,  # a continuation of nothing
        b"\x02\x80" + MASK + b"\x82\x80" + MASK,  # a message within a message
        b"\x82\xff" + b"\xff" * 8 + MASK,  # 2**64 - 1 bytes
    ],
)
def test_what_breaks_the_connection(stream: bytes) -> None:
    with pytest.raises(WebSocketError):
        list(FrameReader().feed(stream))


def test_close_body_is_bounded() -> None:
    assert close_body(1000, "x" * 500) == b"\x03\xe8" + b"x" * 123
