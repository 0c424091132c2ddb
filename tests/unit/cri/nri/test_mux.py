"""Pieces of several connections over one socket."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cri.nri.mux import PLUGIN, RUNTIME, MuxError, PieceReader, pieces_of


@given(
    st.lists(st.tuples(st.sampled_from([PLUGIN, RUNTIME]), st.binary(max_size=9000)), max_size=4),
    st.integers(1, 5000),
)
def test_frames_come_back_in_any_pieces(sent: list[tuple[int, bytes]], step: int) -> None:
    stream = b"".join(pieces_of(number, frame) for number, frame in sent)
    reader = PieceReader()
    got = {PLUGIN: b"", RUNTIME: b""}
    for at in range(0, len(stream), step):
        for number, body in reader.feed(stream[at : at + step]):
            got[number] += body
    for number in got:
        assert got[number] == b"".join(frame for to, frame in sent if to == number)


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    try:
        for number, body in PieceReader().feed(data):
            assert len(body) <= len(data)
            assert number >= 0
    except MuxError:
        assert struct.unpack_from(">II", data)[1] > 4 << 20 or len(data) > 16


def test_the_first_piece_fits_gos_buffer() -> None:
    pieces = list(PieceReader().feed(pieces_of(1, bytes(10_000))))
    assert [len(body) for _, body in pieces] == [4096, 5904]
    assert len(list(PieceReader().feed(pieces_of(1, bytes(4096))))) == 1


def test_pieces_are_bounded() -> None:
    with pytest.raises(MuxError, match="4194315"):
        list(PieceReader().feed(struct.pack(">II", 1, (4 << 20) + 11)))
