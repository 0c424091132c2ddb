"""What client and zygote say to each other: one SOCK_SEQPACKET message each way.

    client -> zygote   version, "hello"
                       version, "preload", module name ...
                       version, "fork", "module:function", flags, clone flags, name, payload
                                + fds: [cgroup] [payload memfd] [stdin stdout stderr] the worker's
                       version, "status", pid
    zygote -> client   "ok", field ...      (fork: pid, + its pidfd; status: "running" or status)
                       "error", class of the error, text

A message is a list of byte strings: their count, their lengths (u32 each, little-endian), then the
bytes. Numbers are decimal text. A payload too long for a message travels in a memory file.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CGROUP",
    "IMPORTS",
    "LONG_PAYLOAD",
    "MAX_MESSAGE",
    "MAX_PAYLOAD_INLINE",
    "SESSION",
    "STDIO",
    "VERSION",
    "pack",
    "unpack",
]

VERSION = b"1"
MAX_MESSAGE = 131072
MAX_PAYLOAD_INLINE = 65536

SESSION = 1
"""The worker calls setsid."""
STDIO = 2
"""Three of the fds become 0, 1 and 2."""
LONG_PAYLOAD = 4
"""The payload is in the memory file that is one of the fds."""
CGROUP = 8
"""The first fd is a cgroup v2 folder to be born in."""
IMPORTS = 16
"""The worker may import (tests and development only)."""


def pack(*fields: bytes) -> bytes:
    """Return the message with these fields."""
    head = struct.pack(f"<{len(fields) + 1}I", len(fields), *map(len, fields))
    return head + b"".join(fields)


def unpack(message: bytes) -> Sequence[bytes]:
    """Return the fields of a message.

    Raises:
      ValueError: It is not one.
    """
    if len(message) < 4:
        raise ValueError("message too short")
    (count,) = struct.unpack_from("<I", message)
    if count > 4096 or len(message) < 4 + 4 * count:
        raise ValueError("message shorter than its head")
    lengths = struct.unpack_from(f"<{count}I", message, 4)
    at = 4 + 4 * count
    if at + sum(lengths) != len(message):
        raise ValueError("message length does not match its fields")
    fields = []
    for length in lengths:
        fields.append(message[at : at + length])
        at += length
    return fields
