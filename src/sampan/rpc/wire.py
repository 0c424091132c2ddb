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

from sampan.rpc.fields import (
    Field,
    boolean,
    byte_string,
    double,
    enum,
    fixed32,
    fixed64,
    floating,
    int32,
    int64,
    mapping,
    message,
    optional,
    repeated,
    sfixed32,
    sfixed64,
    sint32,
    sint64,
    string,
    uint32,
    uint64,
)
from sampan.rpc.scalars import (
    EGROUP,
    LEN,
    SGROUP,
    VARINT,
    WIDTH,
    DecodeError,
    Kind,
    get_varint,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_: object) -> object:
        """Do without `typing`, which is slow to load."""
        return lambda made: made


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

_DEPTH_MAX = 100


# --- messages ------------------------------------------------------------------------------


class _Meta(type):
    """Turns a table of fields into slots and two indexes."""

    def __new__(
        cls, title: str, bases: tuple[type, ...], space: dict[str, Any], name: str = ""
    ) -> _Meta:
        fields = {key: value for key, value in space.items() if isinstance(value, Field)}
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
    _fields: ClassVar[tuple[Field, ...]]
    _by_number: ClassVar[dict[int, Field]]

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
    if wire == VARINT:
        return get_varint(data, at, end)[1]
    if wire == LEN:
        return _length(data, at, end)[1]
    if wire in WIDTH:
        at += WIDTH[wire]
        if at > end:
            raise DecodeError("protobuf: truncated number")
        return at
    if wire != SGROUP:
        raise DecodeError(f"protobuf: wire type {wire} out of place")
    if not depth:
        raise DecodeError("protobuf: nested too deeply")
    while True:
        inner, at = get_varint(data, at, end)
        if inner & 7 == EGROUP:
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


def _scalar(kind: Kind, data: bytes, at: int, end: int) -> tuple[Any, int]:
    """Return the value at `at`, of any kind but messages, and the place after it."""
    if kind.wire == VARINT:
        number, at = get_varint(data, at, end)
        return kind.from_wire(number), at
    if kind.wire == LEN:
        at, stop = _length(data, at, end)
        return kind.from_wire(data[at:stop]), stop
    stop = at + WIDTH[kind.wire]
    if stop > end:
        raise DecodeError("protobuf: truncated number")
    return kind.from_wire(data[at:stop]), stop


def _accept(
    target: Message, field: Field, wire: int, data: bytes, at: int, end: int, depth: int
) -> int:
    """Decode one occurrence of `field`; return the place after it, or 0: the wire type is alien."""
    kind = field.kind
    if field.value_kind is not None:
        if wire != LEN:
            return 0
        at, stop = _length(data, at, end)
        _entry(target, field, data, at, stop, depth)
        return stop
    if field.many and kind.wire != LEN and wire == LEN:
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


def _entry(target: Message, field: Field, data: bytes, at: int, end: int, depth: int) -> None:
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
