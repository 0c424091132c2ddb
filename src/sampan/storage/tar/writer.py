"""An entry to its header bytes: ustar where it fits, a pax header before it where it does not.

The same entry always gives the same bytes.
"""

from __future__ import annotations

from sampan.storage.tar import BLOCK_DEVICE, CHAR_DEVICE, Entry
from sampan.storage.tar.pax import record

__all__ = ["END_OF_ARCHIVE", "header", "padding"]

END_OF_ARCHIVE = bytes(1024)
_MOST_OCTAL = {7: 0o7777777, 11: 0o77777777777}


def header(entry: Entry) -> bytes:
    """Return the blocks that announce `entry`; its data and `padding` follow."""
    records: list[tuple[bytes, bytes]] = []
    name = entry.name
    if len(name) > 100 or not name.isascii():
        records.append((b"path", name))
    if len(entry.linkname) > 100 or not entry.linkname.isascii():
        records.append((b"linkpath", entry.linkname))
    seconds, rest = divmod(entry.mtime_ns, 1_000_000_000)
    if rest or not 0 <= seconds <= _MOST_OCTAL[11]:
        records.append((b"mtime", _time(entry.mtime_ns)))
    for key, value, digits in (
        (b"uid", entry.uid, 7),
        (b"gid", entry.gid, 7),
        (b"size", entry.stored, 11),
    ):
        if value > _MOST_OCTAL[digits]:
            records.append((key, b"%d" % value))
    for attribute, content in sorted((entry.xattrs or {}).items()):
        records.append((b"SCHILY.xattr." + attribute, content))
    blocks = b""
    if records:
        data = b"".join(record(key, value) for key, value in sorted(records))
        blocks = _block(b"pax", ord("x"), size=len(data)) + data + padding(len(data))
    device = entry.type in (CHAR_DEVICE, BLOCK_DEVICE)
    return blocks + _block(
        name[:100],
        entry.type,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.stored,
        mtime=seconds,
        linkname=entry.linkname[:100],
        major=entry.major if device else 0,
        minor=entry.minor if device else 0,
    )


def padding(size: int) -> bytes:
    """Return the zeros that fill the last block of `size` bytes of data."""
    return bytes(-size % 512)


def _time(mtime_ns: int) -> bytes:
    whole, fraction = divmod(abs(mtime_ns), 1_000_000_000)
    text = f"{whole}.{fraction:09}".rstrip("0").rstrip(".")
    return (b"-" if mtime_ns < 0 else b"") + text.encode()


def _octal(value: int, digits: int) -> bytes:
    # What does not fit stands in the pax header, and counts there.
    return b"%0*o\0" % (digits, value if 0 <= value <= _MOST_OCTAL[digits] else 0)


def _block(
    name: bytes,
    type: int,
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    linkname: bytes = b"",
    major: int = 0,
    minor: int = 0,
) -> bytes:
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            _octal(mode, 7),
            _octal(uid, 7),
            _octal(gid, 7),
            _octal(size, 11),
            _octal(mtime, 11),
            b" " * 8,
            bytes((type,)),
            linkname.ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            _octal(major, 7),
            _octal(minor, 7),
            bytes(167),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
