"""`linux.netDevices`: interfaces of the host that move into the container's network namespace.

The kernel keeps an interface's name, MTU and hardware address when it moves, and drops its
addresses: those of global scope are noted before and added again inside. When the namespace ends,
hardware comes back to the host by itself.

Source: runtime-spec config-linux.md#network-devices.
"""

from __future__ import annotations

import errno
import os

from sampan.errors import InvalidArgument
from sampan.linux import namespaces as ns
from sampan.linux import netlink
from sampan.oci import StartFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.linux import Linux

__all__ = ["NetDevices", "plan_net_devices"]

_MAX_NAME = 15
_UNIVERSE = 0
_OWN = "/proc/self/ns/net"


class NetDevices:
    """The devices of one container: names on the host to names inside."""

    __slots__ = ("_names", "_path")

    def __init__(self, names: dict[str, str], path: str) -> None:
        self._names = names
        self._path = path
        """Of the namespace if it is joined; else it is that of init."""

    def move(self, pid: int) -> None:
        """Move all into the network namespace of init; on failure those moved come back.

        We enter that namespace for a moment, so there must be one thread.

        Raises:
          StartFailed: a device is not there, or its new name is taken.
        """
        target = os.open(self._path or f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        moved: list[tuple[str, str]] = []
        try:
            for name, inner in self._names.items():
                try:
                    _move(name, inner, own, target)
                except OSError as err:
                    text = f"cannot move network device {name} to {inner}: {err.strerror}"
                    raise StartFailed(text) from err
                moved.append((name, inner))
        except BaseException:
            for name, inner in reversed(moved):
                _move_back(name, inner, own, target)
            raise
        finally:
            os.close(target)
            os.close(own)


def plan_net_devices(linux: Linux) -> NetDevices:
    """Check `linux.netDevices`.

    Raises:
      InvalidArgument: there is no network namespace to move them to, or a name cannot be one.
    """
    namespace = next((n for n in linux.namespaces if n.type == "network"), None)
    if namespace is None:
        raise InvalidArgument("unable to move network devices without a network namespace")
    names = {name: device.name or name for name, device in (linux.net_devices or {}).items()}
    for name in (*names, *names.values()):
        _check_name(name)
    if len(set(names.values())) < len(names):
        raise InvalidArgument("linux.netDevices: two devices get the same name")
    return NetDevices(names, namespace.path)


def _check_name(name: str) -> None:
    if (
        not 0 < len(name.encode()) <= _MAX_NAME
        or name in (".", "..")
        or any(letter in "/:" or letter.isspace() or ord(letter) < 32 for letter in name)
    ):
        raise InvalidArgument(f"linux.netDevices: {name!r} is no name for a network device")


def _move(name: str, inner: str, own: int, target: int) -> None:
    with netlink.Route() as route:
        link = route.link(name)
        addresses = [a for a in route.addresses(link.index) if a.scope == _UNIVERSE]
        if link.up:
            route.execute([netlink.set_up(link.index, up=False)])
        try:
            route.execute([netlink.set_link(link.index, netns_fd=target, name=inner)])
        except OSError:
            if link.up:
                route.execute([netlink.set_up(link.index)])
            raise
    ns.setns(target, ns.CLONE_NEWNET)
    try:
        with netlink.Route() as route:
            index = route.link(inner).index
            for each in addresses:
                try:
                    route.execute([netlink.add_address(index, each.address, each.prefix)])
                except FileExistsError:
                    continue
            route.execute([netlink.set_up(index)])
    finally:
        ns.setns(own, ns.CLONE_NEWNET)


def _move_back(name: str, inner: str, own: int, target: int) -> None:
    ns.setns(target, ns.CLONE_NEWNET)
    try:
        with netlink.Route() as route:
            index = route.link(inner).index
            route.execute([netlink.set_up(index, up=False)])
            route.execute([netlink.set_link(index, netns_fd=own, name=name)])
    except OSError as err:
        if err.errno != errno.ENODEV:
            raise
    finally:
        ns.setns(own, ns.CLONE_NEWNET)
