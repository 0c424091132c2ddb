"""Counters of the interfaces of a network namespace, by one netlink dump: nobody enters it."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from sampan.linux.netsocket import socket_in
from sampan.linux.nlsocket import attributes

__all__ = ["DEFAULT_INTERFACE", "Interface", "interfaces"]

DEFAULT_INTERFACE = "eth0"
"""What CNI calls a pod's interface when it is not told otherwise."""

_GETLINK, _NEWLINK, _ERROR, _DONE = 18, 16, 2, 3
_REQUEST_DUMP = 0x301
_NAME, _STATS64 = 3, 23
_TIMEOUT_S = 5.0
_LOOPBACK = 0x8


class Interface(NamedTuple):
    """What went through an interface since it was made."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


def interfaces(netns: str) -> list[Interface] | None:
    """Return all but loopback; None when the namespace is gone.

    Raises:
      OSError: the kernel refused.

    Source: rtnetlink(7), struct rtnl_link_stats64.
    """
    try:
        sock = socket_in(netns, socket.AF_NETLINK, socket.SOCK_RAW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with sock:
        sock.settimeout(_TIMEOUT_S)
        body = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
        sock.send(struct.pack("=IHHII", 16 + len(body), _GETLINK, _REQUEST_DUMP, 1, 0) + body)
        found: list[Interface] = []
        while True:
            data = sock.recv(256 << 10)
            at = 0
            while at + 16 <= len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    (code,) = struct.unpack_from("=i", data, at + 16)
                    raise OSError(-code, "netlink: RTM_GETLINK failed", netns)
                if kind == _NEWLINK and (one := _parse(data[at + 16 : at + length])) is not None:
                    found.append(one)
                at += (length + 3) & ~3


def _parse(body: bytes) -> Interface | None:
    (flags,) = struct.unpack_from("=I", body, 8)
    values = attributes(body[16:])
    if flags & _LOOPBACK or _STATS64 not in values:
        return None
    counted = struct.unpack_from("=8Q", values[_STATS64])
    rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_drop, tx_drop = counted
    name = values[_NAME].rstrip(b"\0").decode("utf-8", "replace")
    return Interface(
        name, rx_bytes, rx_packets, rx_errors, rx_drop, tx_bytes, tx_packets, tx_errors, tx_drop
    )
