"""Protobuf's scalars on the wire: varints, fixed widths, and how each type is checked.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "BOOL",
    "BYTES",
    "DOUBLE",
    "EGROUP",
    "FIXED32",
    "FIXED64",
    "FLOAT",
    "I32",
    "I64",
    "INT32",
    "INT64",
    "LEN",
    "MESSAGE",
    "SFIXED32",
    "SFIXED64",
    "SGROUP",
    "SINT32",
    "SINT64",
    "STRING",
    "UINT32",
    "UINT64",
    "VARINT",
    "WIDTH",
    "DecodeError",
    "Kind",
    "get_varint",
    "put_scalar",
    "put_varint",
]

VARINT, I64, LEN, SGROUP, EGROUP, I32 = range(6)
_U64 = (1 << 64) - 1
_U32 = (1 << 32) - 1


class DecodeError(InvalidArgument):
    """The bytes are not a well-formed message."""


# --- varints -------------------------------------------------------------------------------


def put_varint(out: bytearray, value: int) -> None:
    """Append `value`, 0 <= value < 2**64."""
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def get_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the varint at `at` and the place after it.

    Raises:
      DecodeError: it runs past `end`, or past 64 bits.
    """
    if at >= end:
        raise DecodeError("protobuf: truncated varint")
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value = byte & 0x7F
    for shift in range(7, 70, 7):
        if at >= end:
            raise DecodeError("protobuf: truncated varint")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _U64:
                raise DecodeError("protobuf: varint longer than 64 bits")
            return value, at
    raise DecodeError("protobuf: varint longer than 10 bytes")


# --- kinds of scalar -----------------------------------------------------------------------


class Kind:
    """How one type of value looks on the wire."""

    __slots__ = ("from_wire", "to_wire", "wire", "zero")

    def __init__(
        self,
        wire: int,
        zero: Any,
        to_wire: Callable[[Any], Any],
        from_wire: Callable[[Any], Any],
    ) -> None:
        self.wire = wire
        self.zero = zero
        self.to_wire = to_wire
        """To an unsigned int for varints, to bytes for every other wire type."""
        self.from_wire = from_wire


def _ranged(low: int, high: int, name: str) -> Callable[[int], int]:
    def check(value: int) -> int:
        if not low <= value <= high:
            raise ValueError(f"protobuf: {value} does not fit into {name}")
        return value & _U64

    return check


def _to_int32(value: int) -> int:
    value &= _U32
    return value - (1 << 32) if value >> 31 else value


def _to_int64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _zigzag(bits: int) -> Callable[[int], int]:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    def encode(value: int) -> int:
        if not low <= value <= high:
            raise ValueError(f"protobuf: {value} does not fit into sint{bits}")
        return value << 1 if value >= 0 else (-value << 1) - 1

    return encode


def _unzigzag32(value: int) -> int:
    value &= _U32
    return (value >> 1) ^ -(value & 1)


def _unzigzag64(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def _packed(wire: int, form: str, zero: Any) -> Kind:
    codec = struct.Struct(form)

    def pack(value: Any) -> bytes:
        try:
            return codec.pack(value)
        except struct.error as err:
            raise ValueError(f"protobuf: {value!r} does not fit: {err}") from err

    return Kind(wire, zero, pack, lambda data: codec.unpack(data)[0])


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as err:
        raise DecodeError("protobuf: a string is not UTF-8") from err


UINT64 = Kind(VARINT, 0, _ranged(0, _U64, "uint64"), int)
UINT32 = Kind(VARINT, 0, _ranged(0, _U32, "uint32"), _U32.__and__)
INT64 = Kind(VARINT, 0, _ranged(-(1 << 63), (1 << 63) - 1, "int64"), _to_int64)
INT32 = Kind(VARINT, 0, _ranged(-(1 << 31), (1 << 31) - 1, "int32"), _to_int32)
SINT64 = Kind(VARINT, 0, _zigzag(64), _unzigzag64)
SINT32 = Kind(VARINT, 0, _zigzag(32), _unzigzag32)
BOOL = Kind(VARINT, False, int, bool)
STRING = Kind(LEN, "", str.encode, _utf8)
BYTES = Kind(LEN, b"", bytes, bytes)
DOUBLE = _packed(I64, "<d", 0.0)
FLOAT = _packed(I32, "<f", 0.0)
FIXED64 = _packed(I64, "<Q", 0)
FIXED32 = _packed(I32, "<I", 0)
SFIXED64 = _packed(I64, "<q", 0)
SFIXED32 = _packed(I32, "<i", 0)
MESSAGE = Kind(LEN, None, bytes, bytes)

WIDTH = {I64: 8, I32: 4}


def put_scalar(out: bytearray, kind: Kind, value: Any) -> None:
    if kind.wire == VARINT:
        put_varint(out, kind.to_wire(value))
    elif kind.wire == LEN:
        data = value._encode() if kind is MESSAGE else kind.to_wire(value)  # noqa: SLF001
        put_varint(out, len(data))
        out += data
    else:
        out += kind.to_wire(value)
