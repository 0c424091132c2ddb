"""The protobuf wire format, for message classes declared as tables of fields.

    class Mount(Message, name="containerd.types.Mount"):
        type: str = string(1)
        source: str = string(2)
        options: list[str] = repeated(string(4))

    data = bytes(Mount(type="bind", source="/a"))
    mount = Mount.decode(data)

proto3 rules: a scalar of its zero value is not sent, unless it is `optional(...)` or a member of a
`oneof`, whose absence is None; an absent message is None; repeated fields are lists and maps are
dicts. Bytes are deterministic: fields by number, map entries by key, unknown fields last, in the
order they came. Unknown fields are kept, so that what a newer peer sent passes through.

Input is hostile: truncation, overlong varints, invalid UTF-8, field number 0, unbalanced groups and
nesting deeper than 100 raise DecodeError; nothing is allocated from a length that was not checked
against the bytes at hand.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, ClassVar, Self, dataclass_transform

from sampan.errors import InvalidArgument

__all__ = [
    "DecodeError",
    "Message",
    "boolean",
    "byte_string",
    "double",
    "enum",
    "fixed32",
    "fixed64",
    "floating",
    "int32",
    "int64",
    "mapping",
    "message",
    "optional",
    "repeated",
    "sfixed32",
    "sfixed64",
    "sint32",
    "sint64",
    "string",
    "uint32",
    "uint64",
]

_VARINT, _I64, _LEN, _SGROUP, _EGROUP, _I32 = range(6)
_DEPTH_MAX = 100
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


class _Kind:
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


def _packed(wire: int, form: str, zero: Any) -> _Kind:
    codec = struct.Struct(form)

    def pack(value: Any) -> bytes:
        try:
            return codec.pack(value)
        except struct.error as err:
            raise ValueError(f"protobuf: {value!r} does not fit: {err}") from err

    return _Kind(wire, zero, pack, lambda data: codec.unpack(data)[0])


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as err:
        raise DecodeError("protobuf: a string is not UTF-8") from err


_UINT64 = _Kind(_VARINT, 0, _ranged(0, _U64, "uint64"), int)
_UINT32 = _Kind(_VARINT, 0, _ranged(0, _U32, "uint32"), _U32.__and__)
_INT64 = _Kind(_VARINT, 0, _ranged(-(1 << 63), (1 << 63) - 1, "int64"), _to_int64)
_INT32 = _Kind(_VARINT, 0, _ranged(-(1 << 31), (1 << 31) - 1, "int32"), _to_int32)
_SINT64 = _Kind(_VARINT, 0, _zigzag(64), _unzigzag64)
_SINT32 = _Kind(_VARINT, 0, _zigzag(32), _unzigzag32)
_BOOL = _Kind(_VARINT, False, int, bool)
_STRING = _Kind(_LEN, "", str.encode, _utf8)
_BYTES = _Kind(_LEN, b"", bytes, bytes)
_DOUBLE = _packed(_I64, "<d", 0.0)
_FLOAT = _packed(_I32, "<f", 0.0)
_FIXED64 = _packed(_I64, "<Q", 0)
_FIXED32 = _packed(_I32, "<I", 0)
_SFIXED64 = _packed(_I64, "<q", 0)
_SFIXED32 = _packed(_I32, "<i", 0)
_MESSAGE = _Kind(_LEN, None, bytes, bytes)

_WIDTH = {_I64: 8, _I32: 4}


def _put(out: bytearray, kind: _Kind, value: Any) -> None:
    if kind.wire == _VARINT:
        put_varint(out, kind.to_wire(value))
    elif kind.wire == _LEN:
        data = value._encode() if kind is _MESSAGE else kind.to_wire(value)  # noqa: SLF001
        put_varint(out, len(data))
        out += data
    else:
        out += kind.to_wire(value)


# --- fields --------------------------------------------------------------------------------


class _Field:
    """One row of a message's table."""

    __slots__ = (
        "kind", "many", "name", "number", "oneof", "optional", "tag", "type", "value_kind",
        "value_type",
    )  # fmt: skip

    def __init__(self, number: int, kind: _Kind, of: type[Message] | None = None) -> None:
        self.number = number
        self.kind = kind
        self.type = of
        self.name = ""
        self.many = False
        self.optional = kind is _MESSAGE
        self.oneof = ""
        self.value_kind: _Kind | None = None
        """Set on maps alone, whose `kind` is that of the key."""
        self.value_type: Any = None
        self.tag = b""

    def seal(self, name: str) -> None:
        """Learn the attribute's name, and compute the tag as it will be sent."""
        self.name = name
        packed = self.many and self.kind.wire != _LEN
        wire = _LEN if packed or self.value_kind else self.kind.wire
        out = bytearray()
        put_varint(out, self.number << 3 | wire)
        self.tag = bytes(out)

    def default(self) -> Any:
        if self.value_kind:
            return {}
        if self.many:
            return []
        return None if self.optional else self.kind.zero

    def put(self, out: bytearray, value: Any) -> None:
        """Append the field, tag included."""
        if self.value_kind:
            self._put_map(out, value)
        elif not self.many:
            out += self.tag
            _put(out, self.kind, value)
        elif self.kind.wire == _LEN:
            for item in value:
                out += self.tag
                _put(out, self.kind, item)
        else:
            body = bytearray()
            for item in value:
                _put(body, self.kind, item)
            out += self.tag
            put_varint(out, len(body))
            out += body

    def _put_map(self, out: bytearray, value: dict[Any, Any]) -> None:
        assert self.value_kind is not None  # noqa: S101
        for key in sorted(value):
            body = bytearray((8 | self.kind.wire,))
            _put(body, self.kind, key)
            body.append(16 | self.value_kind.wire)
            _put(body, self.value_kind, value[key])
            out += self.tag
            put_varint(out, len(body))
            out += body


def double(number: int) -> Any:
    """64-bit float."""
    return _Field(number, _DOUBLE)


def floating(number: int) -> Any:
    """32-bit float."""
    return _Field(number, _FLOAT)


def int32(number: int) -> Any:
    """Signed, 10 bytes when negative."""
    return _Field(number, _INT32)


def int64(number: int) -> Any:
    """Signed, 10 bytes when negative."""
    return _Field(number, _INT64)


def uint32(number: int) -> Any:
    """Unsigned."""
    return _Field(number, _UINT32)


def uint64(number: int) -> Any:
    """Unsigned."""
    return _Field(number, _UINT64)


def sint32(number: int) -> Any:
    """Signed, zigzag."""
    return _Field(number, _SINT32)


def sint64(number: int) -> Any:
    """Signed, zigzag."""
    return _Field(number, _SINT64)


def fixed32(number: int) -> Any:
    """Unsigned, always 4 bytes."""
    return _Field(number, _FIXED32)


def fixed64(number: int) -> Any:
    """Unsigned, always 8 bytes."""
    return _Field(number, _FIXED64)


def sfixed32(number: int) -> Any:
    """Signed, always 4 bytes."""
    return _Field(number, _SFIXED32)


def sfixed64(number: int) -> Any:
    """Signed, always 8 bytes."""
    return _Field(number, _SFIXED64)


def boolean(number: int) -> Any:
    """A bool."""
    return _Field(number, _BOOL)


def enum(number: int) -> Any:
    """An open enum: any 32-bit int is kept, named or not."""
    return _Field(number, _INT32)


def string(number: int) -> Any:
    """Text, checked to be UTF-8."""
    return _Field(number, _STRING)


def byte_string(number: int) -> Any:
    """Bytes."""
    return _Field(number, _BYTES)


def message(number: int, type: type[Message]) -> Any:
    """A message, or None when absent."""
    return _Field(number, _MESSAGE, type)


def repeated(field: Any) -> Any:
    """A list; numbers are packed when sent, and accepted either way."""
    field.many = True
    field.optional = False
    return field


def optional(field: Any, oneof: str = "") -> Any:
    """A field whose absence is None; at most one of those that share `oneof` is present."""
    field.optional = True
    field.oneof = oneof
    return field


def mapping(number: int, key: Any, value: Any) -> Any:
    """A dict. `key` and `value` are fields whose own numbers do not count."""
    field = _Field(number, key.kind)
    field.many = True
    field.value_kind = value.kind
    field.value_type = value.type
    return field


# --- messages ------------------------------------------------------------------------------


class _Meta(type):
    """Turns a table of fields into slots and two indexes."""

    def __new__(
        cls, title: str, bases: tuple[type, ...], space: dict[str, Any], name: str = ""
    ) -> _Meta:
        fields = {key: value for key, value in space.items() if isinstance(value, _Field)}
        for key, field in fields.items():
            field.seal(key)
            del space[key]
        space["__slots__"] = (*fields, "_unknown") if bases else ()
        space["_fields"] = tuple(sorted(fields.values(), key=lambda field: field.number))
        space["_by_number"] = {field.number: field for field in fields.values()}
        space["NAME"] = name
        made = super().__new__(cls, title, bases, space)
        if len(space["_by_number"]) != len(fields):
            raise TypeError(f"{title}: two fields share a number")
        return made


@dataclass_transform(kw_only_default=True)
class Message(metaclass=_Meta):
    """Base of all messages; `NAME` is the full name of the type."""

    NAME: ClassVar[str]
    _fields: ClassVar[tuple[_Field, ...]]
    _by_number: ClassVar[dict[int, _Field]]

    def __init__(self, **values: Any) -> None:
        for field in self._fields:
            name = field.name
            setattr(self, name, values.pop(name) if name in values else field.default())
        self._unknown = b""
        if values:
            raise TypeError(f"{type(self).__name__} has no field {next(iter(values))}")

    def __bytes__(self) -> bytes:
        """The message as it is sent."""
        return bytes(self._encode())

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._encode() == other._encode()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = (
            f"{field.name}={value!r}"
            for field in self._fields
            if (value := getattr(self, field.name)) != field.default()
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    def _encode(self) -> bytearray:
        out = bytearray()
        chosen: set[str] = set()
        for field in self._fields:
            value = getattr(self, field.name)
            if field.optional:
                if value is None:
                    continue
                if field.oneof:
                    if field.oneof in chosen:
                        raise ValueError(f"{self.NAME}: two members of oneof {field.oneof} are set")
                    chosen.add(field.oneof)
            elif not value and (field.kind.zero != 0.0 or str(value) != "-0.0"):
                continue
            field.put(out, value)
        out += self._unknown
        return out

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Self:
        """Return the message in `data`, all of it.

        Raises:
          DecodeError: it is malformed.
        """
        made = cls()
        made.merge(data)
        return made

    def merge(self, data: bytes | memoryview) -> None:
        """Decode `data` on top of what is here, as if both had been sent one after the other.

        Raises:
          DecodeError: it is malformed; fields before the fault may have been set.
        """
        whole = bytes(data)
        self._merge(whole, 0, len(whole), _DEPTH_MAX)

    def _merge(self, data: bytes, at: int, end: int, depth: int) -> None:
        if not depth:
            raise DecodeError("protobuf: nested too deeply")
        by_number = self._by_number
        while at < end:
            start = at
            tag, at = get_varint(data, at, end)
            wire = tag & 7
            field = by_number.get(tag >> 3)
            if field is not None and (place := _accept(self, field, wire, data, at, end, depth)):
                at = place
                continue
            at = _skip(tag, data, at, end, depth)
            self._unknown += data[start:at]


def _skip(tag: int, data: bytes, at: int, end: int, depth: int) -> int:
    """Return the place after the value of `tag`."""
    wire = tag & 7
    if not 0 < tag >> 3 < 1 << 29:
        raise DecodeError(f"protobuf: field number {tag >> 3}")
    if wire == _VARINT:
        return get_varint(data, at, end)[1]
    if wire == _LEN:
        return _length(data, at, end)[1]
    if wire in _WIDTH:
        at += _WIDTH[wire]
        if at > end:
            raise DecodeError("protobuf: truncated number")
        return at
    if wire != _SGROUP:
        raise DecodeError(f"protobuf: wire type {wire} out of place")
    if not depth:
        raise DecodeError("protobuf: nested too deeply")
    while True:
        inner, at = get_varint(data, at, end)
        if inner & 7 == _EGROUP:
            if inner >> 3 != tag >> 3:
                raise DecodeError("protobuf: a group ends that did not start")
            return at
        at = _skip(inner, data, at, end, depth - 1)


def _length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return where a length-prefixed value starts and ends."""
    size, at = get_varint(data, at, end)
    if size > end - at:
        raise DecodeError(f"protobuf: {size} bytes announced, {end - at} there")
    return at, at + size


def _scalar(kind: _Kind, data: bytes, at: int, end: int) -> tuple[Any, int]:
    """Return the value at `at`, of any kind but messages, and the place after it."""
    if kind.wire == _VARINT:
        number, at = get_varint(data, at, end)
        return kind.from_wire(number), at
    if kind.wire == _LEN:
        at, stop = _length(data, at, end)
        return kind.from_wire(data[at:stop]), stop
    stop = at + _WIDTH[kind.wire]
    if stop > end:
        raise DecodeError("protobuf: truncated number")
    return kind.from_wire(data[at:stop]), stop


def _accept(
    target: Message, field: _Field, wire: int, data: bytes, at: int, end: int, depth: int
) -> int:
    """Decode one occurrence of `field`; return the place after it, or 0: the wire type is alien."""
    kind = field.kind
    if field.value_kind is not None:
        if wire != _LEN:
            return 0
        at, stop = _length(data, at, end)
        _entry(target, field, data, at, stop, depth)
        return stop
    if field.many and kind.wire != _LEN and wire == _LEN:
        at, stop = _length(data, at, end)
        items = getattr(target, field.name)
        while at < stop:
            value, at = _scalar(kind, data, at, stop)
            items.append(value)
        return stop
    if wire != kind.wire:
        return 0
    if field.type is not None:
        at, stop = _length(data, at, end)
        inner = None if field.many else getattr(target, field.name)
        if inner is None:
            inner = field.type()
        inner._merge(data, at, stop, depth - 1)  # noqa: SLF001
        value, at = inner, stop
    else:
        value, at = _scalar(kind, data, at, end)
    if field.many:
        getattr(target, field.name).append(value)
        return at
    if field.oneof:
        for other in target._fields:
            if other.oneof == field.oneof:
                setattr(target, other.name, None)
    setattr(target, field.name, value)
    return at


def _entry(target: Message, field: _Field, data: bytes, at: int, end: int, depth: int) -> None:
    """Decode one entry of a map: a message of two fields, either of which may be missing."""
    kinds = (field.kind, field.value_kind)
    assert kinds[1] is not None  # noqa: S101
    key: Any = field.kind.zero
    value: Any = field.value_type() if field.value_type is not None else kinds[1].zero
    while at < end:
        tag, at = get_varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if number == 1 and wire == kinds[0].wire:
            key, at = _scalar(kinds[0], data, at, end)
        elif number == 2 and wire == kinds[1].wire:
            if field.value_type is not None:
                at, stop = _length(data, at, end)
                value._merge(data, at, stop, depth - 1)  # noqa: SLF001
                at = stop
            else:
                value, at = _scalar(kinds[1], data, at, end)
        else:
            at = _skip(tag, data, at, end, depth)
    getattr(target, field.name)[key] = value
