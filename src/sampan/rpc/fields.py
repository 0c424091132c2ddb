"""The rows of a message's table: what `wire` is told about each field."""

from __future__ import annotations

from sampan.rpc.scalars import (
    BOOL,
    BYTES,
    DOUBLE,
    FIXED32,
    FIXED64,
    FLOAT,
    INT32,
    INT64,
    LEN,
    MESSAGE,
    SFIXED32,
    SFIXED64,
    SINT32,
    SINT64,
    STRING,
    UINT32,
    UINT64,
    Kind,
    put_scalar,
    put_varint,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.rpc.wire import Message

__all__ = [
    "Field",
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


class Field:
    """One row of a message's table."""

    __slots__ = (
        "kind", "many", "name", "number", "oneof", "optional", "tag", "type", "value_kind",
        "value_type",
    )  # fmt: skip

    def __init__(self, number: int, kind: Kind, of: type[Message] | None = None) -> None:
        self.number = number
        self.kind = kind
        self.type = of
        self.name = ""
        self.many = False
        self.optional = kind is MESSAGE
        self.oneof = ""
        self.value_kind: Kind | None = None
        """Set on maps alone, whose `kind` is that of the key."""
        self.value_type: Any = None
        self.tag = b""

    def seal(self, name: str) -> None:
        """Learn the attribute's name, and compute the tag as it will be sent."""
        self.name = name
        packed = self.many and self.kind.wire != LEN
        wire = LEN if packed or self.value_kind else self.kind.wire
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
            put_scalar(out, self.kind, value)
        elif self.kind.wire == LEN:
            for item in value:
                out += self.tag
                put_scalar(out, self.kind, item)
        else:
            body = bytearray()
            for item in value:
                put_scalar(body, self.kind, item)
            out += self.tag
            put_varint(out, len(body))
            out += body

    def _put_map(self, out: bytearray, value: dict[Any, Any]) -> None:
        assert self.value_kind is not None  # noqa: S101
        for key in sorted(value):
            body = bytearray((8 | self.kind.wire,))
            put_scalar(body, self.kind, key)
            body.append(16 | self.value_kind.wire)
            put_scalar(body, self.value_kind, value[key])
            out += self.tag
            put_varint(out, len(body))
            out += body


def double(number: int) -> Any:
    """64-bit float."""
    return Field(number, DOUBLE)


def floating(number: int) -> Any:
    """32-bit float."""
    return Field(number, FLOAT)


def int32(number: int) -> Any:
    """Signed, 10 bytes when negative."""
    return Field(number, INT32)


def int64(number: int) -> Any:
    """Signed, 10 bytes when negative."""
    return Field(number, INT64)


def uint32(number: int) -> Any:
    """Unsigned."""
    return Field(number, UINT32)


def uint64(number: int) -> Any:
    """Unsigned."""
    return Field(number, UINT64)


def sint32(number: int) -> Any:
    """Signed, zigzag."""
    return Field(number, SINT32)


def sint64(number: int) -> Any:
    """Signed, zigzag."""
    return Field(number, SINT64)


def fixed32(number: int) -> Any:
    """Unsigned, always 4 bytes."""
    return Field(number, FIXED32)


def fixed64(number: int) -> Any:
    """Unsigned, always 8 bytes."""
    return Field(number, FIXED64)


def sfixed32(number: int) -> Any:
    """Signed, always 4 bytes."""
    return Field(number, SFIXED32)


def sfixed64(number: int) -> Any:
    """Signed, always 8 bytes."""
    return Field(number, SFIXED64)


def boolean(number: int) -> Any:
    """A bool."""
    return Field(number, BOOL)


def enum(number: int) -> Any:
    """An open enum: any 32-bit int is kept, named or not."""
    return Field(number, INT32)


def string(number: int) -> Any:
    """Text, checked to be UTF-8."""
    return Field(number, STRING)


def byte_string(number: int) -> Any:
    """Bytes."""
    return Field(number, BYTES)


def message(number: int, type: type[Message]) -> Any:
    """A message, or None when absent."""
    return Field(number, MESSAGE, type)


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
    field = Field(number, key.kind)
    field.many = True
    field.value_kind = value.kind
    field.value_type = value.type
    return field
