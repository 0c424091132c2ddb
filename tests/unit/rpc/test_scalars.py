"""Scalars at the ends of their ranges, and varints that are none."""

import pytest

from sampan.rpc import scalars
from sampan.rpc.scalars import DecodeError, get_varint, put_varint


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, (1 << 32) - 1, (1 << 64) - 1])
def test_varints_there_and_back(value: int) -> None:
    out = bytearray()
    put_varint(out, value)
    assert get_varint(bytes(out), 0, len(out)) == (value, len(out))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 10, b"\xff" * 9 + b"\x02", b"\x80" * 11])
def test_what_is_no_varint(data: bytes) -> None:
    with pytest.raises(DecodeError):
        get_varint(data, 0, len(data))


def test_a_value_out_of_range_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="uint32"):
        scalars.UINT32.to_wire(1 << 32)
    with pytest.raises(ValueError, match="int32"):
        scalars.INT32.to_wire(-(1 << 31) - 1)
    with pytest.raises(ValueError, match="sint64"):
        scalars.SINT64.to_wire(1 << 63)
    with pytest.raises(ValueError, match="does not fit"):
        scalars.FIXED32.to_wire(-1)


def test_negative_numbers_come_back() -> None:
    for kind in (scalars.INT32, scalars.INT64, scalars.SINT32, scalars.SINT64, scalars.SFIXED64):
        assert kind.from_wire(kind.to_wire(-7)) == -7
