"""rtnetlink by raw messages, many in one packet: links, addresses and routes of a pod in a blink.

A change is a `bytes` made by a function here (`set_up(3)`, `add_address(...)`); `Route.execute`
sends any number of them at once and reads the answers. All work in the network namespace in which
the `Route` was opened, whatever namespace the caller enters later.

Source: netlink(7), rtnetlink(7), linux/if_link.h.
"""

from __future__ import annotations

import _socket
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

__all__ = [
    "Address",
    "Link",
    "Route",
    "add_address",
    "add_bridge",
    "add_dummy",
    "add_route",
    "add_veth",
    "delete_link",
    "set_link",
    "set_up",
]

_NETLINK_ROUTE = 0
_SOL_NETLINK, _EXT_ACK, _CAP_ACK = 270, 11, 10
_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _GETADDR, _NEWROUTE = 16, 17, 18, 20, 22, 24
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_CREATE, _EXCL, _REPLACE = 0x400, 0x200, 0x100
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 1, 3, 4, 10
_IFLA_LINKINFO, _IFLA_NET_NS_FD = 18, 28
_KIND, _DATA, _VETH_PEER = 1, 2, 1
_IFF_UP = 1


class Link:
    """An interface."""

    __slots__ = ("flags", "index", "kind", "mac", "master", "mtu", "name")

    def __init__(self, body: bytes) -> None:
        _, _, self.index, self.flags, _ = struct.unpack_from("=BxHiII", body)
        attributes = _attributes(body[16:])
        self.name = attributes[_IFLA_IFNAME].rstrip(b"\0").decode()
        self.mtu = int.from_bytes(attributes.get(_IFLA_MTU, b""), "little")
        self.mac = attributes.get(_IFLA_ADDRESS, b"").hex(":")
        self.master = int.from_bytes(attributes.get(_IFLA_MASTER, b""), "little")
        """Index of the bridge or bond; 0 for none."""
        info = _attributes(attributes.get(_IFLA_LINKINFO, b""))
        self.kind = info.get(_KIND, b"").rstrip(b"\0").decode()
        """`veth`, `bridge`, ...; empty for hardware and loopback."""

    @property
    def up(self) -> bool:
        """Whether it is switched on."""
        return bool(self.flags & _IFF_UP)


class Address:
    """An address of an interface."""

    __slots__ = ("address", "index", "prefix", "scope")

    def __init__(self, body: bytes) -> None:
        family, self.prefix, _, self.scope, self.index = struct.unpack_from("=BBBBI", body)
        attributes = _attributes(body[8:])
        raw = attributes.get(2) or attributes[1]  # IFA_LOCAL, IFA_ADDRESS
        self.address = _socket.inet_ntop(family, raw)


def set_up(index: int, *, up: bool = True) -> bytes:
    """Switch an interface on or off."""
    return _message(_NEWLINK, 0, _ifinfo(index, _IFF_UP if up else 0, _IFF_UP))


def set_link(
    index: int,
    *,
    name: str | None = None,
    mtu: int | None = None,
    mac: str | None = None,
    master: int | None = None,
    netns_fd: int | None = None,
) -> bytes:
    """Rename an interface, change it, put it under a bridge (0 takes it out), or move it."""
    attributes = _common(name, mtu, mac)
    if master is not None:
        attributes += _attribute(_IFLA_MASTER, struct.pack("=I", master))
    if netns_fd is not None:
        attributes += _attribute(_IFLA_NET_NS_FD, struct.pack("=I", netns_fd))
    return _message(_NEWLINK, 0, _ifinfo(index) + attributes)


def add_veth(
    name: str,
    peer: str,
    *,
    mtu: int | None = None,
    peer_mac: str | None = None,
    peer_netns_fd: int | None = None,
    master: int | None = None,
) -> bytes:
    """Make a pair of interfaces, one end of it at once in another network namespace."""
    other = _ifinfo(0) + _common(peer, mtu, peer_mac)
    if peer_netns_fd is not None:
        other += _attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_netns_fd))
    attributes = _common(name, mtu, None)
    if master is not None:
        attributes += _attribute(_IFLA_MASTER, struct.pack("=I", master))
    return _new_link("veth", attributes, _attribute(_VETH_PEER, other))


def add_bridge(name: str, *, mtu: int | None = None) -> bytes:
    """Make a bridge."""
    return _new_link("bridge", _common(name, mtu, None))


def add_dummy(name: str) -> bytes:
    """Make an interface that leads nowhere."""
    return _new_link("dummy", _common(name, None, None))


def delete_link(index: int) -> bytes:
    """Delete an interface; of a veth pair both ends go."""
    return _message(_DELLINK, 0, _ifinfo(index))


def add_address(index: int, address: str, prefix: int) -> bytes:
    """Add an IPv4 or IPv6 address; IPv6 without duplicate detection, which takes a second."""
    family, raw = _parse(address)
    flags = 0x02 if family == _socket.AF_INET6 else 0  # IFA_F_NODAD
    body = struct.pack("=BBBBI", family, prefix, flags, 0, index)
    body += _attribute(2, raw) + _attribute(1, raw)
    return _message(_NEWADDR, _CREATE | _EXCL, body)


def add_route(
    index: int, destination: str | None = None, prefix: int = 0, *, gateway: str | None = None
) -> bytes:
    """Add a route through an interface; without a destination the default, by `gateway`."""
    family, via = _parse(gateway) if gateway else (0, b"")
    target = b""
    if destination is not None:
        family, target = _parse(destination)
    scope = 0 if gateway else 253  # universe, or the link itself
    body = struct.pack("=BBBBBBBBI", family, prefix, 0, 0, 254, 3, scope, 1, 0)
    if target:
        body += _attribute(1, target)
    body += _attribute(4, struct.pack("=I", index))
    if via:
        body += _attribute(5, via)
    return _message(_NEWROUTE, _CREATE | _EXCL, body)


class Route:
    """A rtnetlink socket of the network namespace we are in when it is opened."""

    def __init__(self) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        self._socket = _socket.socket(_socket.AF_NETLINK, kind, _NETLINK_ROUTE)
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(10)
            for option in (_EXT_ACK, _CAP_ACK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        except BaseException:
            self._socket.close()
            raise
        self._sequence = 0

    def execute(self, changes: Sequence[bytes]) -> None:
        """Carry changes out in order; all are tried, even after one has failed.

        Raises:
          OSError: Of the first that failed, with the kernel's own explanation where it gave one;
            its `filename` is the number of the change.
        """
        first = self._sequence + 1
        packet = b""
        for change in changes:
            self._sequence += 1
            packet += change[:8] + struct.pack("=I", self._sequence) + change[12:]
        if not packet:
            return
        self._socket.send(packet)
        waiting = len(changes)
        failed: OSError | None = None
        while waiting:
            for kind, sequence, body in self._receive():
                if kind != _ERROR or sequence < first:
                    continue
                waiting -= 1
                error = _error(body, sequence - first)
                failed = failed or error
        if failed is not None:
            raise failed

    def links(self) -> list[Link]:
        """Return every interface of the namespace."""
        return [Link(body) for body in self._dump(_GETLINK, _ifinfo(0))]

    def link(self, name: str) -> Link:
        """Return the interface `name`.

        Raises:
          OSError: ENODEV, there is none.
        """
        for found in self.links():
            if found.name == name:
                return found
        raise OSError(19, "no such interface", name)

    def addresses(self) -> list[Address]:
        """Return every address of the namespace."""
        return [Address(body) for body in self._dump(_GETADDR, bytes(8))]

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        self._sequence += 1
        wanted = self._sequence
        head = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _DUMP, wanted, 0)
        self._socket.send(head + body)
        found: list[bytes] = []
        while True:
            for answer, sequence, content in self._receive():
                if sequence != wanted:
                    continue
                if answer == _DONE:
                    return found
                if answer == _ERROR:
                    raise _error(content, 0) or OSError(5, "netlink: unexpected acknowledgement")
                found.append(content)

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        data = self._socket.recv(1 << 18)
        at = 0
        while at + 16 <= len(data):
            length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data, at)
            body = data[at + 16 : at + length]
            # An error without NLM_F_CAPPED repeats the whole request before its attributes.
            yield kind, sequence, struct.pack("=H", flags) + body if kind == _ERROR else body
            at += (length + 3) & ~3


def _error(body: bytes, number: int) -> OSError | None:
    flags, code = struct.unpack_from("=Hi", body)
    if code == 0:
        return None
    text = f"netlink: {os.strerror(-code)}"
    if flags & 0x200:  # NLM_F_ACK_TLVS
        said = _attributes(body[6 + 16 :]).get(1, b"").rstrip(b"\0").decode(errors="replace")
        text += f" ({said})" if said else ""
    return OSError(-code, text, f"change {number}")


def _message(kind: int, flags: int, body: bytes) -> bytes:
    padded = body + bytes(-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(padded), kind, flags | _REQUEST | _ACK, 0, 0) + padded


def _ifinfo(index: int, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, change)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _common(name: str | None, mtu: int | None, mac: str | None) -> bytes:
    attributes = b""
    if name is not None:
        attributes += _attribute(_IFLA_IFNAME, name.encode() + b"\0")
    if mtu is not None:
        attributes += _attribute(_IFLA_MTU, struct.pack("=I", mtu))
    if mac is not None:
        attributes += _attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
    return attributes


def _new_link(kind: str, attributes: bytes, data: bytes = b"") -> bytes:
    info = _attribute(_KIND, kind.encode())
    if data:
        info += _attribute(_DATA, data)
    body = _ifinfo(0) + attributes + _attribute(_IFLA_LINKINFO, info)
    return _message(_NEWLINK, _CREATE | _EXCL, body)


def _parse(address: str) -> tuple[int, bytes]:
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    return family, _socket.inet_pton(family, address)
