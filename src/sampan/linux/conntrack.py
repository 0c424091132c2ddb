"""Connections that the kernel tracks: finding those of a port, and forgetting them.

A UDP flow keeps its old translation for as long as packets come, whatever the rules say by now.

Source: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import struct

from sampan.linux.nlsocket import NESTED, NetlinkSocket, attribute, attributes, message

__all__ = ["Conntrack"]

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 1
_GET, _DELETE = 1, 2
_TUPLE_ORIG, _ID, _FILTER = 1, 12, 25
_TUPLE_PROTO, _PROTO_NUM, _DST_PORT = 2, 1, 3
_BY_PROTO_AND_PORT = 1 << 3 | 1 << 5


class Conntrack(NetlinkSocket):
    """A socket to the connections of the network namespace we are in when it is opened."""

    def __init__(self) -> None:
        super().__init__(_NETLINK_NETFILTER)

    def forget(self, family: int, protocol: int, port: int) -> int:
        """Delete connections to a port, as their first packet named it; return how many.

        Args:
          family: AF_INET or AF_INET6.
          protocol: 17 for UDP.
          port: Destination.
        """
        proto = attribute(_PROTO_NUM, bytes([protocol]))
        proto += attribute(_DST_PORT, struct.pack(">H", port))
        body = struct.pack(">BBH", family, 0, 0)
        body += attribute(_TUPLE_ORIG | NESTED, attribute(_TUPLE_PROTO | NESTED, proto))
        # The kernel sorts out by this filter from 5.8 on; what an older one sends is sorted here.
        body += attribute(_FILTER | NESTED, attribute(1, struct.pack("=I", _BY_PROTO_AND_PORT)))
        stale = []
        for answer in self.dump(_SUBSYSTEM << 8 | _GET, body):
            found = attributes(answer[4:])
            original = found.get(_TUPLE_ORIG, b"")
            seen = attributes(attributes(original).get(_TUPLE_PROTO, b""))
            if seen.get(_PROTO_NUM) == bytes([protocol]) and seen.get(_DST_PORT) == struct.pack(
                ">H", port
            ):
                request = answer[:4] + attribute(_TUPLE_ORIG | NESTED, original)
                request += attribute(_ID, found[_ID]) if _ID in found else b""
                stale.append(message(_SUBSYSTEM << 8 | _DELETE, 0, request))
        # One that ended meanwhile is as good as deleted.
        return sum(error is None for error in self.attempt(stale))
