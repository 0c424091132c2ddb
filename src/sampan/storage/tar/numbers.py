"""Numbers of a hostile archive: digits and nothing else, within range."""

from __future__ import annotations

from sampan.errors import InvalidArgument

__all__ = ["decimal", "field", "nanoseconds"]

_MOST_SECONDS = 1 << 36
"""Times are clamped to about 2,000 years around the epoch: past it, file systems wrap or refuse."""


def field(raw: bytes, what: str) -> int:
    """Return a numeric header field: octal text ended by NULs or spaces, or GNU base-256.

    Raises:
      InvalidArgument: neither of these.
    """
    if raw[0] & 0x80:
        # Base-256: the top bit marks it, the next is the sign of a two's complement number.
        value = int.from_bytes(raw, "big", signed=False) & ((1 << (8 * len(raw) - 1)) - 1)
        return value - (1 << (8 * len(raw) - 1)) if raw[0] & 0x40 else value
    text = raw.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    if not text.isdigit():
        raise InvalidArgument(f"tar header: {what} is no octal number: {raw!r}")
    try:
        return int(text, 8)
    except ValueError:
        raise InvalidArgument(f"tar header: {what} is no octal number: {raw!r}") from None


def decimal(text: bytes, what: str, limit: int = (1 << 63) - 1) -> int:
    """Return `text` as a number of 0..limit, digits only.

    Raises:
      InvalidArgument: anything else.
    """
    if not text.isdigit() or len(text) > 20:
        raise InvalidArgument(f"tar header: {what} is no number: {text[:40]!r}")
    value = int(text)
    if value > limit:
        raise InvalidArgument(f"tar header: {what} is out of range: {value}")
    return value


def nanoseconds(text: bytes) -> int:
    """Return a pax time, seconds with an optional sign and fraction, in nanoseconds, clamped.

    Raises:
      InvalidArgument: not such a time.
    """
    negative = text.startswith(b"-")
    whole, _, fraction = text[negative:].partition(b".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()) or len(text) > 64:
        raise InvalidArgument(f"tar header: mtime is no time: {text[:64]!r}")
    seconds = min(int(whole), _MOST_SECONDS)
    value = seconds * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -value if negative else value
