"""Traffic control by raw netlink: token buckets, and sending what comes in through another device.

Sizes are in bytes, rates in bytes a second. The changes are executed by a `netlink.Route`.

Source: tc-tbf(8), tc-u32(8), tc-mirred(8); linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h.
"""

from __future__ import annotations

import struct

from sampan.linux.nlsocket import (
    CREATE,
    EXCL,
    REPLACE,
    NetlinkSocket,
    attribute,
    attributes,
    message,
)

__all__ = ["Qdisc", "add_ingress", "add_redirect", "add_token_bucket", "qdiscs"]

_NEWQDISC, _GETQDISC, _NEWTFILTER = 36, 38, 44
_ROOT, _INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
_INGRESS_HANDLE, _ROOT_HANDLE = 0xFFFF0000, 0x10000
_KIND, _OPTIONS = 1, 2
_MAX_U32 = 0xFFFFFFFF
_ETH_P_ALL = 3
_NS_A_TICK = 64


class Qdisc:
    """How packets of an interface are queued."""

    __slots__ = ("handle", "index", "kind", "parent", "rate")

    def __init__(self, body: bytes) -> None:
        _, self.index, self.handle, self.parent, _ = struct.unpack_from("=BxxxiIII", body)
        found = attributes(body[20:])
        self.kind = found.get(_KIND, b"").rstrip(b"\0").decode()
        options = attributes(found.get(_OPTIONS, b"")) if self.kind == "tbf" else {}
        parameters = options.get(1, b"")
        self.rate = struct.unpack_from("=I", parameters, 8)[0] if len(parameters) >= 12 else 0
        """Of a token bucket, in bytes a second."""


def add_token_bucket(index: int, *, rate: int, burst: int, latency_ms: int = 25) -> bytes:
    """Let no more than `rate` leave an interface; what waits longer than the latency is dropped."""
    limit = min(rate * latency_ms // 1000 + burst, _MAX_U32)
    ticks = min(burst * 1_000_000_000 // max(rate, 1) // _NS_A_TICK, _MAX_U32)
    spec = struct.pack("=BBHhHI", 0, 1, 0, 0, 0, min(rate, _MAX_U32))
    parameters = spec + bytes(12) + struct.pack("=III", limit, ticks, 0)
    options = attribute(1, parameters)
    if rate > _MAX_U32:
        options += attribute(4, struct.pack("=Q", rate))
    options += attribute(6, struct.pack("=I", min(burst, _MAX_U32)))
    body = _tcmsg(index, _ROOT_HANDLE, _ROOT) + attribute(_KIND, b"tbf\0")
    return message(_NEWQDISC, CREATE | REPLACE, body + attribute(_OPTIONS, options))


def add_ingress(index: int) -> bytes:
    """Let filters see what comes in by an interface."""
    body = _tcmsg(index, _INGRESS_HANDLE, _INGRESS) + attribute(_KIND, b"ingress\0")
    return message(_NEWQDISC, CREATE | EXCL, body)


def add_redirect(index: int, other: int) -> bytes:
    """Send all that comes in by an interface out of another one; needs `add_ingress`."""
    # tc_mirred: index, capabilities, action (stolen), references, bindings, redirect, device.
    mirred = struct.pack("=IIiiiiI", 0, 0, 4, 0, 0, 1, other)
    action = attribute(1, b"mirred\0") + attribute(2, attribute(2, mirred))
    # tc_u32_sel with one key that every packet has: nothing at offset 0.
    selector = struct.pack("=BBBxHHhhI", 1, 0, 1, 0, 0, 0, 0, 0) + bytes(16)
    options = attribute(1, struct.pack("=I", 0x10001))
    options += attribute(5, selector) + attribute(7, attribute(1, action))
    info = 1 << 16 | struct.unpack("=H", struct.pack(">H", _ETH_P_ALL))[0]
    body = _tcmsg(index, 0, _INGRESS_HANDLE, info) + attribute(_KIND, b"u32\0")
    return message(_NEWTFILTER, CREATE | EXCL, body + attribute(_OPTIONS, options))


def qdiscs(route: NetlinkSocket, index: int) -> list[Qdisc]:
    """Return the queueing disciplines of an interface."""
    found = (Qdisc(body) for body in route.dump(_GETQDISC, _tcmsg(0, 0, 0)))
    return [one for one in found if one.index == index]


def _tcmsg(index: int, handle: int, parent: int, info: int = 0) -> bytes:
    return struct.pack("=BxxxiIII", 0, index, handle, parent, info)
