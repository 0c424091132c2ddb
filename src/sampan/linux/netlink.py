"""rtnetlink by raw messages, many in one packet: links, addresses and routes of a pod in a blink.

A change is a `bytes` made by a function here (`set_up(3)`, `add_address(...)`); `Route.execute`
sends any number of them at once and reads the answers. All work in the network namespace in which
the `Route` was opened, whatever namespace the caller enters later.

Source: netlink(7), rtnetlink(7), linux/if_link.h.
"""

from __future__ import annotations

import _socket
import struct

from sampan.linux.nlsocket import (
    CREATE,
    EXCL,
    NESTED,
    NetlinkSocket,
    attribute,
    attributes,
    message,
)

__all__ = [
    "Address",
    "Link",
    "Route",
    "RouteEntry",
    "add_address",
    "add_bridge",
    "add_dummy",
    "add_ifb",
    "add_port_vlan",
    "add_route",
    "add_veth",
    "delete_address",
    "delete_group",
    "delete_link",
    "set_all_multicast",
    "set_bridge_port",
    "set_group",
    "set_link",
    "set_promiscuous",
    "set_up",
]

_NETLINK_ROUTE = 0
_AF_BRIDGE = 7
_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _DELADDR, _GETADDR, _NEWROUTE, _DELROUTE, _GETROUTE = 20, 21, 22, 24, 25, 26
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_PROTINFO, _IFLA_TXQLEN, _IFLA_LINKINFO = 12, 13, 18
_IFLA_AF_SPEC, _IFLA_GROUP, _IFLA_NET_NS_FD = 26, 27, 28
_KIND, _DATA, _VETH_PEER = 1, 2, 1
_IFF_UP, _IFF_PROMISC, _IFF_ALLMULTI = 1, 0x100, 0x200
_BRPORT_MODE, _BRPORT_ISOLATED = 4, 33
_BR_VLAN_FILTERING, _BR_VLAN_DEFAULT_PVID = 7, 39
_BRIDGE_FLAGS, _BRIDGE_VLAN_INFO = 0, 2
_BRIDGE_FLAGS_SELF = 2
_VLAN_PVID, _VLAN_UNTAGGED, _VLAN_RANGE_BEGIN, _VLAN_RANGE_END = 2, 4, 8, 16
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_METRICS, _RTA_TABLE = 1, 4, 5, 6, 8, 15
_RTAX_MTU, _RTAX_ADVMSS = 2, 8


class Link:
    """An interface."""

    __slots__ = ("flags", "index", "kind", "mac", "master", "mtu", "name", "peer", "txqlen")

    def __init__(self, body: bytes) -> None:
        _, _, self.index, self.flags, _ = struct.unpack_from("=BxHiII", body)
        found = attributes(body[16:])
        self.name = found[_IFLA_IFNAME].rstrip(b"\0").decode()
        self.mtu = int.from_bytes(found.get(_IFLA_MTU, b""), "little")
        self.mac = found.get(_IFLA_ADDRESS, b"").hex(":")
        self.master = int.from_bytes(found.get(_IFLA_MASTER, b""), "little")
        """Index of the bridge or bond; 0 for none."""
        self.peer = int.from_bytes(found.get(_IFLA_LINK, b""), "little")
        """Index of the other end of a veth pair, in that end's namespace; 0 for none."""
        self.txqlen = int.from_bytes(found.get(_IFLA_TXQLEN, b""), "little")
        info = attributes(found.get(_IFLA_LINKINFO, b""))
        self.kind = info.get(_KIND, b"").rstrip(b"\0").decode()
        """`veth`, `bridge`, ...; empty for hardware and loopback."""

    @property
    def up(self) -> bool:
        """Whether it is switched on."""
        return bool(self.flags & _IFF_UP)

    @property
    def promiscuous(self) -> bool:
        """Whether it takes every frame."""
        return bool(self.flags & _IFF_PROMISC)

    @property
    def all_multicast(self) -> bool:
        """Whether it takes every multicast frame."""
        return bool(self.flags & _IFF_ALLMULTI)


class Address:
    """An address of an interface."""

    __slots__ = ("address", "index", "prefix", "scope")

    def __init__(self, body: bytes) -> None:
        family, self.prefix, _, self.scope, self.index = struct.unpack_from("=BBBBI", body)
        found = attributes(body[8:])
        raw = found.get(2) or found[1]  # IFA_LOCAL, IFA_ADDRESS
        self.address = _socket.inet_ntop(family, raw)


def set_up(index: int, *, up: bool = True) -> bytes:
    """Switch an interface on or off."""
    return message(_NEWLINK, 0, _ifinfo(index, _IFF_UP if up else 0, _IFF_UP))


def set_promiscuous(index: int, *, on: bool = True) -> bytes:
    """Let an interface take every frame, or no longer."""
    return message(_NEWLINK, 0, _ifinfo(index, _IFF_PROMISC if on else 0, _IFF_PROMISC))


def set_all_multicast(index: int, *, on: bool = True) -> bytes:
    """Let an interface take every multicast frame, or no longer."""
    return message(_NEWLINK, 0, _ifinfo(index, _IFF_ALLMULTI if on else 0, _IFF_ALLMULTI))


def set_link(
    index: int,
    *,
    name: str | None = None,
    mtu: int | None = None,
    mac: str | None = None,
    master: int | None = None,
    netns_fd: int | None = None,
    txqlen: int | None = None,
) -> bytes:
    """Rename an interface, change it, put it under a bridge (0 takes it out), or move it."""
    parts = _common(name, mtu, mac)
    if master is not None:
        parts += attribute(_IFLA_MASTER, struct.pack("=I", master))
    if netns_fd is not None:
        parts += attribute(_IFLA_NET_NS_FD, struct.pack("=I", netns_fd))
    if txqlen is not None:
        parts += attribute(_IFLA_TXQLEN, struct.pack("=I", txqlen))
    return message(_NEWLINK, 0, _ifinfo(index) + parts)


def add_veth(
    name: str,
    peer: str,
    *,
    mtu: int | None = None,
    peer_mac: str | None = None,
    peer_netns_fd: int | None = None,
    master: int | None = None,
    up: bool = False,
) -> bytes:
    """Make a pair of interfaces, one end of it at once in another network namespace.

    Args:
      name: Of our end.
      peer: Of the other end.
      mtu: Of both; bytes.
      peer_mac: Hardware address of the other end; default is a random one.
      peer_netns_fd: Borrowed; where the other end goes.
      master: Index of a bridge that our end joins.
      up: Switch our end on.
    """
    other = _ifinfo(0) + _common(peer, mtu, peer_mac)
    if peer_netns_fd is not None:
        other += attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_netns_fd))
    parts = _common(name, mtu, None)
    if master is not None:
        parts += attribute(_IFLA_MASTER, struct.pack("=I", master))
    return _new_link("veth", parts, attribute(_VETH_PEER, other), _IFF_UP if up else 0)


def add_bridge(name: str, *, mtu: int | None = None, vlan_filtering: bool = False) -> bytes:
    """Make a bridge; with `vlan_filtering` without a default VLAN of its own."""
    data = b""
    if vlan_filtering:
        data = attribute(_BR_VLAN_FILTERING, b"\1")
        data += attribute(_BR_VLAN_DEFAULT_PVID, struct.pack("=H", 0))
    return _new_link("bridge", _common(name, mtu, None), data)


def set_bridge_port(
    index: int, *, hairpin: bool | None = None, isolated: bool | None = None
) -> bytes:
    """Change a port of a bridge: send frames back where they came from; talk to no isolated one."""
    inner = b""
    if hairpin is not None:
        inner += attribute(_BRPORT_MODE, bytes([hairpin]))
    if isolated is not None:
        inner += attribute(_BRPORT_ISOLATED, bytes([isolated]))
    body = _ifinfo(index, family=_AF_BRIDGE) + attribute(_IFLA_PROTINFO | NESTED, inner)
    return message(_SETLINK, 0, body)


def add_port_vlan(
    index: int,
    first: int,
    last: int | None = None,
    *,
    untagged: bool = False,
    itself: bool = False,
) -> bytes:
    """Let a port of a bridge, or the bridge `itself`, carry one VLAN or a range of them.

    Untagged, the one VLAN is the port's own: what comes in without a tag belongs to it.
    """
    inner = attribute(_BRIDGE_FLAGS, struct.pack("=H", _BRIDGE_FLAGS_SELF)) if itself else b""
    own = _VLAN_PVID | _VLAN_UNTAGGED if untagged else 0
    if last is None or last == first:
        inner += attribute(_BRIDGE_VLAN_INFO, struct.pack("=HH", own, first))
    else:
        inner += attribute(_BRIDGE_VLAN_INFO, struct.pack("=HH", _VLAN_RANGE_BEGIN, first))
        inner += attribute(_BRIDGE_VLAN_INFO, struct.pack("=HH", _VLAN_RANGE_END, last))
    body = _ifinfo(index, family=_AF_BRIDGE) + attribute(_IFLA_AF_SPEC | NESTED, inner)
    return message(_SETLINK, 0, body)


def add_ifb(name: str, *, mtu: int | None = None) -> bytes:
    """Make an intermediate functional block, where incoming traffic is queued; switched on.

    It has no transmit queue of its own: what is put on it brings one.
    """
    parts = _common(name, mtu, None) + attribute(_IFLA_TXQLEN, struct.pack("=I", 0))
    return _new_link("ifb", parts, b"", _IFF_UP)


def add_dummy(name: str) -> bytes:
    """Make an interface that leads nowhere."""
    return _new_link("dummy", _common(name, None, None))


def delete_link(index: int) -> bytes:
    """Delete an interface; of a veth pair both ends go."""
    return message(_DELLINK, 0, _ifinfo(index))


def set_group(index: int, group: int) -> bytes:
    """Put an interface into a group."""
    return message(_NEWLINK, 0, _ifinfo(index) + attribute(_IFLA_GROUP, struct.pack("=I", group)))


def delete_group(group: int) -> bytes:
    """Delete all interfaces of a group, for which the kernel waits but once."""
    return message(_DELLINK, 0, _ifinfo(0) + attribute(_IFLA_GROUP, struct.pack("=I", group)))


def add_address(index: int, address: str, prefix: int) -> bytes:
    """Add an IPv4 or IPv6 address; IPv6 without duplicate detection, which takes a second.

    An IPv4 address gets the broadcast address of its subnet, as `ip addr add ... brd +` does.
    """
    family, raw = _parse(address)
    flags = 0x02 if family == _socket.AF_INET6 else 0  # IFA_F_NODAD
    body = struct.pack("=BBBBI", family, prefix, flags, 0, index)
    body += attribute(2, raw) + attribute(1, raw)
    if family == _socket.AF_INET and prefix < 31:
        hosts = (1 << (32 - prefix)) - 1
        body += attribute(4, (int.from_bytes(raw, "big") | hosts).to_bytes(4, "big"))
    return message(_NEWADDR, CREATE | EXCL, body)


def delete_address(index: int, address: str, prefix: int) -> bytes:
    """Remove an address."""
    family, raw = _parse(address)
    body = struct.pack("=BBBBI", family, prefix, 0, 0, index) + attribute(2, raw)
    return message(_DELADDR, 0, body)


def add_route(
    index: int,
    destination: str | None = None,
    prefix: int = 0,
    *,
    gateway: str | None = None,
    mtu: int = 0,
    advmss: int = 0,
    priority: int = 0,
    table: int | None = None,
    scope: int | None = None,
) -> bytes:
    """Add a route through an interface; without a destination the default, by `gateway`.

    Args:
      index: Of the interface.
      destination: Network address.
      prefix: Its length in bits.
      gateway: Next hop; without one the destination is on the link.
      mtu: In bytes; 0 leaves it to the interface.
      advmss: Advertised segment size in bytes; 0 leaves it to the kernel.
      priority: The metric; 0 leaves it to the kernel.
      table: By default `main`.
      scope: By default universe with a gateway, link without.
    """
    family, via = _parse(gateway) if gateway else (0, b"")
    target = b""
    if destination is not None:
        family, target = _parse(destination)
    if scope is None:
        scope = 0 if gateway else 253
    number = 254 if table is None else table
    # A table beyond 255 is told by an attribute; the header then says RT_TABLE_COMPAT.
    short = number if number < 256 else 252
    body = struct.pack("=BBBBBBBBI", family, prefix, 0, 0, short, 3, scope, 1, 0)
    if number != short:
        body += attribute(_RTA_TABLE, struct.pack("=I", number))
    if target and prefix:
        body += attribute(_RTA_DST, target)
    body += attribute(_RTA_OIF, struct.pack("=I", index))
    if via:
        body += attribute(_RTA_GATEWAY, via)
    if priority:
        body += attribute(_RTA_PRIORITY, struct.pack("=I", priority))
    metrics = attribute(_RTAX_MTU, struct.pack("=I", mtu)) if mtu else b""
    metrics += attribute(_RTAX_ADVMSS, struct.pack("=I", advmss)) if advmss else b""
    if metrics:
        body += attribute(_RTA_METRICS | NESTED, metrics)
    return message(_NEWROUTE, CREATE | EXCL, body)


class RouteEntry:
    """A route."""

    __slots__ = ("destination", "gateway", "index", "prefix", "priority", "protocol", "table")

    def __init__(self, body: bytes) -> None:
        family, self.prefix, _, _, table, self.protocol = struct.unpack_from("=BBBBBB", body)
        found = attributes(body[12:])
        empty = bytes(16 if family == _socket.AF_INET6 else 4)
        self.destination = _socket.inet_ntop(family, found.get(_RTA_DST, empty))
        via = found.get(_RTA_GATEWAY)
        self.gateway = _socket.inet_ntop(family, via) if via else ""
        self.index = int.from_bytes(found.get(_RTA_OIF, b""), "little")
        self.priority = int.from_bytes(found.get(_RTA_PRIORITY, b""), "little")
        self.table = int.from_bytes(found.get(_RTA_TABLE, bytes([table])), "little")


class Route(NetlinkSocket):
    """A rtnetlink socket of the network namespace we are in when it is opened."""

    def __init__(self) -> None:
        super().__init__(_NETLINK_ROUTE)

    def links(self) -> list[Link]:
        """Return every interface of the namespace."""
        return [Link(body) for body in self.dump(_GETLINK, _ifinfo(0))]

    def link(self, name: str) -> Link:
        """Return the interface `name`.

        Raises:
          OSError: ENODEV, there is none.
        """
        body = _ifinfo(0) + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        try:
            return Link(self.ask(_GETLINK, body))
        except OSError as error:
            if error.errno != 19:  # ENODEV
                raise
            raise OSError(19, "no such interface", name) from error

    def link_at(self, index: int) -> Link:
        """Return the interface of a number.

        Raises:
          OSError: ENODEV, there is none.
        """
        return Link(self.ask(_GETLINK, _ifinfo(index)))

    def addresses(self, index: int = 0) -> list[Address]:
        """Return every address of the namespace, or of one interface."""
        wanted = struct.pack("=BBBBI", 0, 0, 0, 0, index)
        found = (Address(body) for body in self.dump(_GETADDR, wanted))
        return [one for one in found if index in (0, one.index)]

    def routes(self, table: int = 254) -> list[RouteEntry]:
        """Return the routes of one table; 254 is `main`."""
        found = (RouteEntry(body) for body in self.dump(_GETROUTE, bytes(12)))
        return [one for one in found if one.table == table]

    def route_to(self, address: str) -> RouteEntry:
        """Return the route that a packet to an address would take.

        Raises:
          OSError: ENETUNREACH, there is none.
        """
        family, raw = _parse(address)
        body = struct.pack("=BBBBBBBBI", family, len(raw) * 8, 0, 0, 0, 0, 0, 0, 0)
        return RouteEntry(self.ask(_GETROUTE, body + attribute(_RTA_DST, raw)))


def _ifinfo(index: int, flags: int = 0, change: int = 0, *, family: int = 0) -> bytes:
    return struct.pack("=BxHiII", family, 0, index, flags, change)


def _common(name: str | None, mtu: int | None, mac: str | None) -> bytes:
    parts = b""
    if name is not None:
        parts += attribute(_IFLA_IFNAME, name.encode() + b"\0")
    if mtu is not None:
        parts += attribute(_IFLA_MTU, struct.pack("=I", mtu))
    if mac is not None:
        parts += attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
    return parts


def _new_link(kind: str, parts: bytes, data: bytes = b"", flags: int = 0) -> bytes:
    info = attribute(_KIND, kind.encode())
    if data:
        info += attribute(_DATA, data)
    body = _ifinfo(0, flags, flags) + parts + attribute(_IFLA_LINKINFO, info)
    return message(_NEWLINK, CREATE | EXCL, body)


def _parse(address: str) -> tuple[int, bytes]:
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    return family, _socket.inet_pton(family, address)
