"""Records of a pax header: `length key=value` and a newline, the length counting itself."""

from __future__ import annotations

from collections.abc import Iterator

from sampan.errors import InvalidArgument

__all__ = ["record", "records"]


def records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values in order; a later one of the same key counts.

    Raises:
      InvalidArgument: a record is malformed.
    """
    at, end = 0, len(data)
    while at < end:
        if data[at] == 0 and not data[at:].strip(b"\0"):
            return
        space = data.find(b" ", at, at + 10)
        digits = data[at:space] if space > at else b""
        if not digits.isdigit():
            raise InvalidArgument(f"pax header: record at byte {at} has no length")
        stop = at + int(digits)
        if stop > end or stop <= space + 1 or data[stop - 1] != 0x0A:
            raise InvalidArgument(f"pax header: record at byte {at} has a wrong length")
        key, equals, value = data[space + 1 : stop - 1].partition(b"=")
        if not equals or not key:
            raise InvalidArgument(f"pax header: record at byte {at} has no key")
        yield key, value
        at = stop


def record(key: bytes, value: bytes) -> bytes:
    """Return one record."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    digits = len(str(length))
    if len(str(length + digits)) > digits:
        digits += 1
    return str(length + digits).encode() + rest
