"""D-Bus' encoding, little-endian: values by signature, and whole messages.

Values are Python's own: ints, bool, str, lists for arrays, tuples for structs, dicts for arrays of
dict entries, and `(signature, value)` for a variant. Source: dbus.freedesktop.org/doc/
dbus-specification.html, "Marshaling" and "Message Protocol".
"""

from __future__ import annotations

import struct

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ERROR", "METHOD_CALL", "METHOD_RETURN", "SIGNAL", "Message", "decode", "encode", "size"]

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE = range(
    1, 9
)
_HEADER = "yyyyuua(yv)"
_FIXED_BYTES = 16
_MOST_BYTES = 1 << 27
_NUMBERS = {
    "y": ("<B", 1), "n": ("<h", 2), "q": ("<H", 2), "i": ("<i", 4), "u": ("<I", 4), "b": ("<I", 4),
    "x": ("<q", 8), "t": ("<Q", 8), "d": ("<d", 8), "h": ("<I", 4),
}  # fmt: skip
_FIELDS = {
    "path": (_PATH, "o"), "interface": (_INTERFACE, "s"), "member": (_MEMBER, "s"),
    "error": (_ERROR_NAME, "s"), "reply_to": (_REPLY_SERIAL, "u"),
    "destination": (_DESTINATION, "s"), "sender": (_SENDER, "s"), "signature": (_SIGNATURE, "g"),
}  # fmt: skip


class Message:
    """One message. `body` has a value for each type of `signature`."""

    __slots__ = (
        "body", "destination", "error", "interface", "kind", "member", "path", "reply_to",
        "sender", "serial", "signature",
    )  # fmt: skip

    def __init__(self, kind: int, serial: int = 0) -> None:
        self.kind = kind
        self.serial = serial
        self.path = ""
        self.interface = ""
        self.member = ""
        self.error = ""
        """Name of the error, of an ERROR."""
        self.reply_to = 0
        """Serial of the call that this answers."""
        self.destination = ""
        self.sender = ""
        self.signature = ""
        self.body: list[Any] = []

    def to_bytes(self) -> bytes:
        body = encode(self.signature, self.body)
        fields = [
            (code, (kind, getattr(self, name)))
            for name, (code, kind) in _FIELDS.items()
            if getattr(self, name)
        ]
        header = encode(_HEADER, [ord("l"), self.kind, 0, 1, len(body), self.serial, fields])
        return header + bytes(-len(header) % 8) + body


def size(start: bytes) -> int:
    """Return how long the message is whose first 16 bytes are `start`.

    Raises:
      InvalidArgument: it is no message of this kind, or longer than the protocol allows.
    """
    if start[:1] != b"l":
        raise InvalidArgument("D-Bus message is not little-endian")
    body, _, fields = struct.unpack_from("<III", start, 4)
    total: int = _FIXED_BYTES + fields + -fields % 8 + body
    if total > _MOST_BYTES:
        raise InvalidArgument("D-Bus message is too long")
    return total


def decode(data: bytes) -> Message:
    """Decode a whole message.

    Raises:
      InvalidArgument: it is malformed.
    """
    try:
        header, at = _get_all(_HEADER, data, 0)
        message = Message(header[1], header[5])
        names = {code: name for name, (code, _) in _FIELDS.items()}
        for code, (_, value) in header[6]:
            if code in names:
                setattr(message, names[code], value)
        message.body, _ = _get_all(message.signature, data[at + -at % 8 :], 0)
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as err:
        raise InvalidArgument(f"malformed D-Bus message: {err}") from err
    return message


def encode(signature: str, values: list[Any]) -> bytes:
    """Encode values, one for each complete type of the signature."""
    out = bytearray()
    types = list(_split(signature))
    if len(types) != len(values):
        raise InvalidArgument(f"signature {signature} does not fit {len(values)} values")
    for kind, value in zip(types, values, strict=True):
        _put(out, kind, value)
    return bytes(out)


def _split(signature: str) -> list[str]:
    """Return the complete types of a signature."""
    found = []
    at = 0
    while at < len(signature):
        end = _end(signature, at)
        found.append(signature[at:end])
        at = end
    return found


def _end(signature: str, at: int) -> int:
    if signature[at] == "a":
        return _end(signature, at + 1)
    if signature[at] in "({":
        close = ")" if signature[at] == "(" else "}"
        at += 1
        while signature[at] != close:
            at = _end(signature, at)
    return at + 1


def _alignment(kind: str) -> int:
    if kind[0] in _NUMBERS:
        return _NUMBERS[kind[0]][1]
    return {"(": 8, "{": 8, "a": 4, "s": 4, "o": 4}.get(kind[0], 1)


def _put(out: bytearray, kind: str, value: Any) -> None:
    out += bytes(-len(out) % _alignment(kind))
    first = kind[0]
    if first in _NUMBERS:
        out += struct.pack(_NUMBERS[first][0], value)
    elif first in "so":
        raw = value.encode()
        out += struct.pack("<I", len(raw)) + raw + b"\0"
    elif first == "g":
        raw = value.encode()
        out += bytes([len(raw)]) + raw + b"\0"
    elif first == "v":
        _put(out, "g", value[0])
        _put(out, value[0], value[1])
    elif first in "({":
        for inner, part in zip(_split(kind[1:-1]), value, strict=True):
            _put(out, inner, part)
    elif first == "a":
        _put_array(out, kind[1:], value)
    else:
        raise InvalidArgument(f"D-Bus type {kind!r} is not known")


def _put_array(out: bytearray, kind: str, value: Any) -> None:
    place = len(out)
    out += bytes(4)
    out += bytes(-len(out) % _alignment(kind))
    start = len(out)
    for item in value.items() if isinstance(value, dict) else value:
        _put(out, kind, item)
    struct.pack_into("<I", out, place, len(out) - start)


def _get_all(signature: str, data: bytes, at: int) -> tuple[list[Any], int]:
    values = []
    for kind in _split(signature):
        value, at = _get(kind, data, at)
        values.append(value)
    return values, at


def _get(kind: str, data: bytes, at: int) -> tuple[Any, int]:
    at += -at % _alignment(kind)
    first = kind[0]
    if first in _NUMBERS:
        code, length = _NUMBERS[first]
        value: Any = struct.unpack_from(code, data, at)[0]
        return (bool(value) if first == "b" else value), at + length
    if first in "so":
        length = struct.unpack_from("<I", data, at)[0]
        return data[at + 4 : at + 4 + length].decode(), at + 5 + length
    if first == "g":
        return data[at + 1 : at + 1 + data[at]].decode(), at + 2 + data[at]
    if first == "v":
        inner, at = _get("g", data, at)
        value, at = _get(inner, data, at)
        return (inner, value), at
    if first in "({":
        parts, at = _get_all(kind[1:-1], data, at)
        return tuple(parts), at
    if first == "a":
        return _get_array(kind[1:], data, at)
    raise ValueError(f"type {kind!r} is not known")


def _get_array(kind: str, data: bytes, at: int) -> tuple[Any, int]:
    length = struct.unpack_from("<I", data, at)[0]
    at += 4
    at += -at % _alignment(kind)
    end = at + length
    if end > len(data):
        raise ValueError("array runs past the end")
    items = []
    while at < end:
        item, at = _get(kind, data, at)
        items.append(item)
    return (dict(items) if kind[0] == "{" else items), at
