"""The bridge itself and its ports."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.linux import netlink
from sampan.network.errors import INTERNAL, PluginError
from sampan.network.plugins import sysctl

if TYPE_CHECKING:
    from sampan.network.plugins.bridge import Options

__all__ = ["join_bridge", "make_bridge", "own_address"]


def make_bridge(host: netlink.Route, options: Options) -> netlink.Link:
    """Return the bridge, made and switched on if need be.

    Raises:
      PluginError: an interface of that name is something else.
    """
    filtering = bool(options.vlan or options.vlan_trunk)
    try:
        link = host.link(options.bridge)
    except OSError:
        link = _new_bridge(host, options, filtering)
    if link.kind != "bridge":
        raise PluginError(INTERNAL, f"{options.bridge} already exists but is not a bridge")
    changes = []
    if options.promiscuous and not link.promiscuous:
        changes.append(netlink.set_promiscuous(link.index))
    if not link.up:
        changes.append(netlink.set_up(link.index))
    host.execute(changes)
    return link


def _new_bridge(host: netlink.Route, options: Options, filtering: bool) -> netlink.Link:
    change = netlink.add_bridge(options.bridge, mtu=options.mtu or None, vlan_filtering=filtering)
    with suppress(FileExistsError):  # another set-up was quicker
        host.execute([change])
    link = host.link(options.bridge)
    # We own the routes of this interface.
    sysctl.write_if_there(f"net/ipv6/conf/{options.bridge}/accept_ra", "0")
    # Set, not only chosen: else the bridge takes the lowest address of its ports, and changes it.
    host.execute([netlink.set_link(link.index, mac=link.mac), netlink.set_up(link.index)])
    return host.link_at(link.index)


def own_address(
    host: netlink.Route, bridge: netlink.Link, gateway: str, prefix: int, *, force: bool
) -> None:
    """Give the bridge a gateway's address.

    Raises:
      PluginError: it has another one of an overlapping subnet, and `force` is off.
    """
    wanted = ipaddress.ip_interface(f"{gateway}/{prefix}")
    for one in host.addresses(bridge.index):
        present = ipaddress.ip_interface(f"{one.address}/{one.prefix}")
        if present == wanted:
            return
        if present.version != wanted.version or present.ip.is_link_local:
            continue
        if present.version == 6 and not present.network.overlaps(wanted.network):
            continue
        if not force:
            raise PluginError(
                INTERNAL,
                f"{bridge.name} already has an IP address different from {wanted}: {present}",
            )
        host.execute([netlink.delete_address(bridge.index, one.address, one.prefix)])
    with suppress(FileExistsError):  # another set-up was quicker
        host.execute([netlink.add_address(bridge.index, gateway, prefix)])


def join_bridge(host: netlink.Route, port: int, options: Options) -> None:
    """Set what a port of the bridge is to do."""
    changes = []
    if options.hairpin or options.isolated:
        changes.append(
            netlink.set_bridge_port(
                port, hairpin=options.hairpin or None, isolated=options.isolated or None
            )
        )
    if options.vlan:
        changes.append(netlink.add_port_vlan(port, options.vlan, untagged=True))
    changes += (netlink.add_port_vlan(port, first, last) for first, last in options.vlan_trunk)
    host.execute(changes)
