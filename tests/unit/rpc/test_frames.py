"""Frames, cut anywhere."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import ResourceExhausted
from sampan.rpc import MESSAGE_MAX_BYTES
from sampan.rpc.frames import DATA, REQUEST, RESPONSE, FrameReader, Oversized, pack_frame
from sampan.rpc.wire import DecodeError

FRAMES = st.lists(
    st.tuples(
        st.integers(1, 2**32 - 1),
        st.sampled_from([REQUEST, RESPONSE, DATA]),
        st.integers(0, 255),
        st.binary(max_size=300),
    ),
    max_size=6,
)


@given(FRAMES, st.integers(1, 40))
def test_any_cut_gives_the_same_frames(
    frames: list[tuple[int, int, int, bytes]], step: int
) -> None:
    data = b"".join(pack_frame(*frame) for frame in frames)
    reader = FrameReader()
    found = [
        (frame.stream, frame.type, frame.flags, frame.data)
        for at in range(0, len(data), step)
        for frame in reader.feed(data[at : at + step])
    ]
    assert found == frames
    assert reader.idle


@given(st.binary(max_size=200))
def test_random_bytes_never_do_worse_than_refuse(data: bytes) -> None:
    try:
        list(FrameReader().feed(data))
    except DecodeError:
        return


def test_oversized_is_swallowed_and_the_next_frame_read() -> None:
    size = MESSAGE_MAX_BYTES + 1
    reader = FrameReader()
    (first,) = reader.feed(struct.pack(">IIBB", size, 1, 1, 0) + bytes(100))
    assert isinstance(first, Oversized)
    assert first.size_bytes == size
    (second,) = reader.feed(bytes(size - 100) + pack_frame(3, REQUEST, 0, b"x"))
    assert (second.stream, second.data) == (3, b"x")


def test_the_limit_itself_passes() -> None:
    (frame,) = FrameReader().feed(pack_frame(1, REQUEST, 0, bytes(MESSAGE_MAX_BYTES)))
    assert len(frame.data) == MESSAGE_MAX_BYTES
    with pytest.raises(ResourceExhausted):
        pack_frame(1, REQUEST, 0, bytes(MESSAGE_MAX_BYTES + 1))


@pytest.mark.parametrize("header", [(0, 0, 1, 0), (0, 1, 0, 0), (0, 1, 4, 0)])
def test_nonsense_is_refused(header: tuple[int, int, int, int]) -> None:
    with pytest.raises(DecodeError):
        list(FrameReader().feed(struct.pack(">IIBB", *header)))
